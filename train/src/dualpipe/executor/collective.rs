//! ZeRO-1 by calls of the library that joins the processes: reduce-scatter for gradients,
//! all-gather for the parameters that become of them (`parallel.reduction = "collective"`).
//!
//! Parameters that the same ranks hold go together, some megabytes a call. What a member owns is a
//! part of the call, so that the sums come to the owners, and the parameters from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::module::ParamId;
use burn::tensor::{Tensor, TensorData};

use super::rank::Rank;
use super::shards::{Shard, Shards};
use crate::failure::{Context, Result};
use crate::parallel::{Joint, Processes};

/// Values of a call, or a parameter.
const VALUES_A_CALL: usize = 1 << 22;

/// Shards that the same ranks hold, so many that one call carries their values.
#[derive(Debug, PartialEq, Eq)]
struct Call<'a> {
    /// The holders, ascending.
    members: &'a [usize],
    /// What each of them owns.
    owned: Vec<Vec<&'a Shard>>,
}

impl Call<'_> {
    /// Values of each member's part, and one more for each shard of it.
    fn counts(&self, more: usize) -> Vec<usize> {
        let count = |shard: &&Shard| shard.elements.len() + more;
        self.owned.iter().map(|owned| owned.iter().map(count).sum()).collect()
    }

    fn own(&self, rank: usize) -> &[&Shard] {
        let place = self.members.iter().position(|&member| member == rank);
        match place {
            Some(place) => &self.owned[place],
            None => &[],
        }
    }
}

/// The calls that a rank takes part in: every holder makes those of its shards in the same order.
fn calls_of(shards: &Shards, rank: usize) -> Vec<Call<'_>> {
    let mut by_holders: BTreeMap<&[usize], Vec<&Shard>> = BTreeMap::new();
    for shard in shards.held_by(rank).filter(|shard| shard.holders.len() > 1) {
        by_holders.entry(&shard.holders).or_default().push(shard);
    }
    let mut calls = Vec::new();
    for (members, shards) in by_holders {
        let mut values = VALUES_A_CALL;
        for shard in shards {
            if values >= VALUES_A_CALL {
                calls.push(Call { members, owned: vec![Vec::new(); members.len()] });
                values = 0;
            }
            values += shard.elements.len();
            let place = members.iter().position(|&member| member == shard.owner);
            let call = calls.last_mut().expect("invariant: one was begun");
            call.owned[place.expect("invariant: an owner holds")].push(shard);
        }
    }
    calls
}

impl Shards {
    /// Every set of more than one rank that holds a parameter, in one order on all ranks.
    fn groups(&self) -> Vec<Vec<usize>> {
        let sets = self.0.iter().map(|shard| &shard.holders).filter(|holders| holders.len() > 1);
        sets.collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }
}

impl Rank {
    /// Has the library get ready for the calls of a step, which every rank does before its first.
    pub(super) fn group_once(&mut self, processes: &Processes) {
        if !std::mem::replace(&mut self.grouped, true) {
            processes.group(self.shards.groups());
        }
    }

    /// The sums of the gradients of what this rank owns, of all holders; `own` are this rank's.
    ///
    /// # Errors
    ///
    /// The library has ended.
    pub(super) fn summed_together(
        &self,
        processes: &Processes,
        mut own: HashMap<ParamId, Tensor<1>>,
    ) -> Result<HashMap<ParamId, Tensor<1>>> {
        let (rank, shards) = (self.place.rank, self.shards.clone());
        let mut sums = HashMap::new();
        for call in calls_of(&shards, rank) {
            let counts = call.counts(1);
            let mut values = Vec::with_capacity(counts.iter().sum());
            for shard in call.owned.iter().flatten() {
                let gradient = own.remove(&shard.id);
                // After each the number of ranks that have one.
                let has = f32::from(u8::from(gradient.is_some()));
                match gradient {
                    Some(gradient) => append(&mut values, gradient)?,
                    None => values.resize(values.len() + shard.elements.len(), 0.0),
                }
                values.push(has);
            }
            self.post.count_sent(rank, bytes_to_others(&counts, call.members, rank));
            let members = call.members.to_vec();
            let joint = Joint::Sums { members, counts, values };
            let mut part = &among(processes, joint)?[..];
            for shard in call.own(rank) {
                let (sum, rest) = part.split_at(shard.elements.len());
                let (has, rest) = rest.split_at(1);
                part = rest;
                if has[0] > 0.0 {
                    sums.insert(shard.id, self.tensor(sum));
                }
            }
        }
        // What nobody else holds.
        let alone = shards.owned_by(rank).filter(|shard| shard.holders.len() == 1);
        sums.extend(alone.filter_map(|shard| Some((shard.id, own.remove(&shard.id)?))));
        Ok(sums)
    }

