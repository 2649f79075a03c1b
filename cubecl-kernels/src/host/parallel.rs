//! When to use the thread pool, and how to cut work so that results do not depend on it.

use rayon::prelude::*;

/// Scalar operations under which waking another thread costs more than it saves (about 20 us of one
/// core).
pub(crate) const PARALLEL_WORK: usize = 1 << 19;

/// Whether a product may use the pool itself; inside a task it must not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// This thread only.
    One,
    /// The pool.
    Pool,
}

/// Runs `work` on a thread of the pool that host operations are cut up among, and waits for it.
///
/// From any other thread each operation is handed over to the pool and waited for, two changes of
/// threads each; from within, its thread goes on with a part of the operation itself. `work` must
/// not wait for another thread that uses the pool.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// Runs `task(0)` .. `task(count - 1)`, on the pool where `work` scalar operations in all are worth
/// it.
///
/// The cut into tasks is the caller's and must depend on shapes alone.
pub(crate) fn for_each(count: usize, work: usize, task: impl Fn(usize) + Send + Sync) {
    if count <= 1 || work < PARALLEL_WORK {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().for_each(task);
    }
}

/// Collects `task(0)` .. `task(count - 1)` in order, computed as [`for_each`] does.
pub(crate) fn map<T: Send>(
    count: usize,
    work: usize,
    task: impl Fn(usize) -> T + Send + Sync,
) -> Vec<T> {
    if count <= 1 || work < PARALLEL_WORK {
        (0..count).map(task).collect()
    } else {
        (0..count).into_par_iter().map(task).collect()
    }
}

/// Runs `task` on each item: parts that were cut by shape alone and that no two items share.
pub(crate) fn for_each_of<T: Send>(items: Vec<T>, work: usize, task: impl Fn(T) + Send + Sync) {
    if items.len() <= 1 || work < PARALLEL_WORK {
        items.into_iter().for_each(task)
    } else {
        items.into_par_iter().for_each(task)
    }
}

/// The `index`-th run of at most `size` of `len` items.
pub(crate) fn chunk(index: usize, size: usize, len: usize) -> std::ops::Range<usize> {
    index * size..len.min((index + 1) * size)
}

/// Rows of `width` values for a task of about `values`, one at least.
pub(crate) fn rows_a_task(values: usize, width: usize) -> usize {
    (values / width.max(1)).max(1)
}
