//! Loops that threads of the pool take tasks of while they stay awake.
//!
//! A training step is some hundreds of operations, each over in a fraction of a millisecond. Left to
//! rayon, the threads that have no part in what lies between two of them go to sleep, and waking
//! one takes as long as a small operation. So a thread that works for [`in_pool`] calls the others
//! of its pool: they look for tasks of its loops, and of rayon's own, without sleeping, until
//! nothing has come for [`PATIENCE`]. Loops are shared by all pools of the process.
//!
//! [`in_pool`]: super::parallel::in_pool

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::Yield;

/// How long a thread without tasks stays awake: longer than what one thread does alone between two
/// operations, since to wake it takes as long as many a loop.
const PATIENCE: Duration = Duration::from_millis(1);
/// How long it does without giving way to other threads.
const IMPATIENCE: Duration = Duration::from_micros(100);
/// Turns of a waiting thread between two looks at whether to wait on.
const TURNS: u32 = 64;

thread_local! {
    /// Calls of [`hosting`] on this thread's stack.
    static HOSTS: Cell<usize> = const { Cell::new(0) };
    /// Whether [`help`] is on this thread's stack.
    static HELPS: Cell<bool> = const { Cell::new(false) };
}

/// Loops with tasks that nobody has taken yet.
static OPEN: Mutex<Vec<Arc<Loop>>> = Mutex::new(Vec::new());
/// How many those are, to look at without the lock; set under it.
static OPEN_COUNT: AtomicUsize = AtomicUsize::new(0);
/// When a loop was last opened, in nanoseconds since [`START`].
static LAST_OPENED: AtomicU64 = AtomicU64::new(0);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Threads that are in [`help`], and not in somebody's work that it has taken up.
static HELPERS: AtomicUsize = AtomicUsize::new(0);
/// Whether the threads were called and none of them has heard it yet.
static CALLED: AtomicBool = AtomicBool::new(false);

/// Runs `work`, whose loops other threads of the pool take part in.
pub(super) fn hosting<R>(work: impl FnOnce() -> R) -> R {
    /// Restores the counts, also when `work` panics.
    struct Host {
        helped: bool,
    }
    impl Drop for Host {
        fn drop(&mut self) {
            HOSTS.set(HOSTS.get() - 1);
            HELPS.set(self.helped);
            HELPERS.fetch_add(usize::from(self.helped), Relaxed);
        }
    }
    HOSTS.set(HOSTS.get() + 1);
    let helped = HELPS.replace(false);
    HELPERS.fetch_sub(usize::from(helped), Relaxed);
    let _host = Host { helped };
    work()
}

/// Whether loops of this thread are shared by [`run`].
pub(super) fn is_engaged() -> bool {
    HOSTS.get() > 0 || HELPS.get()
}

/// Runs `task(0)` .. `task(count - 1)` on this thread and on those that have time; on a thread that
/// [`is_engaged`].
///
/// # Panics
/// If a task does, once all others are done.
pub(super) fn run(count: usize, task: &(impl Fn(usize) + Sync)) {
    let threads = rayon::current_num_threads();
    if threads <= 1 || count <= 1 {
        return (0..count).for_each(task);
    }
    let shared = Arc::new(Loop::new(count, threads, task));
    LAST_OPENED.store(now(), Relaxed);
    change_open(|open| open.push(shared.clone()));
    if HELPERS.load(Relaxed) == 0 && !CALLED.swap(true, Relaxed) {
        rayon::spawn_broadcast(|_| help());
    }
    shared.take_part();
    shared.wait();
}

/// Nanoseconds since [`START`].
fn now() -> u64 {
    START.elapsed().as_nanos() as u64
}

/// Takes tasks until there have been none for [`PATIENCE`].
fn help() {
    CALLED.store(false, Relaxed);
    // What is below on this thread's stack waits for what it does.
    if is_engaged() {
        return;
    }
    HELPS.set(true);
    HELPERS.fetch_add(1, Relaxed);
    let mut turns = 0;
    let mut last = now();
    loop {
        if OPEN_COUNT.load(Acquire) > 0
            && let Some(shared) = first_open()
        {
            shared.take_part();
        } else if rayon::yield_now() == Some(Yield::Executed) {
            last = now();
        } else if turns < TURNS {
            turns += 1;
            std::hint::spin_loop();
            continue;
        } else {
            let waited = now().saturating_sub(last.max(LAST_OPENED.load(Relaxed)));
            if waited > PATIENCE.as_nanos() as u64 {
                break;
            } else if waited > IMPATIENCE.as_nanos() as u64 {
                std::thread::yield_now();
            }
        }
        turns = 0;
    }
    HELPERS.fetch_sub(1, Relaxed);
    HELPS.set(false);
}

