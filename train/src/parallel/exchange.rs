//! Experts on other ranks: the rows of a MoE layer sent to them and back, forward and backward (3.2.2).

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_deepseek::moe::{Dispatched, ExpertDispatch};
use burn_deepseek::ops::{self, ExpertGroups};

use super::post::{Leg, Post, Subject};
use super::token::ComputeToken;

/// The ranks that share the experts of their layers, as one of them sees it. Rank `i` of `n` has the `i`-th `n`-th of the experts.
#[derive(Debug)]
pub struct ExpertGroup {
    /// Where messages go.
    pub post: Arc<Post>,
    /// Number and device of each rank.
    pub members: Vec<(usize, Device)>,
    /// Which of them this is.
    pub index: usize,
    /// What rows travel in on their way to experts and, combined, back.
    pub formats: WireFormats,
}

/// What rows travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireFormats {
    /// To experts: activations, and the gradients of results.
    pub dispatch: DType,
    /// Back to tokens: results, and the gradients of activations.
    pub combine: DType,
}

/// The exchanges of one micro-batch.
#[derive(Debug)]
pub struct ChunkExchange {
    group: Arc<ExpertGroup>,
    micro_batch: usize,
    token: Option<Arc<ComputeToken>>,
}

/// Rows with the number of them for each of the receiver's experts.
struct Parcel {
    rows: Option<Tensor<2>>,
    counts: Vec<u32>,
}

impl ChunkExchange {
    /// The exchanges of a micro-batch; where two micro-batches overlap, `token` is given up while rows are in flight.
    pub fn new(group: Arc<ExpertGroup>, micro_batch: usize, token: Option<Arc<ComputeToken>>) -> Self {
        Self { group, micro_batch, token }
    }
}

impl ExpertDispatch for ChunkExchange {
    fn dispatch(&self, x: Tensor<2>, groups: &ExpertGroups, layer: usize) -> Dispatched {
        let link = Arc::new(Link {
            group: self.group.clone(),
            micro_batch: self.micro_batch,
            token: self.token.clone(),
            layer,
            width: x.dims()[1],
            device: x.device().inner(),
            sent: groups.clone(),
        });
        let rows = ops::permute(x, groups);
        let (here, arrived) = link.to_experts(rows.clone().inner_or_self(), Leg::Dispatch);
        let arrived = Arc::new(arrived);
        let experts = ExpertGroups::new(&arrived.experts, 1, link.experts_here());

        let (back, back_order) = (link.clone(), arrived.clone());
        let rows = ops::with_gradient(rows, here, move |dy| back.to_tokens(dy, &back_order, Leg::DispatchBackward));
        let way_back = move |results: Tensor<2>| {
            let home = link.to_tokens(results.clone().inner_or_self(), &arrived, Leg::Combine);
            ops::with_gradient(results, home, move |dz| link.to_experts(dz, Leg::CombineBackward).0)
        };
        Dispatched { rows, groups: experts, way_back: Box::new(way_back) }
    }
}

/// One layer's exchanges of one micro-batch.
struct Link {
    group: Arc<ExpertGroup>,
    micro_batch: usize,
    token: Option<Arc<ComputeToken>>,
    layer: usize,
    width: usize,
    device: Device,
    sent: ExpertGroups,
}

/// How the rows that have arrived are sorted.
struct Arrived {
    /// The expert of each row, ascending; counted from the first that is here.
    experts: Vec<u32>,
    /// Where in the order of arrival (by sender, then as it had them) each sorted row stood.
    order: Vec<u32>,
    /// Rows of each sender.
    of_sender: Vec<usize>,
}

impl Arrived {
    /// Sorts by expert, then sender, then as the sender had them. `counts[s][e]` are the rows of sender `s` for expert `e`.
    fn new(counts: &[Vec<u32>]) -> Self {
        let experts_here = counts.first().map_or(0, Vec::len);
        let mut next = Vec::with_capacity(counts.len());
        let mut first = 0u32;
        for of_sender in counts {
            next.push(first);
            first += of_sender.iter().sum::<u32>();
        }
        let (mut experts, mut order) = (Vec::with_capacity(first as usize), Vec::with_capacity(first as usize));
        for expert in 0..experts_here {
            for (sender, of_sender) in counts.iter().enumerate() {
                let count = of_sender[expert];
                experts.extend(std::iter::repeat_n(expert as u32, count as usize));
                order.extend(next[sender]..next[sender] + count);
                next[sender] += count;
            }
        }
        let of_sender = counts.iter().map(|of_sender| of_sender.iter().map(|&count| count as usize).sum()).collect();
        Self { experts, order, of_sender }
    }

