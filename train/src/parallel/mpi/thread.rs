//! The thread that makes MPI's calls.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use ::mpi::Threading;
use ::mpi::datatype::Equivalence;
use ::mpi::environment::Universe;
use ::mpi::point_to_point::Source;
use ::mpi::topology::{Communicator, SimpleCommunicator};
use burn::tensor::Bytes;

use super::super::contents::Contents;
use super::super::hosting::Hosting;
use super::super::post::Post;
use super::super::subject::Subject;
use super::about::library;
use super::collecting::{Collecting, Lanes};
use super::groups::Groups;
use super::incoming::{Incoming, Unreadable};
use super::transfers::{Receiving, Sending};
use super::{AT_THE_END, Begun, Heard, Order};

/// Bytes that are sent at once; longer messages go in pieces.
const PIECE: usize = 1 << 28;

/// How often ranks tell rank 0, and it them, that they are alive.
const BEAT: Duration = Duration::from_millis(250);

/// The kind of tag that a sign of life has.
const ALIVE: u8 = Subject::KINDS;

/// The kind of tag that what a message encloses has.
const ENCLOSED: u8 = ALIVE + 1;

/// The tag of a piece of a message: its kind, and whether more of it follows.
fn tag_of(kind: u8, more: bool) -> i32 {
    i32::from(kind) * 2 + i32::from(more)
}

/// Starts MPI, tells `begin` what it finds, and does what is ordered.
pub(super) fn run(
    post: &Arc<Post>,
    hosting: &Hosting,
    heard: &Heard,
    orders: &Receiver<Order>,
    begin: &Sender<Result<Begun, String>>,
) {
    let Some((universe, threading)) = ::mpi::initialize_with_threading(Threading::Funneled) else {
        let _ = begin.send(Err("it has been started before".into()));
        return;
    };
    if threading < Threading::Funneled {
        let _ = begin.send(Err("the library cannot be used beside threads".into()));
        return;
    }
    let world = universe.world();
    let (process, processes) = (world.rank() as usize, world.size() as usize);
    let peers: Vec<usize> = if process == 0 { (1..processes).collect() } else { vec![0] };
    {
        let now = Instant::now();
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = peers.iter().map(|&peer| (peer, now)).collect();
    }
    let _ = begin.send(Ok(Begun { process, processes, library: library() }));
    let line = Line {
        world,
        process,
        peers,
        post,
        hosting,
        heard,
        sending: Vec::new(),
        receiving: VecDeque::new(),
        lanes: None,
        groups: Groups::default(),
        collecting: Vec::new(),
        incoming: HashMap::new(),
        beaten: Instant::now(),
        told: Instant::now(),
    };
    line.carry_out(orders, universe);
}

/// What is under way.
struct Line<'a> {
    world: SimpleCommunicator,
    process: usize,
    /// The processes that are told that this one is alive, and tell it the same.
    peers: Vec<usize>,
    post: &'a Arc<Post>,
    hosting: &'a Hosting,
    heard: &'a Heard,
    sending: Vec<Sending>,
    /// In the order in which they were found.
    receiving: VecDeque<Receiving>,
    /// Once a call has been made that all ranks make.
    lanes: Option<Lanes>,
    /// Of the calls that some ranks make.
    groups: Groups,
    collecting: Vec<Collecting>,
    /// What has come of messages that come in parts, by sender.
    incoming: HashMap<i32, Incoming>,
    /// When the others were last told that this rank is alive.
    beaten: Instant,
    /// The last sign of life of a rank that was told on.
    told: Instant,
}

