//! Which ranks each process of a run has.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many consecutive ranks are in each process: one, until the run's configuration is known.
/// Clones are told of it too.
#[derive(Clone, Debug)]
pub(super) struct Hosting(Arc<AtomicUsize>);

impl Default for Hosting {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(1)))
    }
}

impl Hosting {
    /// From now on each process has so many, at least one.
    pub fn set(&self, ranks_a_process: usize) {
        self.0.store(ranks_a_process.max(1), Ordering::Relaxed);
    }

    /// How many a process has.
    pub fn ranks_a_process(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// The process of a rank.
    pub fn process_of(&self, rank: usize) -> usize {
        rank / self.ranks_a_process()
    }

    /// The ranks of a process.
    pub fn ranks_of(&self, process: usize) -> Range<usize> {
        let count = self.ranks_a_process();
        process * count..(process + 1) * count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_a_process_are_consecutive() {
        let hosting = Hosting::default();
        let clone = hosting.clone();
        assert_eq!((clone.process_of(3), clone.ranks_of(3)), (3, 3..4));
        hosting.set(4);
        assert_eq!([0, 3, 4, 11].map(|rank| clone.process_of(rank)), [0, 0, 1, 2]);
        assert_eq!((clone.ranks_of(0), clone.ranks_of(2)), (0..4, 8..12));
        for process in 0..5 {
            assert!(clone.ranks_of(process).all(|rank| clone.process_of(rank) == process));
        }
    }
}
