//! The ranks that share the experts of their layers.

use std::sync::Arc;

use burn::tensor::Device;

use super::post::Post;
use super::token::ComputeToken;
use super::traffic::{Crosses, TrafficCounter};
use super::wire::WireFormats;

/// The ranks that share the experts of their layers, as one of them sees it. Rank `i` of `n` has
/// the `i`-th `n`-th of the experts.
#[derive(Debug)]
pub struct ExpertParallelGroup {
    /// Where messages go.
    pub post: Arc<Post>,
    /// Number and device of each rank.
    pub members: Vec<(usize, Device)>,
    /// The index of this rank among the members.
    pub index: usize,
    /// What rows travel in on their way to experts and, combined, back.
    pub formats: WireFormats,
    /// Consecutive members that are in one node; divides their number.
    pub members_a_node: usize,
    /// Where bytes are counted.
    pub traffic: Arc<TrafficCounter>,
    /// Where two micro-batches of this rank overlap, the right to compute: given up while rows are
    /// waited for, in a pass forward and in one backward alike.
    pub token: ComputeToken,
}

impl ExpertParallelGroup {
    /// Nodes that the members are in.
    pub(super) fn nodes(&self) -> usize {
        self.members.len() / self.members_a_node.max(1)
    }

    /// What a message between two members crosses.
    pub(super) fn crosses(&self, from: usize, to: usize) -> Crosses {
        let node = |member: usize| member / self.members_a_node.max(1);
        match (from == to, node(from) == node(to)) {
            (true, _) => Crosses::Nothing,
            (_, true) => Crosses::Fast,
            _ => Crosses::Slow,
        }
    }
}
