//! The choice of experts from scores: biased, node-limited, exact, on the host (2.1.2).

use cubecl_kernels::definition::{GroupScore, RouteShape};

use crate::config::{DeepSeekConfig, TopkMethod};

/// Settings of the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertSelection {
    /// Routed experts.
    pub experts: usize,
    /// Experts chosen a token.
    pub top_k: usize,
    /// Groups that the experts are divided into.
    pub groups: usize,
    /// Groups a token may choose from.
    pub kept_groups: usize,
    /// How a group is scored.
    pub method: TopkMethod,
}

impl ExpertSelection {
    /// The selection of a model.
    pub fn new(config: &DeepSeekConfig) -> Self {
        let grouped = config.topk_method != TopkMethod::Greedy;
        Self {
            experts: config.n_routed_experts,
            top_k: config.num_experts_per_tok,
            groups: if grouped { config.n_group.max(1) } else { 1 },
            kept_groups: if grouped { config.topk_group.max(1) } else { 1 },
            method: config.topk_method,
        }
    }

    /// The choice of so many tokens as a device makes it.
    pub(super) fn shape(&self, tokens: usize) -> RouteShape {
        let Self { experts, top_k, groups, kept_groups, method } = *self;
        let group_score = match method {
            TopkMethod::NoauxTc => GroupScore::BestTwo,
            _ => GroupScore::Best,
        };
        RouteShape { tokens, experts, top_k, groups, kept_groups, group_score }
    }

    /// Experts of every token, in ascending order, `[tokens * top_k]`.
    ///
    /// Choice is by `score + bias`, among the experts of the `kept_groups` best groups; experts of
    /// other groups are out of the race altogether (masked with -inf: a zero mask would let them in
    /// where biases are negative). Of equal scores the lower index wins; NaN never wins over a
    /// number.
    ///
    /// # Shapes
    ///
    /// - scores: `[tokens * experts]`, bias: `[experts]`
    pub fn choose(&self, scores: &[f32], bias: &[f32]) -> Vec<u32> {
        self.choose_noting(scores, bias, |_| ())
    }

    /// As [`choose`](Self::choose); `note` is told the groups that each token may choose from, in
    /// no particular order.
    pub(super) fn choose_noting(
        &self,
        scores: &[f32],
        bias: &[f32],
        mut note: impl FnMut(&[u32]),
    ) -> Vec<u32> {
        let mut chosen = Vec::with_capacity(scores.len() / self.experts.max(1) * self.top_k);
        let mut biased = vec![0f32; self.experts];
        let mut best = Vec::with_capacity(self.top_k);
        let mut kept: Vec<u32> = (0..self.groups as u32).collect();
        for token in scores.chunks_exact(self.experts) {
            for ((out, &score), &bias) in biased.iter_mut().zip(token).zip(bias) {
                *out = score + bias;
            }
            if self.kept_groups < self.groups {
                self.mask_groups(&mut biased, &mut kept);
            }
            note(&kept);
            top_indices(&biased, self.top_k, &mut best);
            best.sort_unstable();
            chosen.extend_from_slice(&best);
        }
        chosen
    }

    /// Sets the experts of all but the best groups, `kept`, to -inf.
    fn mask_groups(&self, biased: &mut [f32], kept: &mut Vec<u32>) {
        let per_group = self.experts / self.groups;
        let scores: Vec<f32> =
            biased.chunks_exact(per_group).map(|group| self.group_score(group)).collect();
        top_indices(&scores, self.kept_groups, kept);
        for (group, experts) in biased.chunks_exact_mut(per_group).enumerate() {
            if !kept.contains(&(group as u32)) {
                experts.fill(f32::NEG_INFINITY);
            }
        }
    }

    /// Sum of the two best for V3, the best for V2.
    fn group_score(&self, group: &[f32]) -> f32 {
        let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for &score in group {
            if score > first {
                (first, second) = (score, first);
            } else if score > second {
                second = score;
            }
        }
        match self.method {
            TopkMethod::NoauxTc if group.len() > 1 => first + second,
            _ => first,
        }
    }
}

