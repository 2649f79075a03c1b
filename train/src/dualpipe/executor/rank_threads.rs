//! A thread for each rank, which owns it or stands for it: a task is sent there and comes back as
//! its result.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::holder::Holder;
use super::rank::THREAD;
use super::task::Task;
use crate::device::WorkerDevice;
use crate::failure::{Context, Failure, Result};
use crate::parallel::{Post, PostError};

/// What a rank is asked to do.
type Work = Box<dyn FnOnce(&mut Holder) + Send>;

/// How long the others are waited for once a rank has failed.
const GRACE: Duration = Duration::from_secs(3);

/// How long a worker, or another process, may take to say that it is there, once a rank has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// The threads of a run's ranks.
#[derive(Debug)]
pub(super) struct RankThreads {
    threads: Vec<RankThread>,
    post: Arc<Post>,
}

/// The thread of one rank.
#[derive(Debug)]
struct RankThread {
    /// What to call the rank in an error: its number and its device.
    name: String,
    /// The worker that lends the rank's device, where one does.
    lender: Option<WorkerDevice>,
    work: Option<Sender<Work>>,
    handle: Option<JoinHandle<()>>,
}

impl RankThreads {
    /// Starts a thread for each rank, given with the name of its device.
    pub fn start(ranks: Vec<(String, Holder)>, post: Arc<Post>) -> Result<Self> {
        let told_once = ranks.iter().any(|(_, holder)| matches!(holder, Holder::Away(_)));
        let start = |(number, (device, mut rank)): (usize, (String, Holder))| {
            let name = format!("{THREAD}{number} on {device}");
            let lender = device.parse().ok();
            let (work, queue) = channel::<Work>();
            let run = move || {
                while let Ok(work) = queue.recv() {
                    work(&mut rank);
                }
            };
            let handle = std::thread::Builder::new()
                .name(name.clone())
                .spawn(run)
                .context("a rank's thread cannot be started")?;
            Ok(RankThread { name, lender, work: Some(work), handle: Some(handle) })
        };
        let threads = ranks.into_iter().enumerate().map(start).collect::<Result<Vec<_>>>()?;
        if told_once || threads.iter().any(|thread| thread.lender.is_some()) {
            panics_of_ranks_are_told_once();
        }
        Ok(Self { threads, post })
    }

    /// Does the same on every rank, at the same time; the results in the order of the ranks.
    ///
    /// # Errors
    ///
    /// The failure that came first, which names its rank: an error, a panic, or no sign of life in
    /// `parallel.timeout_s`. Whoever waits for that rank is let go; a rank that hangs in its device
    /// is left behind.
    pub fn each<T: Task>(&self, task: T) -> Result<Vec<T::Done>> {
        let task = Arc::new(task);
        let (send, results) = channel();
        for (rank, thread) in self.threads.iter().enumerate() {
            let (send, post, task) = (send.clone(), self.post.clone(), task.clone());
            let task: Work = Box::new(move |holder| {
                let outcome = catch_unwind(AssertUnwindSafe(|| holder.carry_out(&*task)))
                    .unwrap_or_else(|panic| Err(error_of(panic)));
                if outcome.is_err() {
                    post.fail(rank);
                }
                let _ = send.send((rank, outcome)); // whoever asked may have given up waiting
            });
            if thread.work.as_ref().is_none_or(|queue| queue.send(task).is_err()) {
                return Err(Failure::new(format!("{}: its thread has stopped", thread.name)));
            }
        }
        drop(send);
        let (done, failures) = self.awaited(&results);
        match self.worst(failures) {
            Some(error) => Err(self.with_silent_processes(self.with_lost_workers(error))),
            None => Ok(done
                .into_iter()
                .map(|result| result.expect("invariant: all have answered"))
                .collect()),
        }
    }

