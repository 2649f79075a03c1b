//! The binary as its users see it: exit codes, the last line of standard output, files, and one
//! clear line for each mistake.
//!
//! These tests stand in this package because cargo tells the path of a binary only to the tests of
//! its own package.

#![allow(clippy::unwrap_used)] // these are tests; a helper of theirs is not in a test function, which is all that clippy sees

mod bad_input;
mod checkpoints;
mod commands;
mod compare_precision;
mod disk;
mod documents;
mod exchange;
mod experts;
mod layouts;
mod resume;
mod workers;
mod workplace;
