//! Which rows belong to which expert: the host's view of one routing decision, shared by permute,
//! grouped linear and combine.

use std::sync::Arc;

use cubecl_kernels::definition::DispatchPlan;

use super::Kept;

/// Rows of a batch sorted by expert: a [`DispatchPlan`] that is shared.
///
/// A token chosen by `k` experts owns `k` slots; slot `token * k + j` is the `j`-th choice of
/// `token`. Sorting the slots by expert (stable, so by token inside an expert) gives the *rows*
/// that the experts compute. Nothing is dropped and nothing is padded: `rows == tokens * k`.
///
/// ```
/// use burn_deepseek::definition::ExpertGroups;
///
/// // Two of three experts for each of two tokens: (0, 2) and (0, 1).
/// let groups = ExpertGroups::new(&[0, 2, 0, 1], 2, 3);
/// assert_eq!(groups.offsets(), [0, 2, 3, 4]); // expert 0 has rows 0 and 1
/// assert_eq!(groups.token_of_row(), [0, 1, 1, 0]);
/// assert_eq!(groups.row_of_slot(), [0, 3, 1, 2]);
/// assert_eq!(groups.loads(), [2, 1, 1]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpertGroups {
    inner: Arc<DispatchPlan>,
    kept: Kept,
}

impl ExpertGroups {
    /// Sorts the choices of every token by expert.
    ///
    /// `choices` holds `tokens * top_k` expert numbers, token by token. A counting sort: O(tokens *
    /// top_k + experts).
    ///
    /// # Panics
    ///
    /// When a choice is not below `experts`, or `choices` is not a multiple of `top_k` (both are
    /// the router's own invariants).
    pub fn new(choices: &[u32], top_k: usize, experts: usize) -> Self {
        let plan = DispatchPlan::new(choices, top_k, experts)
            .unwrap_or_else(|error| panic!("invariant: top_k experts a token: {error}"));
        Self { inner: Arc::new(plan), kept: Kept::default() }
    }

    /// The plan.
    pub fn plan(&self) -> &DispatchPlan {
        &self.inner
    }

    /// What backends have made of the plan: its tables on their devices.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Tokens routed.
    pub fn tokens(&self) -> usize {
        self.inner.tokens()
    }

    /// Experts a token.
    pub fn top_k(&self) -> usize {
        self.inner.top_k()
    }

    /// Number of experts.
    pub fn experts(&self) -> usize {
        self.inner.experts()
    }

    /// Number of rows that the experts compute, `tokens * top_k`.
    pub fn rows(&self) -> usize {
        self.inner.rows()
    }

    /// First row of each expert, and the number of rows at the end: `experts + 1` entries.
    pub fn offsets(&self) -> &[usize] {
        self.inner.offsets()
    }

    /// The token that each row is a copy of.
    pub fn token_of_row(&self) -> &[u32] {
        self.inner.token_of_row()
    }

    /// The row of each slot, token by token.
    pub fn row_of_slot(&self) -> &[u32] {
        self.inner.row_of_slot()
    }

    /// Tokens that chose each expert.
    pub fn loads(&self) -> Vec<u64> {
        self.inner.counts().into_iter().map(u64::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_expert_and_stable_by_token() {
        let groups = ExpertGroups::new(&[2, 0, 0, 2, 3, 0], 2, 4);
        assert_eq!(groups.offsets(), [0, 3, 3, 5, 6]);
        assert_eq!(groups.token_of_row(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(groups.row_of_slot(), [3, 0, 1, 4, 5, 2]);
        assert_eq!(groups.loads(), [3, 0, 2, 1]);
    }

    #[test]
    fn no_tokens_leave_every_expert_empty() {
        let groups = ExpertGroups::new(&[], 2, 3);
        assert_eq!((groups.tokens(), groups.rows(), groups.offsets()), (0, 0, &[0, 0, 0, 0][..]));
    }
}
