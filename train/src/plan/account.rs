//! GPU hours: where they go, what a run is known to have taken, and which assumption would explain
//! the difference.

use burn_deepseek::DeepSeekConfig;
use serde::Serialize;

use super::step::StepTime;
use super::work::Work;
use super::workload::Workload;
use crate::config::{ClusterConfig, ReferenceConfig};

/// Seconds of an hour.
const HOUR: f64 = 3600.0;
/// Steps in which an assumption is sought at most, and how near to the known hours it then comes.
const STEPS: usize = 40;
const CLOSE: f64 = 1e-9;
/// How far an assumption is sought from what is best: no rate below this, no load above its
/// inverse.
const LEAST: f64 = 0.05;

/// GPU hours of what a step is spent on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hours {
    /// What for.
    pub name: &'static str,
    /// Seconds of a step, on one GPU.
    pub step_s: f64,
    /// GPU hours of the whole run, where its tokens are known.
    pub gpu_hours: Option<f64>,
}

/// One assumption: a rate of the cluster's file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Assumption {
    /// Its key.
    pub key: &'static str,
    /// What is planned with.
    pub value: f64,
    /// Its best value.
    pub best: f64,
    /// GPU hours with that, over the planned ones.
    pub hours_at_best: f64,
    /// What it would have to be, all others as they are, for the run to take what is known; none
    /// where it cannot explain that.
    pub explains: Option<f64>,
}

/// The account of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Account {
    /// Operations of a token as they are usually counted: six for each parameter that multiplies it
    /// (the embedding does not), and attention's.
    pub flops_per_token: f64,
    /// Operations of a token in the parameters of the main model alone, by which the report's 340
    /// TFLOP/s are counted.
    pub parameter_flops_per_token: f64,
    /// TFLOP/s of a GPU by `parameter_flops_per_token`.
    pub tflops_per_gpu: f64,
    /// Where the time goes.
    pub hours: Vec<Hours>,
    /// GPU hours of the run, time that is lost to everything but the run included.
    pub gpu_hours: Option<f64>,
    /// GPU hours for 10^12 tokens.
    pub gpu_hours_per_trillion: f64,
    /// What a run of this model is known to have taken.
    pub reference: Option<ReferenceConfig>,
    /// GPU hours that it took for 10^12 tokens.
    pub reference_per_trillion: Option<f64>,
    /// Every assumption, that which would have to change least to explain the known run first.
    pub assumptions: Vec<Assumption>,
}

impl Account {
    /// The account of a step that takes `step` on `cluster` and `again(other)` on another one.
    pub(super) fn new(
        step: &StepTime,
        workload: &Workload,
        cluster: &ClusterConfig,
        model: &DeepSeekConfig,
        again: impl Fn(&ClusterConfig) -> StepTime,
    ) -> Self {
        let gpus = cluster.gpus() as f64;
        let per_token = |total_s: f64, goodput: f64| {
            total_s * gpus / (workload.step_tokens() as f64 * HOUR * goodput)
        };
        let planned = per_token(step.total_s, cluster.rates.goodput);
        let reference = cluster
            .reference
            .iter()
            .find(|known| known.parameters == model.parameter_counts().total)
            .cloned();
        let known =
            reference.as_ref().and_then(|known| Some(known.gpu_hours / known.tokens? as f64));
        let hours_with =
            |cluster: &ClusterConfig| per_token(again(cluster).total_s, cluster.rates.goodput);

        let mut assumptions: Vec<Assumption> = RATES
            .iter()
            .filter_map(|rate| {
                let with = |value: f64| {
                    let mut other = cluster.clone();
                    *(rate.of)(&mut other) = value;
                    hours_with(&other)
                };
                let hours_at_best = with(rate.best) / planned;
                // A rate that nothing in the plan depends on is no assumption of it.
                let matters = (with(rate.worst) / planned - 1.0).abs() > 1e-9;
                let value = *(rate.of)(&mut cluster.clone());
                let explains = known.and_then(|known| rate.explaining(known, with));
                matters.then_some(Assumption {
                    key: rate.key,
                    value,
                    best: rate.best,
                    hours_at_best,
                    explains,
                })
            })
            .collect();
        let change = |assumption: &Assumption| match assumption.explains {
            Some(value) if assumption.value > 0.0 => (value / assumption.value).ln().abs(),
            _ => f64::INFINITY,
        };
        assumptions.sort_by(|a, b| {
            change(a).total_cmp(&change(b)).then(a.hours_at_best.total_cmp(&b.hours_at_best))
        });

        let whole =
            |seconds: f64| workload.tokens.map(|tokens| per_token(seconds, 1.0) * tokens as f64);
        let mut parts = vec![
            ("linears", step.computing.linear),
            ("routed experts", step.computing.experts),
            ("attention", step.computing.attention),
            ("routers and head", step.computing.router_and_head),
            ("norms, casts, SwiGLU, permutations", step.computing.memory),
            ("layers beside their work", step.computing.overhead),
            ("uneven ranks", step.uneven_s),
            ("rows in flight, not hidden", step.exposed_s),
            ("bubble", step.bubble_s),
            ("gradients and weights of copies", step.copies_s),
            ("AdamW", step.optimizer_s),
        ];
        parts.push((
            "restarts, checkpoints, evaluation",
            step.total_s * (1.0 / cluster.rates.goodput - 1.0),
        ));
        let work = Work::new(model, &workload.precision, workload.seq_len);
        let parameter_flops = parameter_flops_per_token(model);
        Self {
            flops_per_token: work.total().training(),
            parameter_flops_per_token: parameter_flops,
            tflops_per_gpu: parameter_flops * step.tokens_per_s_per_gpu / 1e12,
            hours: parts
                .into_iter()
                .map(|(name, step_s)| Hours { name, step_s, gpu_hours: whole(step_s) })
                .collect(),
            gpu_hours: workload.tokens.map(|tokens| planned * tokens as f64),
            gpu_hours_per_trillion: planned * 1e12,
            reference_per_trillion: known.map(|known| known * 1e12),
            reference,
            assumptions,
        }
    }
}

