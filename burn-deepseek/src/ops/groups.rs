//! Which rows belong to which expert: the host's view of one routing decision, shared by permute, grouped linear and combine.

use std::sync::Arc;

/// Rows of a batch sorted by expert.
///
/// A token chosen by `k` experts owns `k` slots; slot `token * k + j` is the `j`-th choice of `token`. Sorting the slots by
/// expert (stable, so by token inside an expert) gives the *rows* that the experts compute. Nothing is dropped and nothing is
/// padded: `rows == tokens * k`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpertGroups {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    tokens: usize,
    top_k: usize,
    offsets: Vec<usize>,
    token_of_row: Vec<u32>,
    row_of_slot: Vec<u32>,
}

impl ExpertGroups {
    /// Sorts the choices of every token by expert.
    ///
    /// `choices` holds `tokens * top_k` expert numbers, token by token. A counting sort: O(tokens * top_k + experts).
    ///
    /// # Panics
    ///
    /// When a choice is not below `experts`, or `choices` is not a multiple of `top_k` (both are the router's own invariants).
    pub fn new(choices: &[u32], top_k: usize, experts: usize) -> Self {
        assert!(top_k > 0 && choices.len().is_multiple_of(top_k), "invariant: top_k choices for every token");
        let mut offsets = vec![0usize; experts + 1];
        for &expert in choices {
            offsets[expert as usize + 1] += 1;
        }
        for expert in 0..experts {
            offsets[expert + 1] += offsets[expert];
        }
        let mut next = offsets.clone();
        let mut token_of_row = vec![0u32; choices.len()];
        let mut row_of_slot = vec![0u32; choices.len()];
        for (slot, &expert) in choices.iter().enumerate() {
            let row = next[expert as usize];
            next[expert as usize] += 1;
            token_of_row[row] = (slot / top_k) as u32;
            row_of_slot[slot] = row as u32;
        }
        let tokens = choices.len() / top_k;
        Self { inner: Arc::new(Inner { tokens, top_k, offsets, token_of_row, row_of_slot }) }
    }

    /// Tokens routed.
    pub fn tokens(&self) -> usize {
        self.inner.tokens
    }

    /// Experts a token.
    pub fn top_k(&self) -> usize {
        self.inner.top_k
    }

    /// Number of experts.
    pub fn experts(&self) -> usize {
        self.inner.offsets.len() - 1
    }

    /// Number of rows that the experts compute, `tokens * top_k`.
    pub fn rows(&self) -> usize {
        self.inner.token_of_row.len()
    }

    /// First row of each expert, and the number of rows at the end: `experts + 1` entries.
    pub fn offsets(&self) -> &[usize] {
        &self.inner.offsets
    }

    /// The token that each row is a copy of.
    pub fn token_of_row(&self) -> &[u32] {
        &self.inner.token_of_row
    }

    /// The row of each slot, token by token.
    pub fn row_of_slot(&self) -> &[u32] {
        &self.inner.row_of_slot
    }

    /// Tokens that chose each expert.
    pub fn loads(&self) -> Vec<u64> {
        self.inner.offsets.windows(2).map(|w| (w[1] - w[0]) as u64).collect()
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
