//! Runs over several ranks: their schedules, where experts are, and what they compute.

#![allow(clippy::unwrap_used)] // these are tests; a function that they share is not a test, which is all that clippy sees

mod experts;
mod placed;
mod schedules;
