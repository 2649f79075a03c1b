//! Where the tokens of a rank go: counts and offsets from one routing decision (2.1.2, 3.2.2).

use std::ops::Range;

use super::KernelError;
use super::wire::check_index;

/// Rows of a batch sorted by expert, and so by the rank that has the expert: ranks have consecutive
/// runs of experts.
///
/// A token chosen by `k` experts owns `k` slots; slot `token * k + j` is the `j`-th choice of
/// `token`. Sorting the slots by expert (stable, so by token inside an expert) gives the *rows*
/// that experts compute. Nothing is dropped and nothing padded: `rows == tokens * k`.
///
/// ```
/// use cubecl_kernels::definition::DispatchPlan;
///
/// // Three tokens that choose two of four experts each.
/// let plan = DispatchPlan::new(&[2, 0, 0, 2, 3, 0], 2, 4)?;
/// assert_eq!(plan.offsets(), [0, 3, 3, 5, 6]);
/// assert_eq!(plan.token_of_row(), [0, 1, 2, 0, 1, 2]);
/// # Ok::<(), cubecl_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DispatchPlan {
    tokens: usize,
    top_k: usize,
    offsets: Vec<usize>,
    token_of_row: Vec<u32>,
    row_of_slot: Vec<u32>,
}

impl DispatchPlan {
    /// Sorts the choices of every token by expert: a counting sort, O(tokens * top_k + experts).
    ///
    /// # Shapes
    /// - `choices [tokens, top_k]`, numbers of experts
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where `choices` is not a multiple of `top_k`,
    /// [`KernelError::Index`] where a choice is not below `experts`.
    pub fn new(choices: &[u32], top_k: usize, experts: usize) -> Result<Self, KernelError> {
        const OP: &str = "dispatch_plan";
        if top_k == 0 || !choices.len().is_multiple_of(top_k) {
            let requirement = "must hold top_k choices, at least one, for every token";
            return Err(KernelError::Invalid { op: OP, argument: "choices", requirement });
        }
        if choices.len() >= u32::MAX as usize {
            return Err(KernelError::Overflow {
                op: OP,
                argument: "choices",
                shape: vec![choices.len()],
            });
        }
        let mut offsets = vec![0usize; experts + 1];
        for (position, &expert) in choices.iter().enumerate() {
            check_index(OP, "choices", position, expert, experts)?;
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
        Ok(Self { tokens: choices.len() / top_k, top_k, offsets, token_of_row, row_of_slot })
    }

    /// Tokens routed.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Experts a token.
    pub fn top_k(&self) -> usize {
        self.top_k
    }

    /// Number of experts.
    pub fn experts(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Number of rows that the experts compute, `tokens * top_k`.
    pub fn rows(&self) -> usize {
        self.token_of_row.len()
    }

    /// First row of each expert, and the number of rows at the end: `experts + 1` entries.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The token that each row is a copy of.
    pub fn token_of_row(&self) -> &[u32] {
        &self.token_of_row
    }

    /// The row of each slot, token by token.
    pub fn row_of_slot(&self) -> &[u32] {
        &self.row_of_slot
    }

    /// Rows of each expert.
    pub fn counts(&self) -> Vec<u32> {
        self.offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u32).collect()
    }

    /// The rows that go to place `place` of `places`, each of which has an equal run of the
    /// experts.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where `places` does not divide the experts, [`KernelError::Index`]
    /// where there is no such place.
    pub fn rows_of(&self, place: usize, places: usize) -> Result<Range<usize>, KernelError> {
        const OP: &str = "dispatch_plan";
        let experts = self.experts_a_place(places)?;
        check_index(OP, "place", 0, u32::try_from(place).unwrap_or(u32::MAX), places)?;
        Ok(self.offsets[place * experts]..self.offsets[(place + 1) * experts])
    }

    /// The tokens that have at least one expert at a place, each once and ascending: what crosses
    /// to a node (3.2.2).
    ///
    /// # Errors
    /// Fails as [`DispatchPlan::rows_of`] does.
    pub fn tokens_of(&self, place: usize, places: usize) -> Result<Vec<u32>, KernelError> {
        let mut tokens = self.token_of_row[self.rows_of(place, places)?].to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        Ok(tokens)
    }

    /// Experts of each of so many places.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where `places` does not divide them.
    pub fn experts_a_place(&self, places: usize) -> Result<usize, KernelError> {
        if places > 0 && self.experts().is_multiple_of(places) {
            return Ok(self.experts() / places);
        }
        Err(KernelError::Invalid {
            op: "dispatch_plan",
            argument: "places",
            requirement: "must divide the number of experts",
        })
    }
}

/// How the rows that have arrived from several senders are sorted for the experts: by expert, then
/// by sender, then as the sender had them.
///
/// That is the order in which one rank with all tokens would have them, whatever way they took.
///
/// ```
/// use cubecl_kernels::definition::ArrivalPlan;
///
/// // Two senders, each with the rows that it has for three experts.
/// let arrived = ArrivalPlan::new(&[vec![2, 0, 1], vec![1, 2, 0]])?;
/// assert_eq!(arrived.experts(), [0, 0, 0, 1, 1, 2]);
/// assert_eq!(arrived.order(), [0, 1, 3, 4, 5, 2]);
/// # Ok::<(), cubecl_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArrivalPlan {
    experts: Vec<u32>,
    order: Vec<u32>,
    of_sender: Vec<usize>,
}

