//! The sums of gradients as ZeRO-1 has them: each rank sums a part of all ranks' gradients, in the
//! order of the ranks, and sends the others what has become of it.

use burn::tensor::{Distribution, Tensor};
use serde_json::{Value, json};

use super::super::Repetitions;
use super::messages::named;
use super::party::Party;
use crate::failure::Result;
use crate::fold::Columns;
use crate::parallel::{Joint, Subject};

/// Bytes of a rank's gradients.
const SIZES: [usize; 3] = [1 << 16, 1 << 20, 1 << 24];

/// Sums of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reduction {
    bytes: usize,
    us: f64,
    /// By the library's own calls, where there is one: reduce-scatter and all-gather.
    joint_us: Option<f64>,
    /// Whether those gave the same bits.
    same_bits: Option<bool>,
    /// Bytes that a rank sends.
    sent_bytes: f64,
}

/// Times sums of all sizes.
pub(super) fn measure(party: &Party, reps: Repetitions) -> Result<Vec<Reduction>> {
    SIZES.into_iter().map(|bytes| reduction(party, bytes, reps)).collect()
}

fn reduction(party: &Party, bytes: usize, reps: Repetitions) -> Result<Reduction> {
    let part = bytes / size_of::<f32>() / party.ranks;
    let count = part * party.ranks;
    party.device().seed(7 + party.rank as u64);
    let own = Tensor::<1>::random([count], Distribution::Normal(0.0, 1.0), party.device());
    let us = party.timed(reps, |round| sums(party, &own, round).map(drop))?;
    let mut reduction = Reduction {
        bytes: count * size_of::<f32>(),
        us,
        joint_us: None,
        same_bits: None,
        sent_bytes: (2 * (party.ranks - 1) * part * size_of::<f32>()) as f64,
    };
    if party.processes.is_some() {
        reduction.joint_us = Some(party.timed(reps, |_| joint_sums(party, &own).map(drop))?);
        let round = party.rounds(1).start;
        let [ours, theirs] = [sums(party, &own, round)?, joint_sums(party, &own)?]
            .map(|sums| sums.into_data().as_bytes().to_vec());
        reduction.same_bits = Some(party.mean(f64::from(u8::from(ours == theirs)))? == 1.0);
    }
    Ok(reduction)
}

/// The sums over all ranks, a part of them made here.
fn sums(party: &Party, own: &Tensor<1>, round: usize) -> Result<Tensor<1>> {
    let part = own.dims()[0] / party.ranks;
    let part_of = |rank: usize| own.clone().narrow(0, rank * part, part);
    for other in party.others() {
        party.send(other, Subject::ParameterGradient(round), part_of(other));
    }
    let mut sum: Option<Tensor<1>> = None;
    for rank in 0..party.ranks {
        let term = match rank == party.rank {
            true => part_of(rank),
            false => party.receive(rank, Subject::ParameterGradient(round))?,
        };
        sum = Some(match sum {
            Some(sum) => sum + term,
            None => term,
        });
    }
    let sum = sum.expect("invariant: there is a rank");
    for other in party.others() {
        party.send(other, Subject::Parameter(round), sum.clone());
    }
    let part_by = |rank: usize| match rank == party.rank {
        true => Ok(sum.clone()),
        false => party.receive(rank, Subject::Parameter(round)),
    };
    Ok(Tensor::cat((0..party.ranks).map(part_by).collect::<Result<_>>()?, 0))
}

/// The same by the library's own calls.
fn joint_sums(party: &Party, own: &Tensor<1>) -> Result<Tensor<1>> {
    let values: Vec<f32> = own.clone().into_data().iter().collect();
    match super::collectives::together(party, 0, Joint::Values(values))? {
        Joint::Values(sums) => Ok(Tensor::from_data(&sums[..], party.device())),
        _ => unreachable!("invariant: values come of values"),
    }
}

/// A row a size.
pub(super) fn text(reductions: &[Reduction], width: usize) -> String {
    let mut table =
        Columns::new(["<sums of gradients", "us", "GB/s", "collective, us", "<its bits"]);
    for reduction in reductions {
        let Reduction { bytes, us, joint_us, same_bits, sent_bytes } = reduction;
        table.row([
            named(*bytes),
            format!("{us:.1}"),
            format!("{:.2}", sent_bytes / us / 1e3),
            joint_us.map_or_else(String::new, |us| format!("{us:.1}")),
            same_bits.map_or("", |same| if same { "the same" } else { "others" }).into(),
        ]);
    }
    table.text(width)
}

/// The same for programs.
pub(super) fn results(reductions: &[Reduction]) -> Value {
    let row = |reduction: &Reduction| {
        let Reduction { bytes, us, joint_us, same_bits, sent_bytes } = reduction;
        json!({
            "bytes": bytes, "us": us, "sent_bytes": sent_bytes, "collective_us": joint_us,
            "collective_same_bits": same_bits,
        })
    };
    reductions.iter().map(row).collect()
}
