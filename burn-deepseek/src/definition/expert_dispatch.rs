//! How rows reach the experts and come back: where expert parallelism enters the model.

use std::fmt::Debug;

use burn::tensor::Tensor;

use super::ExpertGroups;

/// Carries the rows of a MoE layer to its experts, wherever those are.
///
/// The layer itself does not know whether its experts are all here
/// ([`LocalExperts`](crate::ops::LocalExperts)) or spread over ranks.
pub trait ExpertDispatch: Debug + Send + Sync {
    /// Sends each token of `x` to the experts that `groups` has for it.
    ///
    /// Whoever sends rows to others must know how many: where a device has chosen, this takes the
    /// host's view of `groups`, a read a layer.
    ///
    /// # Shapes
    ///
    /// - x: `[tokens, d]`
    fn dispatch(&self, x: Tensor<2>, groups: &ExpertGroups, layer: usize) -> DispatchedRows;
}

/// From the rows that experts have computed, `[rows here, d]`, and the gate values of the tokens
/// that were sent, `[tokens, top_k]`, to the weighted sums of the tokens' rows, `[tokens, d]`.
pub type ExpertCombine = Box<dyn FnOnce(Tensor<2>, Tensor<2>) -> Tensor<2>>;

/// What has arrived at the experts that are here.
pub struct DispatchedRows {
    /// Rows sorted by expert, `[rows here, d]`.
    pub rows: Tensor<2>,
    /// Which rows are whose; experts are counted from the first that is here.
    pub groups: ExpertGroups,
    /// Takes the results back and sums them. Where that happens is the dispatch's affair: sums that
    /// are made on the way cross fewer links.
    pub combine: ExpertCombine,
}
