//! What a rank computes with its share of the machine, as `plan cluster` reckons: steps of the run
//! that every rank takes alone, all of them at the same time.

use std::time::Instant;

use burn_deepseek::backend::GemmPath;
use serde_json::{Value, json};

use super::super::Repetitions;
use super::super::baseline::Baseline;
use super::super::table::median;
use super::super::train::{Timed, products_path};
use super::party::Party;
use crate::config::{
    ClusterConfig, GpuConfig, LinkConfig, LinksConfig, NodeConfig, PlanConfig, RatesConfig,
    RunConfig,
};
use crate::failure::{Failure, Result};
use crate::parallel::PipelineScheduleKind;
use crate::plan::{ClusterPlan, Workload};
use crate::schedule::Position;

const GIGA: f64 = 1e9;
const TERA: f64 = 1e12;
/// Bytes of the copy that is timed, and copies, of which the fastest counts.
const COPY_BYTES: usize = 1 << 28;
const COPIES: usize = 4;
/// The part of a step that products have at least, where nothing is known of their peak.
const LEAST_PRODUCTS: f64 = 0.25;

/// What a rank attains.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    /// Peaks of products in FP32 and in the run's own format, TFLOP/s; what is attained where they
    /// are not known.
    pub f32_peak: f64,
    pub peak: f64,
    /// What the products of a step attain, TFLOP/s.
    pub products: f64,
    /// A copy of memory, GB/s, and what is attained in what is not a product.
    pub copy: f64,
    pub memory: f64,
    /// Microseconds that a layer costs a micro-batch beside its work.
    pub layer_us: f64,
    /// Milliseconds of forward and backward with one sequence in a micro-batch and with all of
    /// them, and of the update.
    pub one_ms: f64,
    pub all_ms: f64,
    pub update_ms: f64,
}

/// What is known of products' peaks, TFLOP/s.
#[derive(Clone, Copy, Debug)]
struct Peaks {
    f32: f64,
    own: f64,
}

/// What a plan reckons for the steps: seconds of products at 1 TFLOP/s, of everything else and of
/// the optimizer at 1 GB/s, and of layers at a microsecond each.
#[derive(Clone, Copy, Debug)]
struct Reckoned {
    products: f64,
    memory: f64,
    optimizer: f64,
    layers: f64,
}

/// Measures a step with one sequence in a micro-batch and one with all of them.
pub(super) fn measure(party: &Party, runs: &[RunConfig; 2], reps: Repetitions) -> Result<Rates> {
    let [one, all] = runs;
    let path = products_path(all, &party.selected);
    let peaks = match path {
        Some(path) => {
            Some(Peaks { f32: peak(party, GemmPath::of_fp32())?, own: peak(party, path)? })
        }
        None => None,
    };
    party.all(0.0)?;
    let copy = party.mean(copy_gb_per_s(party))?;
    let (one_ms, _) = step(party, one, reps)?;
    let (all_ms, update_ms) = step(party, all, reps)?;
    let reckoned = [Reckoned::of(one)?, Reckoned::of(all)?];
    Ok(Rates::fitted(reckoned, one_ms, all_ms, update_ms, copy, peaks))
}

/// TFLOP/s of a path, while every rank is at it.
fn peak(party: &Party, path: GemmPath) -> Result<f64> {
    party.all(0.0)?;
    let flops = path.peak_flops().map_err(|error| Failure::new(error.to_string()))?;
    party.mean(flops / TERA)
}

fn copy_gb_per_s(party: &Party) -> f64 {
    let copy = Baseline::of(&party.selected).copy(COPY_BYTES, party.device());
    let seconds = (0..COPIES).map(|_| {
        let begin = Instant::now();
        copy();
        begin.elapsed().as_secs_f64()
    });
    COPY_BYTES as f64 / GIGA / seconds.fold(f64::INFINITY, f64::min).max(1e-9)
}

/// Milliseconds of forward and backward, and of the update.
fn step(party: &Party, config: &RunConfig, reps: Repetitions) -> Result<(f64, f64)> {
    let mut timed = Timed::new(config, &party.selected)?;
    let (mut gradients, mut updates) = (Vec::new(), Vec::new());
    for rep in 0..reps.warmup.saturating_add(reps.timed) {
        party.all(0.0)?;
        let step = timed.step(None)?;
        if rep >= reps.warmup {
            gradients.push(step.gradients_ms);
            updates.push(step.update_ms);
        }
    }
    Ok((party.mean(median(&gradients))?, party.mean(median(&updates))?))
}

impl Reckoned {
    /// Of the first step of a run on one rank.
    fn of(config: &RunConfig) -> Result<Self> {
        let settings = config.schedule()?.at(Position::default());
        let mut workload = Workload::new(&PlanConfig {
            pipeline: 1,
            expert: 1,
            data: 1,
            schedule: PipelineScheduleKind::OneFOneB,
            seq_len: config.train.seq_len,
            micro_batch: config.train.micro_batch,
            global_batch: settings.global_batch,
            precision: config.precision.format,
            recompute: config.precision.recompute,
            tokens: None,
        });
        workload.precision = config.precision.precision();
        workload.moment_bytes = config.optimizer.moment_bytes();
        let step = ClusterPlan::new(&config.model, &workload, &unit_cluster(), "bench links")?.step;
        let computing = step.computing;
        Ok(Self {
            products: computing.linear
                + computing.experts
                + computing.attention
                + computing.router_and_head,
            memory: computing.memory,
            optimizer: step.optimizer_s,
            layers: computing.overhead,
        })
    }
}