/// For each sequence, how often each expert is among the `top_k` best by unbiased score, groups
/// ignored: `[sequences * experts]`.
pub(super) fn unbiased_counts(
    scores: &[f32],
    experts: usize,
    top_k: usize,
    seq: usize,
) -> Vec<u32> {
    let mut counts = vec![0u32; scores.len() / (experts * seq).max(1) * experts];
    let mut best = Vec::with_capacity(top_k);
    for (token, scores) in scores.chunks_exact(experts).enumerate() {
        top_indices(scores, top_k, &mut best);
        let row = token / seq * experts;
        for &expert in &best {
            counts[row + expert as usize] += 1;
        }
    }
    counts
}

/// Indices of the `k` largest values in descending order; of equal values the lower index first.
fn top_indices(values: &[f32], k: usize, best: &mut Vec<u32>) {
    best.clear();
    // Insertion into a short sorted list: k is at most a few dozen. Of hundreds of values most do
    // not beat the last of the list, and so none of those before it.
    for (index, &value) in values.iter().enumerate() {
        if best.len() == k && best.last().is_none_or(|&last| !beats(value, values[last as usize])) {
            continue;
        }
        let at = best.iter().position(|&b| beats(value, values[b as usize])).unwrap_or(best.len());
        if at < k {
            if best.len() == k {
                best.pop();
            }
            best.insert(at, index as u32);
        }
    }
}

fn beats(candidate: f32, held: f32) -> bool {
    candidate > held || (held.is_nan() && !candidate.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(
        experts: usize,
        top_k: usize,
        groups: usize,
        kept_groups: usize,
    ) -> ExpertSelection {
        ExpertSelection { experts, top_k, groups, kept_groups, method: TopkMethod::NoauxTc }
    }

    #[test]
    fn masked_groups_stay_out_even_with_negative_biases() {
        // With a mask of 0 instead of -inf, expert 2 or 3 (masked to 0) would beat expert 1 (0.1 -
        // 0.5).
        let chosen = selection(4, 2, 2, 1).choose(&[0.9, 0.1, 0.2, 0.15], &[0.0, -0.5, 0.0, 0.0]);
        assert_eq!(chosen, [0, 1]);
    }

    #[test]
    fn v2_scores_a_group_by_its_best() {
        let scores = [0.9, 0.0, 0.5, 0.45];
        let v3 = selection(4, 1, 2, 1);
        assert_eq!(v3.choose(&scores, &[0.0; 4]), [2]);
        let v2 = ExpertSelection { method: TopkMethod::GroupLimitedGreedy, ..v3 };
        assert_eq!(v2.choose(&scores, &[0.0; 4]), [0]);
    }

    #[test]
    fn ties_go_to_the_lower_index_and_nan_loses() {
        assert_eq!(selection(4, 2, 1, 1).choose(&[0.5; 4], &[0.0; 4]), [0, 1]);
        assert_eq!(selection(3, 2, 1, 1).choose(&[f32::NAN, 0.1, 0.2], &[0.0; 3]), [1, 2]);
        assert_eq!(selection(2, 2, 1, 1).choose(&[f32::NAN; 2], &[0.0; 2]), [0, 1]);
    }

    /// All lists of up to five of five values, NaN among them, so that most have ties.
    #[test]
    fn the_best_are_those_of_a_stable_sort() {
        const VALUES: [f32; 5] = [-2.0, 0.0, 1.0, f32::INFINITY, f32::NAN];
        let mut best = vec![7];
        for len in 0..=5u32 {
            for list in 0..5usize.pow(len) {
                let values: Vec<f32> =
                    (0..len).map(|place| VALUES[list / 5usize.pow(place) % 5]).collect();
                let mut sorted: Vec<u32> = (0..len).collect();
                sorted.sort_by(|&a, &b| {
                    let [a, b] = [a, b].map(|index| values[index as usize]);
                    b.partial_cmp(&a).unwrap_or(a.is_nan().cmp(&b.is_nan()))
                });
                for k in 0..4 {
                    top_indices(&values, k, &mut best);
                    assert_eq!(best, sorted[..k.min(values.len())], "{values:?} {k}");
                }
            }
        }
    }

    #[test]
    fn unbiased_counts_are_kept_a_sequence() {
        let scores = [0.9, 0.1, 0.0, 0.2, 0.3, 0.1, 0.9, 0.5, 0.1, 0.0, 0.1, 0.2];
        assert_eq!(unbiased_counts(&scores, 3, 1, 2), [1, 1, 0, 1, 0, 1]);
    }
}
