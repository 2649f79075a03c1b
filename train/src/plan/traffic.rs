//! What crosses the links: tokens to experts and back, activations between stages, gradients and
//! weights between copies (3.2).

use burn_deepseek::DeepSeekConfig;
use serde::Serialize;

use super::memory::{GRADIENT_BYTES, RankParameters};
use super::routing::{Reach, Spread};
use super::stages::Stages;
use super::workload::Workload;
use crate::config::ClusterConfig;

/// Bytes that one GPU sends, and on average receives, over each kind of link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Links {
    /// Inside the node.
    pub fast: f64,
    /// To other nodes.
    pub slow: f64,
}

/// One way to bring tokens to their experts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// Whether a token may choose from `topk_group` groups only.
    pub limited: bool,
    /// Whether a token crosses to a node once, to the GPU with the sender's place in its node, and
    /// is passed on from there (3.2.2); else it goes from its sender to each rank.
    pub two_hops: bool,
    /// Expected nodes and ranks of a token.
    pub spread: Spread,
    /// Rows to experts, of one MoE layer and micro-batch.
    pub dispatch: Links,
    /// Rows back. The sums of a node are made before they cross.
    pub combine: Links,
}

/// All that crosses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Traffic {
    /// Over how many nodes and ranks experts are spread; none where every rank has all experts.
    pub reach: Option<Reach>,
    /// Bytes of a row to an expert, and of one back.
    pub row_bytes: (usize, usize),
    /// The ways to dispatch, the planned one first.
    pub routes: Vec<Route>,
    /// Bytes of a micro-batch's activations, or their gradients, between two stages.
    pub message_bytes: f64,
    /// Whether they cross to another node.
    pub message_is_slow: bool,
    /// Bytes that the rank with the most sends to sum gradients over the copies of its parameters,
    /// in a ring: `(n - 1) / n` of them.
    pub gradients_bytes: f64,
    /// Bytes of updated weights, the other half of ZeRO-1.
    pub weights_bytes: f64,
    /// Whether copies are on other nodes.
    pub copies_are_slow: bool,
    /// Dispatch and combine of a step, forward and backward, of the rank with most MoE layers.
    pub step: Links,
}

impl Traffic {
    /// The traffic of a workload that has no problems.
    pub(super) fn new(
        model: &DeepSeekConfig,
        workload: &Workload,
        cluster: &ClusterConfig,
        stages: &Stages,
    ) -> Self {
        let axes = workload.axes;
        let (gpus, nodes) = (cluster.node.gpus, cluster.node.count);
        let d = model.hidden_size;
        let row_bytes = workload.row_bytes(d);
        let reach = (axes.expert > 1)
            .then(|| Reach::new(model, axes.expert, if nodes > 1 { gpus } else { axes.expert }));
        let routes = reach.map_or_else(Vec::new, |reach| {
            // Without groups to leave out there is one router, and on one node one way.
            let ways = [(true, true), (true, false), (false, true), (false, false)];
            let exists = |&(limited, two_hops): &(bool, bool)| {
                (two_hops || reach.nodes > 1) && (limited == reach.limited || reach.limited)
            };
            let route = |(limited, two_hops)| {
                route(&reach, limited, two_hops, workload.chunk_tokens() as f64, row_bytes)
            };
            ways.into_iter().filter(exists).map(route).collect()
        });
        let moe_layers =
            stages.of_rank.iter().map(|held| moe_layers_a_chunk(stages, held)).fold(0.0, f64::max);
        // Forward, and backward the same way.
        let passes = moe_layers * workload.chunks() as f64 * 2.0;
        let step = routes.first().map_or_else(Links::default, |route| Links {
            fast: passes * (route.dispatch.fast + route.combine.fast),
            slow: passes * (route.dispatch.slow + route.combine.slow),
        });
        let shared = RankParameters::of_ranks(model, workload, stages)
            .into_iter()
            .map(|rank| rank.in_ring(workload, stages.holders));
        let most = shared.fold(0.0, f64::max);
        Self {
            reach,
            row_bytes,
            routes,
            message_bytes: (workload.chunk_tokens() * d * workload.plain_bytes()) as f64,
            message_is_slow: nodes > 1 && axes.pipeline * axes.expert > gpus,
            gradients_bytes: most * GRADIENT_BYTES,
            weights_bytes: most * workload.plain_bytes() as f64,
            copies_are_slow: nodes > 1,
            step,
        }
    }
}

/// MoE layers that a micro-batch passes on a rank: of DualPipe's two stages it passes one or the
/// other, of DualPipeV's both.
fn moe_layers_a_chunk(stages: &Stages, held: &[usize]) -> f64 {
    held.iter().map(|&stage| stages.moe_layers[stage] as f64).sum::<f64>() / stages.holders as f64
}

/// The bytes of a route. Every node is as likely as any other, so `(N - 1) / N` of the nodes that a
/// token visits are not its own, and `(g - 1) / g` of the ranks that it visits have another place
/// in their node than its sender.
fn route(
    reach: &Reach,
    limited: bool,
    two_hops: bool,
    tokens: f64,
    (dispatch, combine): (usize, usize),
) -> Route {
    let spread = if limited { reach.router } else { reach.unlimited };
    let (nodes, ranks) = (reach.nodes as f64, reach.ranks as f64);
    let remote = (nodes - 1.0) / nodes;
    let other_places = 1.0 - nodes / ranks;
    let rows = if two_hops {
        Links { fast: spread.ranks * other_places, slow: spread.nodes * remote }
    } else {
        Links { fast: spread.ranks / nodes * other_places, slow: spread.ranks * remote }
    };
    let bytes = |row: usize| Links {
        fast: rows.fast * tokens * row as f64,
        slow: rows.slow * tokens * row as f64,
    };
    Route { limited, two_hops, spread, dispatch: bytes(dispatch), combine: bytes(combine) }
}
