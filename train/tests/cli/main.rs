//! The binary as its users see it: exit codes, the last line of standard output, files, and one
//! clear line for each mistake.
//!
//! These tests stand in this package because cargo tells the path of a binary only to the tests of
//! its own package.

// These are tests; a function that they share is not a test, which is all that clippy sees.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod bench;
mod best;
mod bounded;
mod bounds;
mod check_checkpoint;
mod checkpoints;
mod command_line;
mod commands;
mod compare_precision;
mod configurations;
mod dashboard;
mod data;
mod disk;
mod documents;
mod exchange;
mod exit_codes;
mod experts;
mod export;
mod generate;
mod inspect;
mod kill_points;
mod layouts;
mod lock;
mod measured;
mod microscope;
mod printed;
mod processes;
mod products;
mod prompts;
mod record;
mod report;
mod resume;
mod routings;
mod runs;
mod said;
#[cfg(unix)]
mod signals;
mod strangers;
mod tensorboard;
#[cfg(unix)]
mod terminal;
mod webhook;
mod worker_kills;
mod workers;
mod workplace;