/// Opens or closes a loop.
fn change_open(change: impl FnOnce(&mut Vec<Arc<Loop>>)) {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut open);
    OPEN_COUNT.store(open.len(), Release);
}

fn first_open() -> Option<Arc<Loop>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
}

/// One call of [`run`].
struct Loop {
    /// The task, good until all tasks are done.
    task: *const (),
    /// Calls it.
    call: unsafe fn(*const (), usize),
    /// The tasks in as many runs as there are threads, so that a thread gets about the same rows
    /// of one operation after another and finds them in its cache.
    runs: Vec<Run>,
    /// Tasks that nobody has taken.
    untaken: AtomicUsize,
    /// Tasks that are not done.
    undone: AtomicUsize,
    /// What the first task that panicked said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Tasks from `next` to `end`.
struct Run {
    next: AtomicUsize,
    end: usize,
}

// SAFETY: `task` points to something `Sync`, and is used as `Loop::take_part` says.
unsafe impl Send for Loop {}
// SAFETY: as for `Send`.
unsafe impl Sync for Loop {}

impl Loop {
    fn new<T: Fn(usize) + Sync>(count: usize, threads: usize, task: &T) -> Self {
        /// # Safety
        /// `task` is a `&T` that is alive.
        unsafe fn call<T: Fn(usize)>(task: *const (), index: usize) {
            // SAFETY: the caller vouches for it.
            unsafe { (*task.cast::<T>())(index) }
        }
        let parts = threads.min(count);
        let runs = (0..parts).map(|part| Run {
            next: AtomicUsize::new(part * count / parts),
            end: (part + 1) * count / parts,
        });
        Self {
            task: std::ptr::from_ref(task).cast(),
            call: call::<T>,
            runs: runs.collect(),
            untaken: AtomicUsize::new(count),
            undone: AtomicUsize::new(count),
            panic: Mutex::new(None),
        }
    }

    /// Does tasks until all are taken, this thread's own run first.
    fn take_part(&self) {
        let own = rayon::current_thread_index().unwrap_or(0);
        for part in 0..self.runs.len() {
            let run = &self.runs[(own + part) % self.runs.len()];
            while run.next.load(Relaxed) < run.end {
                let index = run.next.fetch_add(1, Relaxed);
                if index >= run.end {
                    break;
                }
                if self.untaken.fetch_sub(1, AcqRel) == 1 {
                    self.close();
                }
                // SAFETY: `run` returns, and with it the task ends, only after all tasks are done;
                // this one is not.
                let task = AssertUnwindSafe(|| unsafe { (self.call)(self.task, index) });
                if let Err(panic) = catch_unwind(task) {
                    self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                }
                self.undone.fetch_sub(1, Release);
            }
        }
    }

    /// Nobody needs to look at it any more.
    fn close(&self) {
        change_open(|open| open.retain(|other| !std::ptr::eq(&**other, self)));
    }

    /// Waits for the tasks that others have taken.
    fn wait(&self) {
        let mut turns = 0;
        while self.undone.load(Acquire) > 0 {
            if turns < TURNS * TURNS {
                turns += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now(); // whoever has the task may be waiting for this core
            }
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::in_pool;

    /// Calls every task once, whatever the threads.
    fn check(count: usize) {
        let calls: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        run(count, &|index: usize| {
            calls[index].fetch_add(1, Relaxed);
        });
        assert!(calls.iter().all(|calls| calls.load(Relaxed) == 1), "{count} tasks");
    }

    #[test]
    fn every_task_is_done_once() {
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                in_pool(|| {
                    for round in 0..300 {
                        [0, 1, 2, 3, 7, 64].into_iter().for_each(check);
                        if round % 50 == 0 {
                            std::thread::sleep(2 * PATIENCE); // helpers leave, and are called again
                        }
                    }
                });
            });
        }
    }

    #[test]
    fn loops_inside_tasks_and_hosts_inside_helpers() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pool.install(|| {
                        in_pool(|| {
                            for _ in 0..100 {
                                run(5, &|_| {
                                    run(7, &|_| {
                                        total.fetch_add(1, Relaxed);
                                    });
                                });
                                let (a, b) = rayon::join(|| 1, || 2);
                                total.fetch_add(a + b, Relaxed);
                            }
                        });
                    });
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 100 * (5 * 7 + 3));
    }

    #[test]
    fn a_panic_comes_out_where_the_loop_is_and_ends_nothing_else() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let done = AtomicUsize::new(0);
        let result = pool.install(|| {
            catch_unwind(AssertUnwindSafe(|| {
                in_pool(|| {
                    run(50, &|index| {
                        assert!(index != 20, "task 20");
                        done.fetch_add(1, Relaxed);
                    })
                })
            }))
        });
        let panic = result.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"task 20"));
        assert_eq!(done.into_inner(), 49);
        pool.install(|| in_pool(|| check(30)));
        assert!(!is_engaged());
    }
}