impl ArrivalPlan {
    /// From the rows of each sender for each expert that is here, `counts[sender][expert]`.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where the senders do not have counts of equally many experts, or
    /// sum to more rows than 32 bits hold.
    pub fn new(counts: &[Vec<u32>]) -> Result<Self, KernelError> {
        const OP: &str = "arrival_plan";
        let experts_here = counts.first().map_or(0, Vec::len);
        if counts.iter().any(|of_sender| of_sender.len() != experts_here) {
            let requirement = "must have a count for each expert here, from every sender";
            return Err(KernelError::Invalid { op: OP, argument: "counts", requirement });
        }
        let of_sender: Vec<usize> =
            counts.iter().map(|of| of.iter().map(|&count| count as usize).sum()).collect();
        let total: usize = of_sender.iter().sum();
        if total >= u32::MAX as usize {
            return Err(KernelError::Overflow { op: OP, argument: "counts", shape: vec![total] });
        }
        let mut next: Vec<u32> = of_sender
            .iter()
            .scan(0, |first, &count| {
                let start = *first;
                *first += count as u32;
                Some(start)
            })
            .collect();
        let (mut experts, mut order) = (Vec::with_capacity(total), Vec::with_capacity(total));
        for expert in 0..experts_here {
            for (next, of_sender) in next.iter_mut().zip(counts) {
                let count = of_sender[expert];
                experts.extend(std::iter::repeat_n(expert as u32, count as usize));
                order.extend(*next..*next + count);
                *next += count;
            }
        }
        Ok(Self { experts, order, of_sender })
    }

    /// The expert of each sorted row, ascending; counted from the first that is here.
    pub fn experts(&self) -> &[u32] {
        &self.experts
    }

    /// Where in the order of arrival (by sender, then as it had them) each sorted row stood.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Rows of each sender.
    pub fn of_sender(&self) -> &[usize] {
        &self.of_sender
    }

