//! MPI as what carries messages between processes, each of which is one rank or several.
//!
//! One thread makes all of MPI's calls: it sends what it is given, and gives the post office what
//! arrives, both without blocking. Messages are matched as MPI matches them, by sender, in the order
//! in which they were sent; the tag is the kind of a message's subject, and the subject, which the
//! proved schedule makes unique within a step, stands at its end with the ranks that it is between.
//! What a message encloses comes right behind it, each in a buffer of its own: MPI reads it from the
//! tensor that was sent, and writes it into the one that is received.

mod about;
mod collecting;
mod groups;
mod incoming;
mod seal;
mod thread;
mod transfers;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::carrier::{Carrier, Letter};
use super::contents::Contents;
use super::hosting::Hosting;
use super::joint::Joint;
use super::launch::LaunchError;
use super::library::Library;
use super::post::Post;

/// How long messages that are under way may take at the end.
const AT_THE_END: Duration = Duration::from_secs(10);

/// How often somebody who waits for other ranks looks whether one has failed.
const LOOKING: Duration = Duration::from_millis(100);

/// What MPI's thread is to do.
enum Order {
    /// Send a process what a message says, sealed; the tag is its kind.
    Send { to: usize, tag: u8, contents: Contents },
    /// Make a call on a lane that all ranks make, and give what comes home.
    Together { lane: usize, joint: Joint, done: Sender<Joint> },
    /// Make a communicator of each group of ranks, when all ranks have asked for the same ones.
    Group(Vec<Vec<usize>>),
    /// Make a call that the members of a group make, and give what comes home.
    Among { joint: Joint, done: Sender<Joint> },
    /// Look for what has come: somebody waits for it.
    Look,
    /// Let what is under way arrive, and end.
    End,
    /// End every process, with an exit code.
    Abort(u8),
}

/// What MPI's thread finds where it begins.
struct Begun {
    process: usize,
    processes: usize,
    library: Library,
}

/// When the processes that tell this one that they are alive were last heard of: the others where
/// this has rank 0, else that one.
type Heard = Arc<Mutex<Vec<(usize, Instant)>>>;

/// This process among those of its world.
#[derive(Debug)]
pub(super) struct Mpi {
    library: Library,
    orders: Sender<Order>,
    post: Arc<Post>,
    /// Told when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

impl Mpi {
    /// The library, whether it has been started or not; nobody else may call it meanwhile.
    pub fn of_this_build() -> Option<Library> {
        Some(about::library())
    }

    /// Starts MPI, which is to find `launched` processes with the ranks of `hosting`; `post` is given
    /// what they send.
    pub fn start(
        post: &Arc<Post>,
        hosting: &Hosting,
        launched: usize,
    ) -> Result<Self, LaunchError> {
        let (orders, queue) = channel();
        let (end, ended) = channel();
        let (begin, begun) = channel();
        let heard = Heard::default();
        let (office, of_thread, hosted) = (post.clone(), heard.clone(), hosting.clone());
        let run = move || {
            let _end = end; // dropped with the thread
            thread::run(&office, &hosted, &of_thread, &queue, &begin);
        };
        let start = |problem: String| LaunchError::Start { problem };
        std::thread::Builder::new()
            .name("mpi".into())
            .spawn(run)
            .map_err(|error| start(error.to_string()))?;
        let limit = post.timeout();
        let Begun { process, processes: seen, library } = match begun.recv_timeout(limit) {
            Ok(begun) => begun.map_err(start)?,
            // The thread waits in MPI for a process that may have been stopped.
            Err(RecvTimeoutError::Timeout) => {
                return Err(LaunchError::Late { launched, seconds: limit.as_secs() });
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(start("its thread has stopped".into()));
            }
        };
        if seen != launched {
            return Err(LaunchError::Apart { launched, seen });
        }
        let hosting = hosting.clone();
        post.carry_by(Arc::new(Line { process, hosting, orders: orders.clone(), heard }));
        Ok(Self { library, orders, post: post.clone(), ended: Mutex::new(ended) })
    }

    /// The library, by what it says of itself.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// Makes a call on a lane together with all ranks, and waits for it; nothing where MPI has ended.
    pub fn together(&self, lane: usize, joint: Joint) -> Option<Joint> {
        let (done, home) = channel();
        self.orders.send(Order::Together { lane, joint, done }).ok()?;
        home.recv().ok()
    }

    /// Has a communicator made of each of these groups of ranks, once, and does not wait for it:
    /// every rank must ask for the same groups in the same order, those that it is no member of too.
    pub fn group(&self, groups: Vec<Vec<usize>>) {
        // Where the thread has ended, so has the run.
        let _ = self.orders.send(Order::Group(groups));
    }

    /// Makes a call together with the members of a group, and waits for it as long as no rank has
    /// failed; nothing where one has, where MPI has ended, or of a group that was not asked for.
    pub fn among(&self, joint: Joint) -> Option<Joint> {
        let (done, home) = channel();
        self.orders.send(Order::Among { joint, done }).ok()?;
        loop {
            match home.recv_timeout(LOOKING) {
                Err(RecvTimeoutError::Timeout) if self.post.failed().is_none() => {}
                outcome => return outcome.ok(),
            }
        }
    }

    /// Ends MPI: every process with an exit code where there is one, else this process alone, when
    /// what it has sent has arrived.
    pub fn close(&self, abort: Option<u8>) {
        let order = abort.map_or(Order::End, Order::Abort);
        let _ = self.orders.send(order);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        // Ended or not: the process is about to.
        let _ = ended.recv_timeout(AT_THE_END + Duration::from_secs(5));
    }
}

/// How the post office reaches MPI's thread.
#[derive(Debug)]
struct Line {
    process: usize,
    hosting: Hosting,
    orders: Sender<Order>,
    heard: Heard,
}

impl Carrier for Line {
    fn carries_to(&self, rank: usize) -> bool {
        self.hosting.process_of(rank) != self.process
    }

    fn carry(&self, letter: Letter) {
        let Letter { from, to, subject, mut contents } = letter;
        seal::seal(&mut contents, from, to, &subject);
        let order = Order::Send { to: self.hosting.process_of(to), tag: subject.kind(), contents };
        // Where the thread has ended, so has the run.
        let _ = self.orders.send(order);
    }

    fn awaited(&self) {
        // Where the thread has ended, so has the run.
        let _ = self.orders.send(Order::Look);
    }

    fn unheard(&self, patience: Duration) -> Vec<usize> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = heard.iter().filter(|(_, at)| at.elapsed() > patience);
        silent.flat_map(|(process, _)| self.hosting.ranks_of(*process)).collect()
    }
}
