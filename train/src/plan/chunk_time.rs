//! How long a chunk takes: one micro-batch at one stage, by work and rates.

use serde::Serialize;

use super::speed::Speed;
use super::stages::Stages;
use super::workload::Workload;
use crate::dualpipe::Costs;

/// Seconds by what they are spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Computing {
    /// Linears that every token passes.
    pub linear: f64,
    /// Routed experts.
    pub experts: f64,
    /// Attention.
    pub attention: f64,
    /// Routers and output head.
    pub router_and_head: f64,
    /// What is not a product: norms, casts, SwiGLU, permutations.
    pub memory: f64,
    /// What layers cost beside their work (`gpu.layer_us`).
    pub overhead: f64,
}

/// Seconds of a chunk on a rank (the mean over its stages, where it has two).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ChunkTime {
    /// Computing forward.
    pub forward: Computing,
    /// Computing backward for the input, what is computed again included.
    pub backward_input: Computing,
    /// Computing weight gradients.
    pub weights: Computing,
    /// Dispatch and combine, forward.
    pub all_to_all_forward: f64,
    /// Dispatch and combine, backward.
    pub all_to_all_backward: f64,
}

impl Computing {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.linear
            + self.experts
            + self.attention
            + self.router_and_head
            + self.memory
            + self.overhead
    }

    fn plus(self, other: Self) -> Self {
        Self {
            linear: self.linear + other.linear,
            experts: self.experts + other.experts,
            attention: self.attention + other.attention,
            router_and_head: self.router_and_head + other.router_and_head,
            memory: self.memory + other.memory,
            overhead: self.overhead + other.overhead,
        }
    }

    pub(super) fn times(self, factor: f64) -> Self {
        Self {
            linear: self.linear * factor,
            experts: self.experts * factor,
            attention: self.attention * factor,
            router_and_head: self.router_and_head * factor,
            memory: self.memory * factor,
            overhead: self.overhead * factor,
        }
    }
}

impl ChunkTime {
    /// A chunk at a stage, whose MoE layers send rows for `all_to_all` seconds each, one way and
    /// back.
    pub(super) fn of_stage(
        stages: &Stages,
        stage: usize,
        workload: &Workload,
        speed: &Speed,
        all_to_all: f64,
    ) -> Self {
        let (work, tokens) = (&stages.work[stage], workload.chunk_tokens() as f64);
        let forward = Computing {
            linear: work.linear / speed.linear,
            experts: work.experts / speed.experts,
            attention: work.attention / speed.attention_forward,
            router_and_head: work.router / speed.router + work.head / speed.head,
            memory: work.bytes / speed.memory,
            overhead: stages.layers[stage] as f64 * speed.layer_s / tokens,
        };
        let (again, bytes_again) = if workload.recompute {
            (work.up_projections, work.bytes_recomputed)
        } else {
            (0.0, 0.0)
        };
        // The gradient of a product's input costs as much as the product. What is not a product has
        // two tensors to read for each that forward has.
        let backward_input = Computing {
            linear: (work.linear + again) / speed.linear,
            attention: work.attention_backward / speed.attention_backward,
            memory: (2.0 * work.bytes + bytes_again) / speed.memory,
            ..forward
        };
        let weights = Computing { attention: 0.0, memory: 0.0, ..forward };
        let all_to_all = all_to_all * stages.moe_layers[stage] as f64;
        Self {
            forward: forward.times(tokens),
            backward_input: backward_input.times(tokens),
            weights: weights.times(tokens),
            all_to_all_forward: all_to_all,
            all_to_all_backward: all_to_all,
        }
    }

    /// The mean of several chunks.
    pub(super) fn mean(chunks: &[Self]) -> Self {
        let share = 1.0 / chunks.len() as f64;
        let computing = |part: fn(&Self) -> Computing| {
            chunks.iter().map(part).fold(Computing::default(), Computing::plus).times(share)
        };
        let seconds = |part: fn(&Self) -> f64| chunks.iter().map(part).sum::<f64>() * share;
        Self {
            forward: computing(|chunk| chunk.forward),
            backward_input: computing(|chunk| chunk.backward_input),
            weights: computing(|chunk| chunk.weights),
            all_to_all_forward: seconds(|chunk| chunk.all_to_all_forward),
            all_to_all_backward: seconds(|chunk| chunk.all_to_all_backward),
        }
    }

    /// Computing of a micro-batch, forward and backward.
    pub fn computing(&self) -> Computing {
        self.forward.plus(self.backward_input).plus(self.weights)
    }

    /// What the schedule's actions take. Rows that travel to experts and back are waited for in F
    /// and B, and hidden behind computing in an overlapped F&B as far as there is enough of it
    /// (3.2.1).
    pub fn costs(&self, message: f64) -> Costs {
        let rows = self.all_to_all_forward + self.all_to_all_backward;
        Costs {
            forward: self.forward.total() + self.all_to_all_forward,
            backward_input: self.backward_input.total() + self.all_to_all_backward,
            weights: self.weights.total(),
            overlapped: self.computing().total().max(rows),
            communication: message,
        }
    }
}
