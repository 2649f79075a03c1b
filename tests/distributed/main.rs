//! Runs over several ranks: their schedules, where experts are, and what they compute.

// These are tests; a function that they share is not a test, which is all that clippy sees.
#![allow(clippy::unwrap_used)]

mod experts;
mod layouts;
mod placed;
mod schedules;
