//! `attacks`: what strangers, crashes and rotten disks do to the program, again and again and with
//! seeds that repeat it.
//!
//! The program is linked into this binary (`attacks program train ...` is `deepseek train ...`), so
//! that an attack always meets the one that it was built with.

// A program of tests: an answer that is not what it must be ends it.
#![allow(clippy::unwrap_used)]

mod allocator;
mod batch;
mod flips;
mod frames;
mod kills;
mod kind;
mod mutation;
mod options;
mod program;

use std::process::ExitCode;

use clap::Parser;

use options::{Attack, Options};

/// The program's own allocator, counted, so that an input that takes too much is one finding.
#[global_allocator]
static ALLOCATOR: allocator::Counted = allocator::Counted;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.by_ref().nth(1).is_some_and(|first| first == program::AS_PROGRAM) {
        return program::be(arguments);
    }
    let found = match Options::parse().attack {
        Attack::Mutations(campaign) => batch::run(&campaign),
        Attack::Kills(options) => kills::run(&options),
        Attack::Flips(options) => flips::run(&options),
        Attack::Frames(options) => frames::run(&options),
        Attack::Child(errand) => batch::child::run(&errand),
    };
    match found {
        Ok(0) => ExitCode::SUCCESS,
        Ok(count) => {
            println!("{count} findings");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("attacks: {error:#}");
            ExitCode::from(2)
        }
    }
}