/// Six for each parameter of the main model that multiplies a token: what it visits without the
/// embedding, whose rows are only looked up.
pub fn parameter_flops_per_token(model: &DeepSeekConfig) -> f64 {
    let counts = model.parameter_counts();
    let looked_up = if model.tie_word_embeddings { 0 } else { counts.embedding };
    6.0 * (counts.active - looked_up) as f64
}

/// A rate, its key, and the values between which it is sought.
struct Rate {
    key: &'static str,
    of: fn(&mut ClusterConfig) -> &mut f64,
    worst: f64,
    best: f64,
}

const fn fraction(key: &'static str, of: fn(&mut ClusterConfig) -> &mut f64) -> Rate {
    Rate { key, of, worst: LEAST, best: 1.0 }
}

const RATES: [Rate; 11] = [
    fraction("rates.linear_fp8", |cluster| &mut cluster.rates.linear_fp8),
    fraction("rates.linear_bf16", |cluster| &mut cluster.rates.linear_bf16),
    fraction("rates.linear_f32", |cluster| &mut cluster.rates.linear_f32),
    fraction("rates.attention_forward", |cluster| &mut cluster.rates.attention_forward),
    fraction("rates.attention_backward", |cluster| &mut cluster.rates.attention_backward),
    fraction("rates.memory", |cluster| &mut cluster.rates.memory),
    fraction("rates.link_fast", |cluster| &mut cluster.rates.link_fast),
    fraction("rates.link_slow", |cluster| &mut cluster.rates.link_slow),
    fraction("rates.goodput", |cluster| &mut cluster.rates.goodput),
    Rate {
        key: "rates.expert_load",
        of: |cluster| &mut cluster.rates.expert_load,
        worst: 1.0 / LEAST,
        best: 1.0,
    },
    Rate { key: "gpu.layer_us", of: |cluster| &mut cluster.gpu.layer_us, worst: 1e6, best: 0.0 },
];

impl Rate {
    /// The value with which `with` gives `known`, between the worst and the best: hours only fall
    /// on the way.
    ///
    /// By false position, which takes a few steps: hours are nearly linear in the inverse of a
    /// fraction, and in the others themselves.
    fn explaining(&self, known: f64, with: impl Fn(f64) -> f64) -> Option<f64> {
        let inverse = self.best == 1.0 && self.worst < 1.0;
        let place = |value: f64| if inverse { 1.0 / value } else { value };
        let off = |place: f64| with(if inverse { 1.0 / place } else { place }) - known;
        let (mut low, mut high) = (place(self.best), place(self.worst));
        let (mut off_low, mut off_high) = (off(low), off(high));
        if off_low > 0.0 || off_high < 0.0 {
            return None;
        }
        let mut middle = low;
        for _ in 0..STEPS {
            middle = if off_high > off_low {
                low - off_low * (high - low) / (off_high - off_low)
            } else {
                low
            };
            let off_middle = off(middle);
            if off_middle.abs() <= CLOSE * known {
                break;
            }
            // An end that stays is trusted half as much, so that both come nearer.
            if off_middle > 0.0 {
                (high, off_high, off_low) = (middle, off_middle, 0.5 * off_low);
            } else {
                (low, off_low, off_high) = (middle, off_middle, 0.5 * off_high);
            }
        }
        Some(place(middle))
    }
}
