//! What each rank of a pipeline keeps: parameters, gradients, the optimizer's state, activations
//! (3.2.1, 3.2.3, 3.3.3).

use burn_deepseek::config::{Keeping, LayerParameters};
use burn_deepseek::{DeepSeekConfig, Precision};
use serde::Serialize;

use super::activations::{kept_at_end, kept_per_token};
use super::stages::Stages;
use super::workload::Workload;
use crate::dualpipe::{PipelineSchedule, validate};

/// Bytes of a gradient that is summed over micro-batches: FP32 (3.3.3).
pub(super) const GRADIENT_BYTES: f64 = 4.0;
/// Bytes of a master weight: FP32 (3.3.3).
const MASTER_BYTES: f64 = 4.0;
/// Bytes of a cached FP8 weight: its code, and its share of an FP32 scale for 128 x 128.
const FP8_BYTES: f64 = 1.0 + 4.0 / (128.0 * 128.0);

/// The one whose formats are reckoned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeper {
    /// The report's: weights and activations in BF16 beside FP32 master weights in shards; see
    /// [`kept_per_token`].
    Report,
    /// This program's: weights in FP32, which are the master weights, on every rank that computes
    /// with them, and [`DeepSeekConfig::kept_activations`].
    Program,
}

/// Parameters that a rank holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RankParameters {
    /// Parameters that every rank at its place of a pipeline holds.
    pub replicated: u64,
    /// Routed experts, its own alone.
    pub experts: u64,
    /// Parameters of both kinds that FP8 quantizes.
    pub quantized: u64,
}

/// Bytes of a rank, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RankMemory {
    /// Place in the pipeline.
    pub rank: usize,
    /// What it holds.
    pub parameters: RankParameters,
    /// Weights that it computes with.
    pub weights_bytes: f64,
    /// Their FP8 codes, made once a step.
    pub fp8_weights_bytes: f64,
    /// Gradients.
    pub gradients_bytes: f64,
    /// The rank's shard of the master weights; 0 where the weights are FP32 themselves.
    pub master_bytes: f64,
    /// The rank's shard of AdamW's two moments.
    pub moments_bytes: f64,
    /// The most micro-batches whose activations it keeps at one time, at one of its stages each.
    pub chunks: usize,
    /// What they keep, as planned.
    pub activations_bytes: f64,
    /// What they keep without recomputation.
    pub without_recompute_bytes: f64,
    /// What they keep with recomputation.
    pub with_recompute_bytes: f64,
    /// What the head and the losses keep of one micro-batch.
    pub head_bytes: f64,
    /// All of it.
    pub total_bytes: f64,
}

impl RankParameters {
    /// The parameters of each rank of a pipeline. A rank with two stages holds the parameters of
    /// both; embedding and head are there once on a rank.
    pub(super) fn of_ranks(
        model: &DeepSeekConfig,
        workload: &Workload,
        stages: &Stages,
    ) -> Vec<Self> {
        stages
            .of_rank
            .iter()
            .map(|held| Self::of_stages(model, workload.axes.expert, stages, held))
            .collect()
    }

    fn of_stages(model: &DeepSeekConfig, expert: usize, stages: &Stages, held: &[usize]) -> Self {
        let (first, modules) = (model.num_hidden_layers, model.num_nextn_predict_layers);
        let held = held.iter().map(|&stage| &stages.stages[stage]);
        let begins = held.clone().any(|stage| stage.begins);
        let ends = held.clone().any(|stage| stage.ends);
        let of_mtp = if ends { first..first + modules } else { 0..0 };
        let layers = held.flat_map(|stage| stage.layers.clone()).chain(of_mtp);
        let mut sum = Self::default();
        for LayerParameters { linears, routed, plain } in
            layers.map(|layer| model.layer_parameters(layer))
        {
            let own = routed / expert as u64;
            sum.replicated += linears + plain;
            sum.experts += own;
            sum.quantized += linears + own;
        }
        let counts = model.parameter_counts();
        // The MTP modules take the embedding of later tokens, and a tied head is the embedding.
        if begins || (ends && (modules > 0 || model.tie_word_embeddings)) {
            sum.replicated += counts.embedding;
        }
        if ends {
            sum.replicated += counts.head + model.hidden_size as u64;
        }
        sum
    }

    /// Parameters that ZeRO-1 leaves one rank of: each is divided between all that hold it.
    fn sharded(&self, workload: &Workload, holders: usize) -> f64 {
        let copies = (workload.axes.data * holders) as f64;
        self.replicated as f64 / (copies * workload.axes.expert as f64)
            + self.experts as f64 / copies
    }

