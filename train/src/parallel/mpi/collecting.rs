//! Calls that all ranks make together and that are under way: MPI's collectives, without blocking.
//!
//! Each lane has a communicator of its own, so that calls of different lanes may be made in
//! different orders on different ranks.

use std::sync::mpsc::Sender;

use ::mpi::ffi::{
    MPI_Comm, MPI_Comm_dup, MPI_Iallgather, MPI_Iallgatherv, MPI_Ialltoall, MPI_Ialltoallv,
    MPI_Ireduce_scatter, MPI_Ireduce_scatter_block, RSMPI_FLOAT, RSMPI_INT32_T, RSMPI_SUM,
    RSMPI_UINT8_T,
};
use ::mpi::raw::AsRaw;
use ::mpi::topology::{Communicator, SimpleCommunicator};

use super::super::joint::Joint;
use super::transfers::Request;

/// Lanes: as many as micro-batches overlap on a rank.
pub(super) const LANES: usize = 2;

/// The communicators of the lanes. They live as long as MPI does.
#[derive(Clone, Copy)]
pub(super) struct Lanes([MPI_Comm; LANES]);

impl Lanes {
    /// Copies the world's communicator for each lane: every rank must do so at the same time.
    pub fn new(world: &SimpleCommunicator) -> Self {
        Self([(); LANES].map(|()| {
            let mut lane = world.as_raw();
            // SAFETY: the world's communicator is there until MPI ends; the copy is written to
            // `lane`.
            unsafe { MPI_Comm_dup(world.as_raw(), &raw mut lane) };
            lane
        }))
    }
}

/// A call that is under way.
pub(super) struct Collecting {
    comm: MPI_Comm,
    ranks: usize,
    request: Request,
    /// None where MPI may still use the buffers when this is dropped: they are leaked then.
    buffers: Option<Buffers>,
    done: Sender<Joint>,
}

/// What MPI reads and writes until the request is over. Moving them moves no buffer.
enum Buffers {
    /// How many bytes go to each rank and come from it, before the bytes.
    Counts { parcels: Vec<Vec<u8>>, sent: Vec<i32>, come: Vec<i32> },
    /// The bytes.
    Parcels { _sent: (Vec<u8>, [Vec<i32>; 2]), come: Vec<u8>, counts: Vec<i32>, _starts: Vec<i32> },
    /// The sums of this rank's part.
    Sums { _values: Vec<f32>, own: Vec<f32> },
    /// The sums of all parts.
    Gathered { _own: Vec<f32>, values: Vec<f32> },
    /// What a call of some ranks takes, and what comes home of it; how long the parts are, and where
    /// they begin.
    Parts { _sent: Vec<f32>, home: Vec<f32>, _counts: Vec<i32>, _starts: Vec<i32> },
}

impl Collecting {
    /// Begins a call on a lane; `done` gets what comes home.
    pub fn start(
        lanes: Lanes,
        lane: usize,
        world: &SimpleCommunicator,
        joint: Joint,
        done: Sender<Joint>,
    ) -> Self {
        let ranks = world.size() as usize;
        let mut collecting = Self {
            comm: lanes.0[lane % LANES],
            ranks,
            request: Request::none(),
            buffers: None,
            done,
        };
        match joint {
            Joint::Parcels(parcels) => collecting.exchange_counts(parcels),
            Joint::Values(values) => collecting.reduce(values),
            Joint::Sums { .. } | Joint::Parts { .. } => {
                unreachable!("invariant: calls of some ranks have a communicator of their own")
            }
        }
        collecting
    }

    /// Begins a call of some ranks, whose communicator this is; `done` gets what comes home.
    pub fn start_among(members: &SimpleCommunicator, joint: Joint, done: Sender<Joint>) -> Self {
        let (ranks, place) = (members.size() as usize, members.rank() as usize);
        let mut collecting =
            Self { comm: members.as_raw(), ranks, request: Request::none(), buffers: None, done };
        match joint {
            Joint::Sums { counts, values, .. } => collecting.reduce_parts(place, &counts, values),
            Joint::Parts { counts, values, .. } => collecting.gather_parts(&counts, values),
            Joint::Parcels(_) | Joint::Values(_) => {
                unreachable!("invariant: calls of all ranks are made on a lane")
            }
        }
        collecting
    }

    /// Goes on as far as MPI has come; nothing is left where it is done and told.
    pub fn go_on(mut self) -> Option<Self> {
        if !self.request.is_done() {
            return Some(self);
        }
        let home = match self.buffers.take()? {
            Buffers::Counts { parcels, sent, come } => {
                self.exchange(&parcels, sent, come);
                return Some(self);
            }
            Buffers::Sums { own, .. } => {
                self.gather(own);
                return Some(self);
            }
            Buffers::Parcels { come, counts, .. } => {
                let mut rest = &come[..];
                let parcel = |count: &i32| {
                    let (parcel, after) = rest.split_at(*count as usize);
                    rest = after;
                    parcel.to_vec()
                };
                Joint::Parcels(counts.iter().map(parcel).collect())
            }
            Buffers::Gathered { values, .. } => Joint::Values(values),
            Buffers::Parts { home, .. } => Joint::Values(home),
        };
        let _ = self.done.send(home); // whoever asked may be gone
        None
    }

