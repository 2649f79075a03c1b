//! Where a rank is: on a thread of this process, or in another process.

use std::sync::Arc;

use burn::tensor::Device;

use super::evaluate::EvaluationJob;
use super::rank::Rank;
use super::reduce::UpdateJob;
use super::step::StepJob;
use super::task::{Approach, Biases, Gather, Peak, Reduce, Task, WithMoments};
use super::write::WriteJob;
use crate::failure::{Context, Failure, Result};
use crate::parallel::{Packed, Processes};

/// A rank, wherever it is, as its thread has it.
#[derive(Debug)]
pub(super) enum Holder {
    /// On this thread.
    Here(Box<Rank>),
    /// In another process.
    Away(Away),
}

/// A rank in another process.
#[derive(Debug)]
pub(super) struct Away {
    pub rank: usize,
    pub processes: Arc<Processes>,
    /// Where tensors that come from it go.
    pub device: Device,
}

impl Holder {
    /// Has the rank do something.
    pub fn carry_out<T: Task>(&mut self, task: &T) -> Result<T::Done> {
        match self {
            Self::Here(rank) => task.carry_out(rank),
            Self::Away(away) => away.ask(task),
        }
    }
}

impl Away {
    /// Has the rank do something, and waits for what comes of it.
    pub fn ask<T: Task>(&self, task: &T) -> Result<T::Done> {
        let mut bytes = vec![T::NUMBER];
        task.for_rank(self.rank).pack(&mut bytes);
        let answer = self.processes.ask(self.rank, bytes)?;
        T::Done::unpacked(&answer, &self.device)
            .with_context(|| format!("rank {} answered something else", self.rank))
    }
}

/// Has a rank do what rank 0 asked for, packed, and packs what came of it; `say` is given what there
/// is to say of that.
pub(super) fn carry_out_packed(
    rank: &mut Rank,
    task: &[u8],
    say: &dyn Fn(&str),
) -> Result<Vec<u8>> {
    let Some((&number, bytes)) = task.split_first() else {
        return Err(Failure::new("rank 0 asked for nothing"));
    };
    match number {
        StepJob::NUMBER => packed::<StepJob>(rank, bytes, say),
        Reduce::NUMBER => packed::<Reduce>(rank, bytes, say),
        UpdateJob::NUMBER => packed::<UpdateJob>(rank, bytes, say),
        Gather::NUMBER => packed::<Gather>(rank, bytes, say),
        WithMoments::NUMBER => packed::<WithMoments>(rank, bytes, say),
        WriteJob::NUMBER => packed::<WriteJob>(rank, bytes, say),
        Peak::NUMBER => packed::<Peak>(rank, bytes, say),
        EvaluationJob::NUMBER => packed::<EvaluationJob>(rank, bytes, say),
        Biases::NUMBER => packed::<Biases>(rank, bytes, say),
        Approach::NUMBER => packed::<Approach>(rank, bytes, say),
        _ => Err(Failure::new(format!("rank 0 asked for task {number}, which there is not"))),
    }
}

fn packed<T: Task>(rank: &mut Rank, bytes: &[u8], say: &dyn Fn(&str)) -> Result<Vec<u8>> {
    let task = T::unpacked(bytes, &rank.device)
        .with_context(|| format!("rank 0 asked for task {} in other words", T::NUMBER))?;
    let done = task.carry_out(rank)?;
    task.said(&done).iter().for_each(|text| say(text));
    Ok(done.packed())
}