    /// What every rank comes to, and the failures in the order in which they came; after the first
    /// of them the others are not waited for long.
    fn awaited<T>(
        &self,
        results: &Receiver<(usize, Result<T>)>,
    ) -> (Vec<Option<T>>, Vec<(usize, Failure)>) {
        let mut done: Vec<Option<T>> = self.threads.iter().map(|_| None).collect();
        let mut failures: Vec<(usize, Failure)> = Vec::new();
        let mut left = self.threads.len();
        let mut failed_at: Option<Instant> = None;
        self.post.sign_of_life();
        while left > 0 && failed_at.is_none_or(|at| at.elapsed() < GRACE) {
            match results.recv_timeout(Duration::from_millis(200)) {
                Ok((rank, outcome)) => {
                    left -= 1;
                    match outcome {
                        Ok(result) => done[rank] = Some(result),
                        Err(error) => failures.push((rank, error)),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if failures.is_empty() && self.post.is_silent() {
                let silent = done
                    .iter()
                    .position(Option::is_none)
                    .expect("invariant: somebody has not answered");
                self.post.fail(silent);
                failures.push((silent, self.post.silence()));
            }
            if !failures.is_empty() {
                failed_at.get_or_insert_with(Instant::now);
            }
        }
        (done, failures)
    }

    /// A failure, with the ranks whose worker does not answer any more: what fails first may be
    /// another rank, which waits for one of those.
    fn with_lost_workers(&self, error: Failure) -> Failure {
        let lost: Vec<&str> = std::thread::scope(|scope| {
            let lent =
                self.threads.iter().filter_map(|thread| Some((thread, thread.lender.as_ref()?)));
            let asked: Vec<_> = lent
                .map(|(thread, lender)| (thread, scope.spawn(|| lender.answers(PATIENCE))))
                .collect();
            let answered =
                asked.into_iter().map(|(thread, answer)| (thread, answer.join().unwrap_or(false)));
            let lost = answered.filter(|(_, answers)| !answers);
            lost.map(|(thread, _)| thread.name.as_str()).collect()
        });
        if lost.is_empty() {
            error
        } else {
            error.context(format!("{}: the worker does not answer", lost.join(", ")))
        }
    }

    /// A failure, with the ranks whose process gives no sign of life: as with workers, another rank
    /// that waits for one of them may have failed first.
    fn with_silent_processes(&self, error: Failure) -> Failure {
        let silent: Vec<&str> = self
            .post
            .unheard(PATIENCE)
            .into_iter()
            .filter_map(|rank| Some(self.threads.get(rank)?.name.as_str()))
            .collect();
        if silent.is_empty() {
            error
        } else {
            error.context(format!("{}: its process gives no sign of life", silent.join(", ")))
        }
    }

    /// The failure to tell: what befell a rank itself, rather than that it missed another one's
    /// message, rather than that it was told of another's failure.
    fn worst(&self, failures: Vec<(usize, Failure)>) -> Option<Failure> {
        let rank_of_news = |error: &Failure| match error.downcast_ref::<PostError>() {
            None => 0,
            Some(PostError::Late { .. }) => 1,
            Some(PostError::Garbled { .. }) => 0,
            Some(PostError::Failed { .. }) => 2,
        };
        let (rank, error) = failures.into_iter().min_by_key(|(_, error)| rank_of_news(error))?;
        let missed = match error.downcast_ref() {
            Some(PostError::Late { from, .. }) => Some(self.threads[*from].name.clone()),
            _ => None,
        };
        let error = error.context(self.threads[rank].name.clone());
        Some(match missed {
            Some(name) => error.context(format!("{name} does not answer")),
            None => error,
        })
    }
}

impl Drop for RankThreads {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.work = None; // ends the thread's loop
        }
        // A rank that has failed may hang in its device: its thread is left behind.
        if self.post.failed().is_none() {
            for handle in self.threads.iter_mut().filter_map(|thread| thread.handle.take()) {
                let _ = handle.join(); // a panic there has been reported
            }
        }
    }
}

/// On a worker's device every failure is a panic, in whatever rank first asks for a value. It is
/// caught and becomes the run's error; the message that it prints besides would only say where in
/// Burn it was noticed. So it is with the panics of other processes, which rank 0 tells of.
pub(super) fn panics_of_ranks_are_told_once() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !std::thread::current().name().is_some_and(|name| name.starts_with(THREAD)) {
                before(panic);
            }
        }));
    });
}

/// What a thread died of, as an error.
pub(super) fn error_of(panic: Box<dyn Any + Send>) -> Failure {
    match panic.downcast::<PostError>() {
        Ok(error) => (*error).into(),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Failure::new(text.unwrap_or_else(|| "it stopped without a word".into()))
        }
    }
}