    fn exchange_counts(&mut self, parcels: Vec<Vec<u8>>) {
        assert_eq!(parcels.len(), self.ranks, "invariant: a parcel for each rank");
        let sent: Vec<i32> = parcels.iter().map(|parcel| length(parcel.len())).collect();
        let mut come = vec![0i32; self.ranks];
        // SAFETY: both buffers have a number for each rank, and are kept until the request is over.
        unsafe {
            MPI_Ialltoall(
                sent.as_ptr().cast(),
                1,
                RSMPI_INT32_T,
                come.as_mut_ptr().cast(),
                1,
                RSMPI_INT32_T,
                self.comm,
                self.request.raw(),
            );
        }
        self.buffers = Some(Buffers::Counts { parcels, sent, come });
    }

    fn exchange(&mut self, parcels: &[Vec<u8>], sent: Vec<i32>, counts: Vec<i32>) {
        let bytes = parcels.concat();
        let (from, to) = (starts(&sent), starts(&counts));
        let mut come = vec![0u8; counts.iter().map(|&count| count as usize).sum()];
        // SAFETY: counts and starts lie in the buffers, and all six are kept until the request is
        // over.
        unsafe {
            MPI_Ialltoallv(
                bytes.as_ptr().cast(),
                sent.as_ptr(),
                from.as_ptr(),
                RSMPI_UINT8_T,
                come.as_mut_ptr().cast(),
                counts.as_ptr(),
                to.as_ptr(),
                RSMPI_UINT8_T,
                self.comm,
                self.request.raw(),
            );
        }
        self.buffers =
            Some(Buffers::Parcels { _sent: (bytes, [sent, from]), come, counts, _starts: to });
    }

    fn reduce(&mut self, values: Vec<f32>) {
        assert!(values.len().is_multiple_of(self.ranks), "invariant: equal parts");
        let mut own = vec![0f32; values.len() / self.ranks];
        // SAFETY: `own` has room for a part of `values`; both are kept until the request is over.
        unsafe {
            MPI_Ireduce_scatter_block(
                values.as_ptr().cast(),
                own.as_mut_ptr().cast(),
                length(own.len()),
                RSMPI_FLOAT,
                RSMPI_SUM,
                self.comm,
                self.request.raw(),
            );
        }
        self.buffers = Some(Buffers::Sums { _values: values, own });
    }

    fn reduce_parts(&mut self, place: usize, counts: &[usize], values: Vec<f32>) {
        assert_eq!(counts.len(), self.ranks, "invariant: a part for each member");
        assert_eq!(values.len(), counts.iter().sum::<usize>(), "invariant: all parts");
        let mut home = vec![0f32; counts[place]];
        let counts: Vec<i32> = counts.iter().map(|&count| length(count)).collect();
        // SAFETY: `values` has all parts, of so many values each, and `home` room for this rank's;
        // all three are kept until the request is over.
        unsafe {
            MPI_Ireduce_scatter(
                values.as_ptr().cast(),
                home.as_mut_ptr().cast(),
                counts.as_ptr(),
                RSMPI_FLOAT,
                RSMPI_SUM,
                self.comm,
                self.request.raw(),
            );
        }
        self.buffers =
            Some(Buffers::Parts { _sent: values, home, _counts: counts, _starts: Vec::new() });
    }

    fn gather_parts(&mut self, counts: &[usize], own: Vec<f32>) {
        assert_eq!(counts.len(), self.ranks, "invariant: a part for each member");
        let mut home = vec![0f32; counts.iter().sum()];
        let counts: Vec<i32> = counts.iter().map(|&count| length(count)).collect();
        let starts = starts(&counts);
        // SAFETY: `home` has room for the parts of all members, which begin at `starts` and are as
        // long as `counts` says; all four are kept until the request is over.
        unsafe {
            MPI_Iallgatherv(
                own.as_ptr().cast(),
                length(own.len()),
                RSMPI_FLOAT,
                home.as_mut_ptr().cast(),
                counts.as_ptr(),
                starts.as_ptr(),
                RSMPI_FLOAT,
                self.comm,
                self.request.raw(),
            );
        }
        self.buffers = Some(Buffers::Parts { _sent: own, home, _counts: counts, _starts: starts });
    }

    fn gather(&mut self, own: Vec<f32>) {
        let mut values = vec![0f32; own.len() * self.ranks];
        let count = length(own.len());
        // SAFETY: `values` has room for the parts of all ranks; both are kept until the request is
        // over.
        unsafe {
            MPI_Iallgather(
                own.as_ptr().cast(),
                count,
                RSMPI_FLOAT,
                values.as_mut_ptr().cast(),
                count,
                RSMPI_FLOAT,
                self.comm,
                self.request.raw(),
            );
        }
        self.buffers = Some(Buffers::Gathered { _own: own, values });
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        if !self.request.is_over() {
            std::mem::forget(self.buffers.take()); // MPI may still use them
        }
    }
}

fn length(count: usize) -> i32 {
    i32::try_from(count).expect("invariant: what ranks exchange at once is short")
}

/// Where each run of so many begins.
fn starts(counts: &[i32]) -> Vec<i32> {
    let mut next = 0;
    counts
        .iter()
        .map(|count| {
            let start = next;
            next += count;
            start
        })
        .collect()
}
