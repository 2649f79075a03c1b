//! Places at which a test kills the program: before, in and after each change of a run's files.
//!
//! With `DEEPSEEK_TEST_KILL_AT=N` in its environment the program aborts at the N-th of these places
//! that it comes to, without a word and without cleaning up, as if it were killed there. Tests walk
//! through all of them (`train/tests/cli/kill_points.rs`), and so can scripts: a run with N larger
//! than the number of places comes to its end. There is no other use for it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const VARIABLE: &str = "DEEPSEEK_TEST_KILL_AT";

/// Aborts the program if it is to be killed here.
pub fn here() {
    if reached() {
        std::process::abort();
    }
}

/// Whether the program is to be killed at this place; whoever asks leaves something half done and
/// aborts.
pub fn reached() -> bool {
    static PLACE: OnceLock<Option<u64>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let place = PLACE.get_or_init(|| std::env::var(VARIABLE).ok()?.parse().ok());
    place.is_some_and(|place| PASSED.fetch_add(1, Ordering::Relaxed) + 1 == place)
}
