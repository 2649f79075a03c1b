//! Which rank does what: the axes of a run, and the stages that a model is cut into.

use std::ops::Range;

use burn_deepseek::{DeepSeekConfig, Stage};

use crate::failure::blamed;

/// Degrees of parallelism (3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axes {
    /// Ranks of a pipeline.
    pub pipeline: usize,
    /// Ranks that share the experts of a layer; each computes its own micro-batches in everything
    /// else.
    pub expert: usize,
    /// Copies of all that.
    pub data: usize,
}

/// Where a rank stands on each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the rank.
    pub rank: usize,
    /// In the pipeline.
    pub pipeline: usize,
    /// Among those that share experts.
    pub expert: usize,
    /// Among the copies.
    pub data: usize,
}

impl Axes {
    /// Number of ranks.
    pub fn ranks(&self) -> usize {
        self.pipeline * self.expert * self.data
    }

    /// Pipelines that run beside each other, each on its own micro-batches.
    pub fn pipelines(&self) -> usize {
        self.expert * self.data
    }

    /// Where a rank stands: pipelines are consecutive ranks, those that share experts consecutive
    /// pipelines.
    pub fn place(&self, rank: usize) -> Place {
        let pipelines = rank / self.pipeline;
        Place {
            rank,
            pipeline: rank % self.pipeline,
            expert: pipelines % self.expert,
            data: pipelines / self.expert,
        }
    }

    /// The number of a rank's pipeline among the [`pipelines`](Self::pipelines).
    pub fn pipeline_of(&self, rank: usize) -> usize {
        rank / self.pipeline
    }

    /// The rank at a place: the inverse of [`place`](Self::place).
    pub fn rank_at(&self, pipeline: usize, expert: usize, data: usize) -> usize {
        (data * self.expert + expert) * self.pipeline + pipeline
    }
}

/// A model that cannot be cut into so many stages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a model of {layers} layers cannot be cut into {stages} stages: each but the two ends needs a \
     layer; \
     take parallel.pipeline = {most} or less with this schedule"
)]
pub struct TooManyStages {
    layers: usize,
    stages: usize,
    most: usize,
}

blamed!(Run: TooManyStages);

/// Cuts a model into consecutive stages whose costliest is as cheap as can be; of cuts that are
/// equally good the one with the least sum of squares. The ends get fewer layers for what they have
/// beside them: the head and the MTP modules, whose work is as real as a layer's.
///
/// # Errors
///
/// More stages than layers and ends; `stages_a_rank` says by how much the pipeline must be shorter.
pub fn cut(
    config: &DeepSeekConfig,
    stages: usize,
    stages_a_rank: usize,
) -> Result<Vec<Stage>, TooManyStages> {
    let layers = config.num_hidden_layers;
    if stages > layers + 2 || stages == 0 {
        return Err(TooManyStages { layers, stages, most: (layers + 2) / stages_a_rank.max(1) });
    }
    let cost: Vec<f64> = (0..layers).map(|layer| layer_cost(config, layer)).collect();
    let mtp: f64 = (0..config.num_nextn_predict_layers)
        .map(|k| layer_cost(config, layers + k) + head_cost(config))
        .sum();
    let tail = head_cost(config) + mtp;
    let spans = best_cut(&cost, tail, stages);
    Ok(spans
        .into_iter()
        .enumerate()
        .map(|(s, layers)| Stage { layers, begins: s == 0, ends: s + 1 == stages })
        .collect())
}

/// Multiplications a token of a layer's weights: what decides its time.
fn layer_cost(config: &DeepSeekConfig, layer: usize) -> f64 {
    let d = config.hidden_size;
    let heads = config.num_attention_heads;
    let q_width = heads * (config.qk_nope_head_dim + config.qk_rope_head_dim);
    let query = config.q_lora_rank.map_or(d * q_width, |rank| rank * (d + q_width));
    let key_value = d * (config.kv_lora_rank + config.qk_rope_head_dim)
        + config.kv_lora_rank * heads * (config.qk_nope_head_dim + config.v_head_dim)
        + heads * config.v_head_dim * d;
    let feed_forward = if config.is_moe_layer(layer) {
        let experts = config.num_experts_per_tok + config.n_shared_experts;
        3 * d * config.moe_intermediate_size * experts + d * config.n_routed_experts
    } else {
        3 * d * config.intermediate_size
    };
    (query + key_value + feed_forward) as f64
}