/// One rank that computes a TFLOP/s of everything, moves a GB/s, and loses a microsecond a layer.
fn unit_cluster() -> ClusterConfig {
    let fast = LinkConfig { gb_per_s: 1.0, latency_us: 0.0 };
    ClusterConfig {
        gpu: GpuConfig {
            name: "one".into(),
            memory_gib: 1.0,
            memory_gb_per_s: 1.0,
            fp8_tflops: Some(1.0),
            bf16_tflops: Some(1.0),
            f32_tflops: 1.0,
            layer_us: 1.0,
        },
        node: NodeConfig { gpus: 1, count: 1 },
        link: LinksConfig { fast, slow: None },
        rates: RatesConfig {
            basis: None,
            linear_fp8: 1.0,
            linear_bf16: 1.0,
            linear_f32: 1.0,
            attention_forward: 1.0,
            attention_backward: 1.0,
            memory: 1.0,
            link_fast: 1.0,
            link_slow: 1.0,
            expert_load: 1.0,
            goodput: 1.0,
        },
        plan: None,
        reference: Vec::new(),
        worker: Vec::new(),
    }
}

impl Rates {
    /// The rates with which a plan of one rank takes the times that were measured. Both steps have
    /// the same work, so that what one of them takes longer is its layers' own; the update moves
    /// memory alone; what is left is products.
    fn fitted(
        [one, all]: [Reckoned; 2],
        one_ms: f64,
        all_ms: f64,
        update_ms: f64,
        copy: f64,
        peaks: Option<Peaks>,
    ) -> Self {
        let more = one.layers - all.layers;
        let layer_us = if more > 0.0 { ((one_ms - all_ms) / 1e3 / more).max(0.0) } else { 0.0 };
        // Layers cannot have cost more than all there was.
        let layer_us = layer_us.min(0.9 * all_ms / 1e3 / all.layers.max(1e-12));
        let rest = all_ms / 1e3 - all.layers * layer_us;
        let moved = all.optimizer / (update_ms / 1e3).max(1e-9);
        let least = peaks.map_or(LEAST_PRODUCTS * rest, |peaks| all.products / peaks.own).min(rest);
        let products_s = (rest - all.memory / moved).max(least);
        // Where even products at their peak leave less time than that, small tensors have stayed
        // in caches.
        let memory = if products_s > least || rest - least < 1e-9 {
            moved
        } else {
            all.memory / (rest - least)
        };
        let products = all.products / products_s.max(1e-9);
        let Peaks { f32, own } = peaks.unwrap_or(Peaks { f32: products, own: products });
        Self {
            f32_peak: f32,
            peak: own.max(products),
            products,
            copy: copy.max(memory),
            memory,
            layer_us,
            one_ms,
            all_ms,
            update_ms,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        format!(
            "a rank alone    {:.2} ms forward and backward, {:.2} with one sequence at a time, \
             {:.2} the update\n\
             so              {:.4} TFLOP/s of products (peak {:.4}), {:.2} GB/s of everything else \
             (a copy {:.2}), {:.1} us a layer\n",
            self.all_ms,
            self.one_ms,
            self.update_ms,
            self.products,
            self.peak,
            self.memory,
            self.copy,
            self.layer_us
        )
    }

    /// For programs.
    pub fn results(&self) -> Value {
        json!({
            "all_ms": self.all_ms, "one_ms": self.one_ms, "update_ms": self.update_ms,
            "products_tflops": self.products, "peak_tflops": self.peak,
            "f32_peak_tflops": self.f32_peak, "memory_gb_per_s": self.memory,
            "copy_gb_per_s": self.copy, "layer_us": self.layer_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigRequest;

    fn run(micro_batch: usize) -> RunConfig {
        let set = vec![format!("train.micro_batch={micro_batch}")];
        ConfigRequest { config: Some("bench".into()), set, ..ConfigRequest::default() }
            .resolve()
            .unwrap()
    }

    /// Times that a machine with known rates would take give these rates back.
    #[test]
    fn a_machine_is_known_by_its_times() {
        let reckoned = [run(1), run(8)].map(|run| Reckoned::of(&run).unwrap());
        let [one, all] = reckoned;
        assert!((one.products - all.products).abs() < 1e-9 * all.products);
        // 4 layers, 8 micro-batches, forward and both halves of backward.
        assert!((one.layers - 4.0 * 8.0 * 3.0 * 1e-6).abs() < 1e-12, "{one:?}");
        let ms = |of: Reckoned| 1e3 * (of.products / 0.1 + of.memory / 8.0 + of.layers * 70.0);
        let update_ms = 1e3 * all.optimizer / 8.0;
        let peaks = Peaks { f32: 0.15, own: 0.15 };
        let rates = Rates::fitted(reckoned, ms(one), ms(all), update_ms, 12.0, Some(peaks));
        assert!((rates.products - 0.1).abs() < 1e-9, "{rates:?}");
        assert!((rates.memory - 8.0).abs() < 1e-9 && (rates.layer_us - 70.0).abs() < 1e-6);
        assert_eq!((rates.peak, rates.copy), (0.15, 12.0));
        // Nothing attains more than its peak, whatever the times.
        let odd = Rates::fitted(reckoned, 1.0, ms(all), 1e9, 12.0, Some(peaks));
        assert!(odd.products <= odd.peak && odd.memory <= odd.copy && odd.layer_us == 0.0);
        let odd = Rates::fitted(reckoned, 1e9, 1.0, 1e-9, 12.0, None);
        assert!(odd.products <= odd.peak && odd.memory <= odd.copy && odd.products > 0.0);
    }
}
