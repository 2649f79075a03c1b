//! Experts on other ranks: the rows of a MoE layer sent to them and back, forward and backward
//! (3.2.2).
//!
//! Every row takes the same way, those for the rank's own experts too: whatever a row loses to its
//! format it loses wherever its expert is, so that the experts' results do not depend on how many
//! ranks share them. (Sums that are made on the way back, on the route of two hops, are rounded
//! once more for each hop; see [`super::two_hops`].)

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_deepseek::definition::{DispatchedRows, ExpertDispatch, ExpertGroups};
use burn_deepseek::ops::{self, wire};

use super::group::ExpertParallelGroup;
use super::layer_exchange::{LayerExchange, without_autodiff};
use super::subject::Leg;
use super::two_hops;
use super::wire::{Wire, identity, words_between};

/// The exchanges of one micro-batch.
#[derive(Debug)]
pub struct ChunkExchange {
    group: Arc<ExpertParallelGroup>,
    micro_batch: usize,
}

impl ChunkExchange {
    /// The exchanges of a micro-batch; whoever holds the group's token gives it up while rows are
    /// in flight.
    pub fn new(group: Arc<ExpertParallelGroup>, micro_batch: usize) -> Self {
        Self { group, micro_batch }
    }
}

impl ExpertDispatch for ChunkExchange {
    fn dispatch(&self, x: Tensor<2>, groups: &ExpertGroups, layer: usize) -> DispatchedRows {
        let exchange = Arc::new(LayerExchange {
            group: self.group.clone(),
            micro_batch: self.micro_batch,
            layer,
            wire: Wire {
                as_words: words_between(self.group.members.iter().map(|(_, device)| device)),
                width: x.dims()[1],
                device: x.device().inner(),
            },
            sent: groups.clone(),
        });
        if self.group.nodes() > 1 { two_hops::dispatch(exchange, x) } else { direct(exchange, x) }
    }
}

/// A row for each expert of a token, straight to the expert's rank and straight back.
fn direct(exchange: Arc<LayerExchange>, x: Tensor<2>) -> DispatchedRows {
    let plan = exchange.sent.plan();
    let formats = exchange.group.formats;
    let (rows, arrived) = exchange.to_experts(
        &exchange.wire,
        without_autodiff(x.clone()),
        plan.token_of_row(),
        formats.dispatch,
        Leg::Dispatch,
    );
    let arrived = Arc::new(arrived);
    let experts = ExpertGroups::new(arrived.experts(), 1, exchange.experts_here());
    let (back, back_arrived) = (exchange.clone(), arrived.clone());
    let rows = ops::with_gradient(x, rows, move |dy| {
        let sums = wire::token_sums(&back.sent, &dy);
        let home =
            back.to_tokens(&back.wire, dy, &back_arrived, formats.combine, Leg::DispatchBackward);
        back.wire.sum(home, &sums, formats.combine)
    });
    let combine = move |results: Tensor<2>, weights: Tensor<2>| {
        let index = identity(exchange.sent.rows());
        let home = exchange.to_tokens(
            &exchange.wire,
            without_autodiff(results.clone()),
            &arrived,
            formats.combine,
            Leg::Combine,
        );
        let home = exchange.wire.unpack(home, &index, formats.combine);
        let sent = exchange.sent.clone();
        let home = ops::with_gradient(results, home, move |dz| {
            exchange
                .to_experts(&exchange.wire, dz, &index, formats.dispatch, Leg::CombineBackward)
                .0
        });
        ops::combine(home, weights, &sent)
    };
    DispatchedRows { rows, groups: experts, combine: Box::new(combine) }
}
