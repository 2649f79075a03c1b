//! How experts are chosen from scores (2.1.2).

use super::{KernelError, element_count};

/// How a group of experts is scored where a token may choose from some groups only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum GroupScore {
    /// By the sum of its two best experts, or its one where it has but one (DeepSeek-V3).
    #[default]
    BestTwo,
    /// By its best expert (DeepSeek-V2).
    Best,
}

/// The choice of experts of `tokens` tokens.
///
/// Experts are ranked by `score + bias` in FP32. Of equal ones the lower index is first, and NaN is
/// behind every number, also behind minus infinity. Where `kept_groups` is below `groups`, experts
/// of all but the best groups, ranked alike, count as minus infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteShape {
    /// Tokens.
    pub tokens: usize,
    /// Routed experts.
    pub experts: usize,
    /// Experts that a token chooses.
    pub top_k: usize,
    /// Groups of neighbouring experts, all of one size.
    pub groups: usize,
    /// Groups that a token may choose from.
    pub kept_groups: usize,
    /// How a group is scored.
    pub group_score: GroupScore,
}

impl RouteShape {
    /// Slots: experts of all tokens.
    pub const fn slots(&self) -> usize {
        self.tokens * self.top_k
    }

    /// Experts chosen a token, and groups kept, that a device's kernel holds in registers at most.
    pub const MOST_ON_A_DEVICE: usize = 64;

    /// Whether a device's kernel can hold what a token chooses.
    pub const fn fits_a_device(&self) -> bool {
        self.top_k <= Self::MOST_ON_A_DEVICE && self.kept_groups <= Self::MOST_ON_A_DEVICE
    }

    /// Whether a token may choose from some groups only.
    pub const fn is_limited(&self) -> bool {
        self.kept_groups < self.groups
    }

    /// Refuses what no choice can be made of.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where a token cannot choose `top_k` experts, or groups do not divide
    /// them; [`KernelError::Overflow`] where scores or slots cannot be counted.
    pub fn check(&self, op: &'static str) -> Result<(), KernelError> {
        element_count(op, "scores", &[self.tokens, self.experts])?;
        element_count(op, "choices", &[self.tokens, self.top_k])?;
        let invalid =
            |argument, requirement| Err(KernelError::Invalid { op, argument, requirement });
        if self.top_k == 0 || self.top_k > self.experts {
            return invalid("top_k", "must be at least 1 and at most the number of experts");
        }
        if self.groups == 0 || !self.experts.is_multiple_of(self.groups) {
            return invalid("groups", "must divide the experts");
        }
        if self.kept_groups == 0 || self.kept_groups > self.groups {
            return invalid("kept_groups", "must be at least 1 and at most the number of groups");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_choice_can_be_made_of_is_named() {
        let shape = RouteShape {
            tokens: 3,
            experts: 8,
            top_k: 2,
            groups: 4,
            kept_groups: 2,
            group_score: GroupScore::BestTwo,
        };
        assert!(shape.check("route").is_ok());
        let argument = |shape: RouteShape| match shape.check("route") {
            Err(KernelError::Invalid { argument, .. } | KernelError::Overflow { argument, .. }) => {
                argument
            }
            other => panic!("{shape:?}: {other:?}"),
        };
        for top_k in [0, 9] {
            assert_eq!(argument(RouteShape { top_k, ..shape }), "top_k");
        }
        for groups in [0, 3, 16] {
            assert_eq!(argument(RouteShape { groups, ..shape }), "groups");
        }
        for kept_groups in [0, 5] {
            assert_eq!(argument(RouteShape { kept_groups, ..shape }), "kept_groups");
        }
        assert_eq!(argument(RouteShape { tokens: usize::MAX, ..shape }), "scores");
    }
}
