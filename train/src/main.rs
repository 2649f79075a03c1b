//! `deepseek`: parse -> resolve -> run -> exit code.

use std::process::ExitCode;

use clap::Parser;
use deepseek_train::cli::Cli;
use deepseek_train::{commands, exit};

// Flex allocates a buffer an operation; with the system's allocator the same program takes up to three times as long.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.command.wants_json();
    exit::report(commands::run(cli.command), json)
}