    /// Parameters whose gradients leave the rank in a ring over all that hold them.
    pub(super) fn in_ring(&self, workload: &Workload, holders: usize) -> f64 {
        (self.replicated + self.experts) as f64 - self.sharded(workload, holders)
    }
}

/// The memory of each rank of a pipeline.
pub(super) fn of_ranks(
    model: &DeepSeekConfig,
    workload: &Workload,
    stages: &Stages,
    keeper: Keeper,
) -> Vec<RankMemory> {
    let schedule =
        PipelineSchedule::new(workload.schedule, workload.axes.pipeline, workload.chunks());
    let schedule = schedule.expect("invariant: a workload without problems has a schedule");
    let peaks = validate(&schedule)
        .expect("invariant: a schedule that is made can be proved")
        .peak_activations;
    let parameters = RankParameters::of_ranks(model, workload, stages);
    let plain = match keeper {
        Keeper::Report => workload.plain_bytes() as f64,
        Keeper::Program => MASTER_BYTES,
    };
    let master = if plain < MASTER_BYTES { MASTER_BYTES } else { 0.0 };
    let fp8 = if matches!(workload.precision, Precision::Fp8(_)) { FP8_BYTES } else { 0.0 };
    parameters
        .into_iter()
        .enumerate()
        .map(|(rank, parameters)| {
            let held = &stages.of_rank[rank];
            let all = (parameters.replicated + parameters.experts) as f64;
            let sharded = parameters.sharded(workload, stages.holders);
            let kept = |recompute| {
                let of_stages: f64 = held
                    .iter()
                    .map(|&stage| kept_by_stage(model, workload, stages, stage, recompute, keeper))
                    .sum();
                peaks[rank] as f64 * of_stages / held.len() as f64
            };
            let (with, without) = (kept(true), kept(false));
            let ends = held.iter().any(|&stage| stages.stages[stage].ends);
            let head_bytes = if ends { kept_by_head(model, workload, keeper) } else { 0.0 };
            let mut memory = RankMemory {
                rank,
                parameters,
                weights_bytes: plain * all,
                fp8_weights_bytes: fp8 * parameters.quantized as f64,
                gradients_bytes: GRADIENT_BYTES * all,
                master_bytes: master * sharded,
                moments_bytes: 2.0 * workload.moment_bytes as f64 * sharded,
                chunks: peaks[rank],
                activations_bytes: if workload.recompute { with } else { without },
                without_recompute_bytes: without,
                with_recompute_bytes: with,
                head_bytes,
                total_bytes: 0.0,
            };
            memory.total_bytes = memory.weights_bytes
                + memory.fp8_weights_bytes
                + memory.gradients_bytes
                + memory.master_bytes
                + memory.moments_bytes
                + memory.activations_bytes
                + memory.head_bytes;
            memory
        })
        .collect()
}

/// What one micro-batch keeps at a stage.
fn kept_by_stage(
    model: &DeepSeekConfig,
    workload: &Workload,
    stages: &Stages,
    stage: usize,
    recompute: bool,
    keeper: Keeper,
) -> f64 {
    let (first, stage) = (model.num_hidden_layers, &stages.stages[stage]);
    let modules = if stage.ends { model.num_nextn_predict_layers } else { 0 };
    let layers = stage.layers.clone().chain(first..first + modules);
    let tokens = workload.chunk_tokens();
    match keeper {
        Keeper::Report => {
            let of_layers: f64 = layers
                .map(|layer| kept_per_token(model, &workload.precision, layer, recompute))
                .sum();
            tokens as f64 * (of_layers + modules as f64 * kept_at_end(model, &workload.precision))
        }
        Keeper::Program => {
            let keeping = Keeping { precision: workload.precision, recompute, tokens };
            layers
                .flat_map(|layer| model.kept_activations(layer, &keeping))
                .map(|tensor| tensor.bytes as f64)
                .sum()
        }
    }
}

/// The head's input for the main loss and each MTP depth; this program makes the head's gradient in
/// the forward pass and keeps it too.
fn kept_by_head(model: &DeepSeekConfig, workload: &Workload, keeper: Keeper) -> f64 {
    let losses = (1 + model.num_nextn_predict_layers) as f64;
    let (d, tokens) = (model.hidden_size as f64, workload.chunk_tokens() as f64);
    match keeper {
        Keeper::Report => losses * tokens * d * workload.plain_bytes() as f64,
        Keeper::Program => losses * (tokens + model.vocab_size as f64) * d * MASTER_BYTES,
    }
}