    /// Where each row in the order of arrival went.
    pub fn inverse(&self) -> Vec<u32> {
        let mut inverse = vec![0; self.order.len()];
        for (sorted, &arrived) in self.order.iter().enumerate() {
            inverse[arrived as usize] = sorted as u32;
        }
        inverse
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_inputs::random_indices;

    #[test]
    fn rows_are_sorted_by_expert_and_stable_by_token() {
        let plan = DispatchPlan::new(&[2, 0, 0, 2, 3, 0], 2, 4).unwrap();
        assert_eq!((plan.offsets(), plan.counts()), (&[0, 3, 3, 5, 6][..], vec![3, 0, 2, 1]));
        assert_eq!(plan.token_of_row(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(plan.row_of_slot(), [3, 0, 1, 4, 5, 2]);
        assert_eq!((plan.rows_of(0, 2).unwrap(), plan.rows_of(1, 2).unwrap()), (0..3, 3..6));
        assert_eq!(
            (plan.tokens_of(1, 2).unwrap(), plan.tokens_of(1, 4).unwrap()),
            (vec![0, 1, 2], vec![])
        );
    }

    #[test]
    fn a_token_with_several_experts_at_a_place_is_there_once() {
        // Every token to experts 0 and 1, which are both of the first place.
        let plan = DispatchPlan::new(&[0, 1, 1, 0, 0, 1], 2, 4).unwrap();
        assert_eq!(plan.rows_of(0, 2).unwrap(), 0..6);
        assert_eq!(
            (plan.tokens_of(0, 2).unwrap(), plan.tokens_of(1, 2).unwrap()),
            (vec![0, 1, 2], vec![])
        );
    }

    #[test]
    fn every_slot_has_its_row_and_places_share_the_rows() {
        for (seed, tokens, top_k, experts, places) in
            [(1, 0, 2, 6, 3), (2, 50, 3, 12, 4), (3, 7, 1, 1, 1), (4, 200, 8, 64, 8)]
        {
            let choices: Vec<u32> = random_indices(seed, tokens * top_k, experts)
                .into_iter()
                .map(|e| e as u32)
                .collect();
            let plan = DispatchPlan::new(&choices, top_k, experts).unwrap();
            for (slot, &row) in plan.row_of_slot().iter().enumerate() {
                let expert = choices[slot] as usize;
                assert!(
                    (plan.offsets()[expert]..plan.offsets()[expert + 1]).contains(&(row as usize))
                );
                assert_eq!(plan.token_of_row()[row as usize] as usize, slot / top_k);
            }
            let mut end = 0;
            for place in 0..places {
                let rows = plan.rows_of(place, places).unwrap();
                assert_eq!(rows.start, end);
                end = rows.end;
            }
            assert_eq!(end, tokens * top_k);
        }
    }

    #[test]
    fn what_arrives_is_sorted_by_expert_then_sender() {
        let arrived = ArrivalPlan::new(&[vec![2, 0, 1], vec![1, 2, 0]]).unwrap();
        assert_eq!(arrived.experts(), [0, 0, 0, 1, 1, 2]);
        assert_eq!(arrived.order(), [0, 1, 3, 4, 5, 2]);
        assert_eq!(arrived.of_sender(), [3, 3]);
        assert_eq!(arrived.inverse(), [0, 1, 5, 2, 3, 4]);
        assert_eq!(ArrivalPlan::new(&[]).unwrap(), ArrivalPlan::default());
    }

    #[test]
    fn bad_arguments_are_named() {
        let error = DispatchPlan::new(&[0, 4], 1, 4).unwrap_err().to_string();
        assert_eq!(error, "dispatch_plan: `choices[1]` is 4, it must lie in 0..4");
        for top_k in [0, 2] {
            assert!(matches!(
                DispatchPlan::new(&[0, 1, 2], top_k, 4),
                Err(KernelError::Invalid { argument: "choices", .. })
            ));
        }
        let plan = DispatchPlan::new(&[0, 1], 1, 4).unwrap();
        assert!(matches!(plan.rows_of(0, 3), Err(KernelError::Invalid { argument: "places", .. })));
        assert!(matches!(
            plan.tokens_of(0, 0),
            Err(KernelError::Invalid { argument: "places", .. })
        ));
        assert!(matches!(
            plan.rows_of(2, 2),
            Err(KernelError::Index { argument: "place", bound: 2, .. })
        ));
        assert!(matches!(
            ArrivalPlan::new(&[vec![1], vec![]]),
            Err(KernelError::Invalid { argument: "counts", .. })
        ));
    }
}