/// Multiplications a token of the output head.
fn head_cost(config: &DeepSeekConfig) -> f64 {
    (config.hidden_size * config.vocab_size) as f64
}

/// The layers of each stage, by dynamic programming over (stages, layers): `O(stages * layers^2)`.
fn best_cut(cost: &[f64], tail: f64, stages: usize) -> Vec<Range<usize>> {
    let layers = cost.len();
    let sum_to: Vec<f64> = std::iter::once(0.0)
        .chain(cost.iter().scan(0.0, |sum, cost| {
            *sum += cost;
            Some(*sum)
        }))
        .collect();
    // best[s][n]: (costliest, sum of squares, layers of the first s - 1 stages) of the first n
    // layers in s stages.
    let mut best = vec![vec![(f64::INFINITY, f64::INFINITY, 0usize); layers + 1]; stages + 1];
    best[0][0] = (0.0, 0.0, 0);
    for s in 1..=stages {
        let is_end = s == 1 || s == stages;
        for n in 0..=layers {
            for first in 0..=n {
                if first == n && !is_end {
                    continue;
                }
                let own = sum_to[n] - sum_to[first] + if s == stages { tail } else { 0.0 };
                let (most, squares, _) = best[s - 1][first];
                let candidate = (most.max(own), squares + own * own, first);
                if (candidate.0, candidate.1) < (best[s][n].0, best[s][n].1) {
                    best[s][n] = candidate;
                }
            }
        }
    }
    let mut spans = Vec::with_capacity(stages);
    let mut end = layers;
    for s in (1..=stages).rev() {
        let first = best[s][end].2;
        spans.push(first..end);
        end = first;
    }
    spans.reverse();
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve_model;

    #[test]
    fn ranks_and_places_are_each_other_s_inverse() {
        let axes = Axes { pipeline: 4, expert: 2, data: 3 };
        assert_eq!((axes.ranks(), axes.pipelines()), (24, 6));
        for rank in 0..24 {
            let place = axes.place(rank);
            assert_eq!(axes.rank_at(place.pipeline, place.expert, place.data), rank);
        }
        assert_eq!(axes.place(13), Place { rank: 13, pipeline: 1, expert: 1, data: 1 });
        assert_eq!(axes.pipeline_of(13), 3);
    }

    #[test]
    fn deepseek_v3_in_sixteen_stages() {
        let config = resolve_model(Some("deepseek-v3-671b"), None, &[]).unwrap();
        let stages = cut(&config, 16, 1).unwrap();
        assert_eq!(stages.len(), 16);
        assert_eq!(stages.iter().map(|stage| stage.layers.len()).sum::<usize>(), 61);
        assert!(stages[0].begins && stages[15].ends && !stages[7].begins && !stages[7].ends);
        let last = stages[15].layers.len();
        assert!(
            stages[1..15].iter().all(|stage| stage.layers.len() > last),
            "the head and the MTP module weigh as layers: {stages:?}"
        );
        for pair in stages.windows(2) {
            assert_eq!(pair[0].layers.end, pair[1].layers.start);
        }
    }

    #[test]
    fn only_the_ends_may_be_without_layers() {
        assert_eq!(best_cut(&[1.0, 1.0], 5.0, 4), [0..0, 0..1, 1..2, 2..2]);
        assert_eq!(best_cut(&[1.0; 6], 0.0, 3), [0..2, 2..4, 4..6]);
        let config = resolve_model(Some("tiny"), None, &[]).unwrap();
        let error = cut(&config, 64, 2).unwrap_err().to_string();
        assert!(error.contains("cannot be cut into 64 stages"), "{error}");
    }
}