    /// The values of what other ranks own, of `values`, which are those of what this one does.
    ///
    /// # Errors
    ///
    /// The library has ended.
    pub(super) fn gathered_together(
        &self,
        processes: &Processes,
        values: &HashMap<ParamId, Tensor<1>>,
    ) -> Result<HashMap<ParamId, Tensor<1>>> {
        let (rank, shards) = (self.place.rank, self.shards.clone());
        let mut gathered = HashMap::new();
        for call in calls_of(&shards, rank) {
            let counts = call.counts(0);
            let mut own = Vec::new();
            for shard in call.own(rank) {
                let value = values.get(&shard.id).context("invariant: an owner holds")?;
                append(&mut own, value.clone())?;
            }
            let others = (call.members.len() - 1) as u64;
            self.post.count_sent(rank, others * (own.len() * size_of::<f32>()) as u64);
            let members = call.members.to_vec();
            let joint = Joint::Parts { members, counts, values: own };
            let mut rest = &among(processes, joint)?[..];
            for shard in call.owned.iter().flatten() {
                let value;
                (value, rest) = rest.split_at(shard.elements.len());
                if shard.owner != rank {
                    gathered.insert(shard.id, self.tensor(value));
                }
            }
        }
        Ok(gathered)
    }

    fn tensor(&self, values: &[f32]) -> Tensor<1> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &self.device)
    }
}

/// Appends a tensor's values.
fn append(values: &mut Vec<f32>, tensor: Tensor<1>) -> Result<()> {
    let data = tensor.into_data();
    let all = data.as_slice::<f32>().ok().context("invariant: parameters are in FP32")?;
    values.extend_from_slice(all);
    Ok(())
}

/// Bytes of the parts of others.
fn bytes_to_others(counts: &[usize], members: &[usize], rank: usize) -> u64 {
    let others = counts.iter().zip(members).filter(|(_, member)| **member != rank);
    others.map(|(count, _)| (count * size_of::<f32>()) as u64).sum()
}

/// Makes a call with the other members.
fn among(processes: &Processes, joint: Joint) -> Result<Vec<f32>> {
    let home = processes.among(joint)?;
    processes.post.sign_of_life();
    match home {
        Joint::Values(values) => Ok(values),
        _ => unreachable!("invariant: values come of values"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(index: usize, holders: &[usize], owner: usize, count: usize) -> Shard {
        Shard {
            id: ParamId::new(),
            index,
            part: 0,
            holders: holders.to_vec(),
            owner,
            path: String::new(),
            elements: 0..count,
        }
    }

    /// Each holder makes the same calls of its shards, in one order that all ranks share: nobody
    /// waits for somebody who waits for him. No call has more than fits.
    #[test]
    fn holders_make_the_same_calls_in_the_same_order() {
        let much = VALUES_A_CALL;
        let all = [
            (&[0, 1][..], 1, 5),
            (&[0, 2], 0, much),
            (&[2], 2, 7),
            (&[0, 1], 0, much),
            (&[0, 1], 0, 3),
            (&[0, 2], 2, 9),
            (&[1, 2], 1, 1),
        ];
        let shards = Shards(
            all.iter()
                .enumerate()
                .map(|(i, (holders, owner, n))| shard(i, holders, *owner, *n))
                .collect(),
        );
        let indices = |rank: usize| -> Vec<(Vec<usize>, Vec<usize>)> {
            let calls = calls_of(&shards, rank);
            let of_call = |call: &Call| {
                let indices = call.owned.iter().flatten().map(|shard| shard.index).collect();
                (call.members.to_vec(), indices)
            };
            calls.iter().map(of_call).collect()
        };
        let (a, b) = ([0, 1], [0, 2]);
        let of_0 = [(a.to_vec(), vec![3, 0]), (a.to_vec(), vec![4])];
        assert_eq!(indices(0)[..2], of_0);
        assert_eq!(indices(0)[2..], [(b.to_vec(), vec![1]), (b.to_vec(), vec![5])]);
        assert_eq!(indices(1)[..2], of_0);
        assert_eq!(indices(1)[2..], [(vec![1, 2], vec![6])]);
        assert_eq!(indices(2).len(), 3, "what one rank holds is in no call");
        let calls = calls_of(&shards, 0);
        assert_eq!(calls[0].counts(1), [much + 1, 6]);
        assert_eq!(shards.groups(), [vec![0, 1], vec![0, 2], vec![1, 2]]);
        assert_eq!(bytes_to_others(&[3, 4, 5], &[0, 2, 7], 2), 32);
    }
}
