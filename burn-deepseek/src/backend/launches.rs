//! How many kernels this process asks its CubeCL devices for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "cube")]
use cubecl::logging::{LaunchObservation, LaunchObserver};

/// Counts the kernels that all threads launch on CubeCL's devices for as long as it lives. Other
/// devices launch none. Of two at once the later one counts.
#[derive(Debug)]
#[must_use = "it counts for as long as it lives"]
pub struct LaunchCount {
    counter: Arc<Counter>,
    #[cfg(feature = "cube")]
    _observation: LaunchObservation,
}

impl LaunchCount {
    /// Begins to count.
    #[allow(clippy::new_without_default)] // beginning to count is no default
    pub fn new() -> Self {
        let counter = Arc::new(Counter::default());
        Self {
            #[cfg(feature = "cube")]
            _observation: LaunchObservation::new(counter.clone()),
            counter,
        }
    }

    /// Kernels launched so far.
    pub fn launches(&self) -> u64 {
        self.counter.launches.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Counter {
    launches: AtomicU64,
}

#[cfg(feature = "cube")]
impl LaunchObserver for Counter {
    fn launched(&self, _kernel: &'static str) {
        self.launches.fetch_add(1, Ordering::Relaxed);
    }
}