    /// Where each row in the order of arrival went.
    fn inverse(&self) -> Vec<u32> {
        let mut inverse = vec![0; self.order.len()];
        for (sorted, &arrived) in self.order.iter().enumerate() {
            inverse[arrived as usize] = sorted as u32;
        }
        inverse
    }
}

impl Link {
    fn experts_here(&self) -> usize {
        self.sent.experts() / self.group.members.len()
    }

    fn subject(&self, leg: Leg) -> Subject {
        Subject::Experts { micro_batch: self.micro_batch, layer: self.layer, leg }
    }

    /// Sends rows, sorted by expert, to whoever has the expert, and takes what arrives here, sorted by expert.
    fn to_experts(&self, rows: Tensor<2>, leg: Leg) -> (Tensor<2>, Arrived) {
        let here = self.experts_here();
        let (me, _) = self.group.members[self.group.index];
        let rows = rows.cast(self.group.formats.dispatch);
        for (member, (rank, device)) in self.group.members.iter().enumerate() {
            let offsets = &self.sent.offsets()[member * here..=(member + 1) * here];
            let (first, end) = (offsets[0], offsets[here]);
            let rows = (end > first).then(|| rows.clone().narrow(0, first, end - first).to_device(device));
            let counts = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u32).collect();
            self.group.post.send(me, *rank, self.subject(leg), Parcel { rows, counts });
        }
        let parcels: Vec<Parcel> = self.receive_all(leg);
        let arrived = Arrived::new(&parcels.iter().map(|parcel| parcel.counts.clone()).collect::<Vec<_>>());
        let rows = self.joined(parcels.into_iter().filter_map(|parcel| parcel.rows).collect());
        (self.select(rows, &arrived.order), arrived)
    }

    /// Sends rows, sorted by expert, back to whoever sent them, and takes what comes home, sorted as it was sent.
    fn to_tokens(&self, rows: Tensor<2>, arrived: &Arrived, leg: Leg) -> Tensor<2> {
        let (me, _) = self.group.members[self.group.index];
        let rows = self.select(rows, &arrived.inverse()).cast(self.group.formats.combine);
        let mut first = 0;
        for ((rank, device), &count) in self.group.members.iter().zip(&arrived.of_sender) {
            let rows = (count > 0).then(|| rows.clone().narrow(0, first, count).to_device(device));
            first += count;
            self.group.post.send(me, *rank, self.subject(leg), Parcel { rows, counts: Vec::new() });
        }
        let parcels: Vec<Parcel> = self.receive_all(leg);
        self.joined(parcels.into_iter().filter_map(|parcel| parcel.rows).collect())
    }

    /// One parcel of each member, in their order. A failure unwinds: it may come in the middle of a backward pass, which has no way to
    /// return it; the rank's thread catches it.
    fn receive_all(&self, leg: Leg) -> Vec<Parcel> {
        let (me, _) = self.group.members[self.group.index];
        let receive = || {
            let parcels = self.group.members.iter().map(|(rank, _)| self.group.post.receive(*rank, me, self.subject(leg)));
            parcels.collect::<Result<Vec<Parcel>, _>>()
        };
        let parcels = match &self.token {
            Some(token) => token.given_up(receive),
            None => receive(),
        };
        parcels.unwrap_or_else(|error| std::panic::panic_any(error))
    }

    fn joined(&self, parcels: Vec<Tensor<2>>) -> Tensor<2> {
        match parcels.len() {
            0 => Tensor::zeros([0, self.width], &self.device),
            _ => Tensor::cat(parcels, 0).cast(DType::F32),
        }
    }

    fn select(&self, rows: Tensor<2>, order: &[u32]) -> Tensor<2> {
        if order.iter().enumerate().all(|(i, &from)| i == from as usize) {
            return rows;
        }
        let order: Vec<i64> = order.iter().map(|&i| i64::from(i)).collect();
        let count = order.len();
        rows.select(0, Tensor::<1, Int>::from_data(TensorData::new(order, [count]), &self.device))
    }
}

/// A tensor without autodiff, whether it had it or not.
trait WithoutAutodiff {
    fn inner_or_self(self) -> Self;
}

impl WithoutAutodiff for Tensor<2> {
    fn inner_or_self(self) -> Self {
        if self.is_autodiff() { self.inner() } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_sorted_by_expert_then_sender() {
        let arrived = Arrived::new(&[vec![2, 0, 1], vec![1, 2, 0]]);
        assert_eq!(arrived.experts, [0, 0, 0, 1, 1, 2]);
        assert_eq!(arrived.order, [0, 1, 3, 4, 5, 2]);
        assert_eq!(arrived.of_sender, [3, 3]);
        assert_eq!(arrived.inverse(), [0, 1, 5, 2, 3, 4]);
    }
}
