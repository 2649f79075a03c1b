//! When to use the thread pool, and how to cut work so that results do not depend on it.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::team;

/// Scalar operations under which waking another thread costs more than it saves (about 20 us of one
/// core).
const PARALLEL_WORK: usize = 1 << 19;
/// The same where the other threads are awake.
const SHARED_WORK: usize = PARALLEL_WORK / 16;

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
/// threads each; from within, its thread goes on with a part of the operation itself, and the
/// pool's other threads stay awake from one operation to the next. `work` must not wait for another
/// thread that uses the pool.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| team::hosting(work))
}

/// Who does the tasks of an operation.
enum Hands {
    /// This thread alone.
    One,
    /// This thread, and others that are awake.
    Team,
    /// The pool.
    Pool,
}

/// Those that are worth it for `count` tasks of `work` scalar operations in all.
fn hands(count: usize, work: usize) -> Hands {
    if count <= 1 || work < SHARED_WORK {
        Hands::One
    } else if team::is_engaged() {
        Hands::Team
    } else if work < PARALLEL_WORK {
        Hands::One
    } else {
        Hands::Pool
    }
}

/// Runs `task(0)` .. `task(count - 1)`, on the pool where `work` scalar operations in all are worth
/// it.
///
/// The cut into tasks is the caller's and must depend on shapes alone.
pub(crate) fn for_each(count: usize, work: usize, task: impl Fn(usize) + Send + Sync) {
    match hands(count, work) {
        Hands::One => (0..count).for_each(task),
        Hands::Team => team::run(count, &task),
        Hands::Pool => (0..count).into_par_iter().for_each(task),
    }
}

/// Collects `task(0)` .. `task(count - 1)` in order, computed as [`for_each`] does.
pub(crate) fn map<T: Send>(
    count: usize,
    work: usize,
    task: impl Fn(usize) -> T + Send + Sync,
) -> Vec<T> {
    match hands(count, work) {
        Hands::One => (0..count).map(task).collect(),
        Hands::Team => {
            let results: Vec<_> = (0..count).map(|_| Mutex::new(None)).collect();
            team::run(count, &|index: usize| *slot(&results[index]) = Some(task(index)));
            let results = results.into_iter().map(|result| {
                let result = result.into_inner().unwrap_or_else(PoisonError::into_inner);
                result.expect("invariant: every task was done")
            });
            results.collect()
        }
        Hands::Pool => (0..count).into_par_iter().map(task).collect(),
    }
}

/// Runs `task` on each item: parts that were cut by shape alone and that no two items share.
pub(crate) fn for_each_of<T: Send>(items: Vec<T>, work: usize, task: impl Fn(T) + Send + Sync) {
    match hands(items.len(), work) {
        Hands::One => items.into_iter().for_each(task),
        Hands::Team => {
            let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
            team::run(items.len(), &|index: usize| {
                task(slot(&items[index]).take().expect("invariant: an index comes once"));
            });
        }
        Hands::Pool => items.into_par_iter().for_each(task),
    }
}

/// What is in a place that one task alone uses.
fn slot<T>(place: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The `index`-th run of at most `size` of `len` items.
pub(crate) fn chunk(index: usize, size: usize, len: usize) -> std::ops::Range<usize> {
    index * size..len.min((index + 1) * size)
}

/// Rows of `width` values for a task of about `values`, one at least.
pub(crate) fn rows_a_task(values: usize, width: usize) -> usize {
    (values / width.max(1)).max(1)
}
