//! Communicators of some ranks each, for the calls that those make among themselves.
//!
//! Making a communicator waits, within MPI, for all of its members. So none is made before a
//! barrier, in which nobody waits, has been passed by every rank: MPI's thread never stands there
//! while another rank has yet to be told what to do, and carries messages until then. All ranks make
//! theirs in the same order of the groups, so that none waits for one that waits for it.
//!
//! They are made of a copy of the world: Open MPI (4.1) makes them by messages on the communicator that
//! they are made of, under the tag that was given, and a rank that is still looking for messages of
//! the world would take one of those for its own.

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::sync::mpsc::Sender;

use ::mpi::ffi::MPI_Ibarrier;
use ::mpi::raw::AsRaw;
use ::mpi::topology::{Communicator, Group, SimpleCommunicator};

use super::super::joint::Joint;
use super::collecting::Collecting;
use super::transfers::Request;

/// The communicators, by their members' ranks. They live as long as MPI does.
type Made = HashMap<Vec<usize>, ManuallyDrop<SimpleCommunicator>>;

/// The groups of this process's rank.
#[derive(Default)]
pub(super) struct Groups {
    state: State,
    /// Calls that wait for their communicators.
    waiting: Vec<(Joint, Sender<Joint>)>,
}

#[derive(Default)]
enum State {
    /// Nobody has asked for them.
    #[default]
    Unasked,
    /// This rank has; the request is of the barrier.
    Awaited(Vec<Vec<usize>>, Request),
    /// They are there.
    Made(Made),
}

impl Groups {
    /// Begins to make a communicator of each of these groups of ranks, once: every rank of the world
    /// must ask for the same ones in the same order, its own among them or not.
    pub fn ask(&mut self, groups: Vec<Vec<usize>>, world: &SimpleCommunicator) {
        if !matches!(self.state, State::Unasked) {
            return;
        }
        let mut barrier = Request::none();
        // SAFETY: the world's communicator is there until MPI ends, and the request is kept.
        unsafe { MPI_Ibarrier(world.as_raw(), barrier.raw()) };
        self.state = State::Awaited(groups, barrier);
    }

    /// Begins a call of a group's members, now or when its communicator is there; `done` gets what
    /// comes home.
    pub fn start(&mut self, joint: Joint, done: Sender<Joint>) -> Option<Collecting> {
        let State::Made(made) = &self.state else {
            self.waiting.push((joint, done));
            return None;
        };
        started(made, joint, done)
    }

    /// Makes the communicators when every rank has asked for them; gives the calls that have waited.
    pub fn go_on(&mut self, world: &SimpleCommunicator) -> Vec<Collecting> {
        let State::Awaited(groups, barrier) = &mut self.state else { return Vec::new() };
        if !barrier.is_done() {
            return Vec::new();
        }
        let own = world.rank() as usize;
        let apart = ManuallyDrop::new(world.duplicate());
        let mut made = Made::new();
        for (tag, members) in (0..).zip(std::mem::take(groups)) {
            if !members.contains(&own) {
                continue;
            }
            let ranks: Vec<i32> = members.iter().map(|&rank| rank as i32).collect();
            let group = apart.group().include(&ranks);
            let comm = apart.split_by_subgroup_with_tag(&group, tag);
            let comm = comm.expect("invariant: this rank is a member");
            made.insert(members, ManuallyDrop::new(comm));
        }
        let waiting = std::mem::take(&mut self.waiting);
        let calls = waiting.into_iter().filter_map(|(joint, done)| started(&made, joint, done));
        let calls = calls.collect();
        self.state = State::Made(made);
        calls
    }

    /// Whether the other ranks' coming is waited for.
    pub fn is_awaiting(&self) -> bool {
        matches!(self.state, State::Awaited(..))
    }
}

/// Begins a call; nothing where its group is none that was asked for: whoever waits for `done` finds
/// it dropped.
fn started(made: &Made, joint: Joint, done: Sender<Joint>) -> Option<Collecting> {
    let comm = made.get(joint.members()?)?;
    Some(Collecting::start_among(comm, joint, done))
}