impl Line<'_> {
    fn carry_out(mut self, orders: &Receiver<Order>, universe: Universe) {
        let mut active = Instant::now();
        let mut ending: Option<Instant> = None;
        loop {
            let order = match self.rest(active) {
                Some(rest) => match orders.recv_timeout(rest) {
                    Ok(order) => Some(order),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => Some(Order::End),
                },
                None => {
                    std::thread::yield_now();
                    orders.try_recv().ok()
                }
            };
            match order {
                Some(Order::Send { to, tag, contents: Contents { head, enclosed } }) => {
                    self.send(to, tag, Bytes::from_bytes_vec(head));
                    enclosed.into_iter().for_each(|bytes| self.send(to, ENCLOSED, bytes));
                    active = Instant::now();
                }
                Some(Order::Together { lane, joint, done }) => {
                    let lanes = *self.lanes.get_or_insert_with(|| Lanes::new(&self.world));
                    self.collecting.push(Collecting::start(lanes, lane, &self.world, joint, done));
                    active = Instant::now();
                }
                Some(Order::Group(groups)) => {
                    self.groups.ask(groups, &self.world);
                    active = Instant::now();
                }
                Some(Order::Among { joint, done }) => {
                    self.collecting.extend(self.groups.start(joint, done));
                    active = Instant::now();
                }
                Some(Order::Look) => active = Instant::now(),
                Some(Order::End) => {
                    ending.get_or_insert_with(Instant::now);
                }
                Some(Order::Abort(code)) => self.world.abort(i32::from(code)),
                None => {}
            }
            if self.progress() {
                active = Instant::now();
            }
            match ending {
                None => self.beat(),
                Some(_) if self.sending.is_empty() && self.receiving.is_empty() => break,
                // What does not arrive any more is left behind, and MPI with it.
                Some(since) if since.elapsed() > AT_THE_END => {
                    std::mem::forget(universe);
                    return;
                }
                Some(_) => {}
            }
        }
        drop(universe);
    }

    /// How long to wait for an order before MPI is asked again. Asking takes time from whoever
    /// computes on the same core (every 50 us instead of every 250: a step took a tenth longer). So
    /// MPI is asked without rest only while the rank waits, and something is under way or came a
    /// moment ago. Whoever begins to wait ends the rest (`Order::Look`).
    fn rest(&self, active: Instant) -> Option<Duration> {
        let idle = active.elapsed();
        let under_way = !self.sending.is_empty() || !self.receiving.is_empty();
        if !self.collecting.is_empty() || self.groups.is_awaiting() {
            return None; // whoever made the call waits for it
        }
        match self.post.is_awaiting() {
            true if under_way || idle < Duration::from_micros(100) => None,
            true if idle < Duration::from_millis(100) => Some(Duration::from_micros(50)),
            false if under_way => Some(Duration::from_micros(100)),
            _ => Some(Duration::from_millis(1)),
        }
    }

    fn send(&mut self, to: usize, kind: u8, bytes: Bytes) {
        let bytes = Arc::new(bytes);
        let mut start = 0;
        loop {
            let end = bytes.len().min(start + PIECE);
            let tag = tag_of(kind, end < bytes.len());
            let sending = Sending::start(&self.world, to as i32, tag, bytes.clone(), start..end);
            self.sending.push(sending);
            if end == bytes.len() {
                return;
            }
            start = end;
        }
    }

    /// Lets MPI work, and takes in what has come; whether there was anything.
    fn progress(&mut self) -> bool {
        self.sending.retain_mut(|sending| !sending.is_done());
        let collecting = std::mem::take(&mut self.collecting);
        self.collecting = collecting.into_iter().filter_map(Collecting::go_on).collect();
        self.collecting.extend(self.groups.go_on(&self.world));
        let mut found = false;
        while let Some((message, status)) = self.world.any_process().immediate_matched_probe() {
            found = true;
            let count = status.count(u8::equivalent_datatype());
            let (from, tag) = (status.source_rank(), status.tag());
            self.receiving.push_back(Receiving::start(message, from, tag, count));
        }
        if self.receiving.is_empty() {
            return found;
        }
        // Of each sender in the order in which it sent.
        let mut unfinished = HashSet::new();
        for mut receiving in std::mem::take(&mut self.receiving) {
            if unfinished.contains(&receiving.from) || !receiving.is_done() {
                unfinished.insert(receiving.from);
                self.receiving.push_back(receiving);
            } else {
                self.take(receiving);
                found = true;
            }
        }
        found
    }

    /// Takes in a message, or a piece of one.
    fn take(&mut self, receiving: Receiving) {
        let (from, tag) = (receiving.from, receiving.tag);
        let bytes = receiving.take();
        let sender = from as usize;
        {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, at)) = heard.iter_mut().find(|(peer, _)| *peer == sender) {
                *at = Instant::now();
            }
        }
        if tag == tag_of(ALIVE, false) {
            // What it says is whether the rank has done something since it said so last.
            if bytes == [1] {
                self.post.sign_of_life();
            }
            return;
        }
        match self.incoming.entry(from).or_default().take(bytes, tag % 2 == 1) {
            Ok(Some(letter)) => self.post.deliver(letter),
            Ok(None) => {}
            // Whoever waits for it is told.
            Err(Unreadable) => self.post.fail(self.hosting.ranks_of(sender).start),
        }
    }

    /// Tells the others that this rank is alive, and notices who does not.
    fn beat(&mut self) {
        if self.beaten.elapsed() < BEAT {
            return;
        }
        self.beaten = Instant::now();
        let last_sign = self.post.last_sign();
        // Rank 0 is the one who wants to know.
        let worked = self.process != 0 && last_sign > self.told;
        self.told = last_sign;
        for peer in self.peers.clone() {
            self.send(peer, ALIVE, Bytes::from_bytes_vec(vec![u8::from(worked)]));
        }
        let limit = self.post.timeout();
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((silent, _)) = heard.iter().find(|(_, at)| at.elapsed() > limit) {
            self.post.fail(self.hosting.ranks_of(*silent).start);
        }
    }
}
