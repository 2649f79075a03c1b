//! The dashboard's pages in a real browser: Chromium without a window, driven as a user would.
//!
//! Every test starts real trainings and `deepseek dashboard` on a free port, and ends by asking the
//! browser's console, which must hold no error: no exception, no file that is missing, nothing that
//! the content security policy had to refuse. Pictures of all pages are written to
//! `CARGO_TARGET_TMPDIR/browser`.

// These are tests; a function that they share is not a test, which is all that clippy sees.
#![allow(clippy::unwrap_used)]

#[path = "../cli/bounded.rs"]
#[allow(dead_code, reason = "the tests of the command line use all of it")]
mod bounded;
mod browser;
mod compare;
mod live;
mod looks;
mod microscope;
mod served;
#[path = "../cli/workplace.rs"]
#[allow(dead_code, reason = "the tests of the command line use all of it")]
mod workplace;
