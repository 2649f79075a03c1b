//! How long a step takes: each rank's chunks by work and rates, then the schedule over them, then
//! what the copies exchange.

use burn_deepseek::{DeepSeekConfig, Precision};
use serde::Serialize;

use super::stages::Stages;
use super::traffic::{Links, Traffic};
use super::workload::Workload;
use crate::config::{ClusterConfig, RatesConfig};
use crate::dualpipe::{Action, Costs, PipelineSchedule, Planned, Waiting, simulate};
use crate::parallel::PipelineScheduleKind;

const TERA: f64 = 1e12;
const GIGA: f64 = 1e9;

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

/// Seconds of one micro-batch on a rank, at one of its stages (the mean of both, where it has two).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Chunks {
    /// Computing forward.
    pub forward: Computing,
    /// Computing backward for the input, what is computed again included.
    pub backward_input: Computing,
    /// Computing weight gradients.
    pub weights: Computing,
    /// Dispatch and combine, forward.
    pub all_to_all_forward: f64,
    /// The same backward.
    pub all_to_all_backward: f64,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepTime {
    /// The chunks of each rank.
    pub ranks: Vec<Chunks>,
    /// The rank whose chunks take longest: it sets the pace.
    pub slowest: usize,
    /// What the schedule is timed with: the slowest rank's chunks.
    pub costs: Costs,
    /// Micro-batches of a pipeline.
    pub chunks: usize,
    /// The pipeline's time, each rank as slow as the slowest.
    pub makespan_s: f64,
    /// Time of that in which a rank as slow as the slowest computes or waits for rows, mean over
    /// the ranks.
    pub busy_s: f64,
    /// Idle time of a rank, mean over the ranks.
    pub bubble_s: f64,
    /// The bubble by the report's formula with the same costs.
    pub bubble_formula_s: f64,
    /// Summing gradients over copies, and sending updated weights back; nothing hides it.
    pub copies_s: f64,
    /// AdamW over a rank's shard, bound by memory.
    pub optimizer_s: f64,
    /// All of it.
    pub total_s: f64,
    /// Computing of a rank over the step, mean over the ranks.
    pub computing: Computing,
    /// What is lost because ranks are not all as fast as the mean of them: `busy_s` less what they
    /// need.
    pub uneven_s: f64,
    /// Rows in flight that nothing hides, mean over the ranks.
    pub exposed_s: f64,
    /// Tokens a second and GPU.
    pub tokens_per_s_per_gpu: f64,
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

    fn times(self, factor: f64) -> Self {
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

impl Chunks {
    /// The chunks of a stage, whose MoE layers send rows for `all_to_all` seconds each, one way and
    /// back.
    fn of_stage(
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

    fn mean(chunks: &[Self]) -> Self {
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

/// Operations and bytes a second, attained.
struct Speed {
    linear: f64,
    experts: f64,
    head: f64,
    router: f64,
    attention_forward: f64,
    attention_backward: f64,
    memory: f64,
    layer_s: f64,
    fast: f64,
    slow: f64,
}

impl Speed {
    fn new(cluster: &ClusterConfig, precision: &Precision) -> Self {
        let ClusterConfig { gpu, rates, link, .. } = cluster;
        let f32 = gpu.f32_tflops * TERA;
        let bf16 = gpu.bf16_tflops.unwrap_or(gpu.f32_tflops) * TERA;
        let fp8 = gpu.fp8_tflops.unwrap_or(gpu.f32_tflops) * TERA;
        let RatesConfig {
            linear_fp8,
            linear_bf16,
            linear_f32,
            attention_forward,
            attention_backward,
            ..
        } = *rates;
        let (linear, head, attention) = match precision {
            Precision::F32 => (f32 * linear_f32, f32 * linear_f32, f32),
            Precision::Bf16 => (bf16 * linear_bf16, bf16 * linear_bf16, bf16),
            Precision::Fp8(_) => (fp8 * linear_fp8, bf16 * linear_bf16, bf16),
        };
        Self {
            linear,
            experts: linear / rates.expert_load,
            head,
            router: f32 * linear_f32,
            attention_forward: attention * attention_forward,
            attention_backward: attention * attention_backward,
            memory: gpu.memory_gb_per_s * GIGA * rates.memory,
            layer_s: gpu.layer_us * 1e-6,
            fast: link.fast.gb_per_s * GIGA * rates.link_fast,
            slow: link
                .slow
                .as_ref()
                .map_or(f64::INFINITY, |slow| slow.gb_per_s * GIGA * rates.link_slow),
        }
    }

    /// Seconds for rows over both links; they are passed on from the slow link to the fast one as
    /// they come (3.2.2), so the slower decides.
    fn rows(&self, links: &Links) -> f64 {
        (links.fast / self.fast).max(links.slow / self.slow)
    }

    fn link(&self, slow: bool) -> f64 {
        if slow { self.slow } else { self.fast }
    }
}

impl StepTime {
    /// Of a workload that has no problems.
    pub(super) fn new(
        model: &DeepSeekConfig,
        workload: &Workload,
        cluster: &ClusterConfig,
        stages: &Stages,
        traffic: &Traffic,
    ) -> Self {
        let speed = Speed::new(cluster, &workload.precision);
        let all_to_all = traffic
            .routes
            .first()
            .map_or(0.0, |route| speed.rows(&route.dispatch) + speed.rows(&route.combine));
        let of_stage = |stage: usize| Chunks::of_stage(stages, stage, workload, &speed, all_to_all);
        let of_rank = |held: &Vec<usize>| {
            Chunks::mean(&held.iter().map(|&stage| of_stage(stage)).collect::<Vec<_>>())
        };
        let ranks: Vec<Chunks> = stages.of_rank.iter().map(of_rank).collect();
        let message = traffic.message_bytes / speed.link(traffic.message_is_slow);
        let costs: Vec<Costs> = ranks.iter().map(|chunks| chunks.costs(message)).collect();

        let (kind, pipeline, chunks) =
            (workload.schedule, workload.axes.pipeline, workload.chunks());
        let schedule = PipelineSchedule::new(kind, pipeline, chunks)
            .expect("invariant: a workload without problems has a schedule");
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let busy = |actions: &[Planned], costs: &Costs| {
            actions.iter().map(|planned| of_action(costs, &planned.action)).sum::<f64>()
        };
        let needed: Vec<f64> = schedule
            .actions
            .iter()
            .zip(&costs)
            .map(|(actions, costs)| busy(actions, costs))
            .collect();
        let slow = |costs: &Costs| {
            schedule.actions.iter().map(|actions| busy(actions, costs)).sum::<f64>()
        };
        let slowest = costs
            .iter()
            .map(slow)
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(0, |(rank, _)| rank);
        let costs = costs[slowest];
        let simulation = simulate(&schedule, &costs, Waiting::WhereNeeded)
            .expect("invariant: a schedule that is made can be proved");
        let makespan_s = simulation.makespan();
        let busy_s = mean(simulation.busy());

        let copies_s =
            (traffic.gradients_bytes + traffic.weights_bytes) / speed.link(traffic.copies_are_slow);
        let optimizer_s = optimizer_bytes(model, workload, cluster)
            / (cluster.gpu.memory_gb_per_s * GIGA * cluster.rates.memory);
        let total_s = makespan_s + copies_s + optimizer_s;
        // Every micro-batch passes each of DualPipeV's two stages of a rank, and one stage of a
        // rank in the others.
        let passes = (chunks * if kind == PipelineScheduleKind::DualPipeV { 2 } else { 1 }) as f64;
        let computing = Chunks::mean(&ranks).computing().times(passes);
        Self {
            slowest,
            costs,
            chunks,
            makespan_s,
            busy_s,
            bubble_s: makespan_s - busy_s,
            bubble_formula_s: kind.bubble(pipeline, &costs),
            copies_s,
            optimizer_s,
            total_s,
            computing,
            uneven_s: busy_s - mean(needed.clone()),
            // The same sums in another order: what is below their roundings is nothing.
            exposed_s: (mean(needed) - computing.total()).max(0.0),
            tokens_per_s_per_gpu: workload.step_tokens() as f64 / total_s / cluster.gpus() as f64,
            ranks,
        }
    }
}

/// What an action costs a rank's own time; messages travel beside it.
fn of_action(costs: &Costs, action: &Action) -> f64 {
    if matches!(action, Action::Exchange(_)) { 0.0 } else { costs.of(action) }
}

/// What AdamW reads and writes of a rank's shard, all shards alike: gradient, weight and both
/// moments read, weight and moments written.
fn optimizer_bytes(model: &DeepSeekConfig, workload: &Workload, cluster: &ClusterConfig) -> f64 {
    let shard = model.parameter_counts().total_with_mtp() as f64 / cluster.gpus() as f64;
    shard * (4.0 + 2.0 * 4.0 + 4.0 * workload.moment_bytes as f64)
}
