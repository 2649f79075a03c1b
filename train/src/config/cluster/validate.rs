//! Whether a cluster can be: every problem at once, each with its key.

use super::ClusterConfig;

/// More than anybody has.
const MOST_GPUS: usize = 1 << 16;

impl ClusterConfig {
    /// What is wrong with it, each problem with its key; `[plan]` is judged with the model that it
    /// is for.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let Self { gpu, node, link, rates, plan: _, reference, worker: _ } = self;
        let mut above_0 = |key: &str, value: f64| {
            if !(value.is_finite() && value > 0.0) {
                problems.push(format!("{key} = {value} must be a number above 0"));
            }
        };
        above_0("gpu.memory_gib", gpu.memory_gib);
        above_0("gpu.memory_gb_per_s", gpu.memory_gb_per_s);
        above_0("gpu.f32_tflops", gpu.f32_tflops);
        for (key, value) in
            [("gpu.fp8_tflops", gpu.fp8_tflops), ("gpu.bf16_tflops", gpu.bf16_tflops)]
        {
            value.into_iter().for_each(|value| above_0(key, value));
        }
        above_0("link.fast.gb_per_s", link.fast.gb_per_s);
        link.slow.iter().for_each(|slow| above_0("link.slow.gb_per_s", slow.gb_per_s));
        reference.iter().enumerate().for_each(|(index, known)| {
            above_0(&format!("reference[{index}].gpu_hours"), known.gpu_hours)
        });
        let links = [
            ("link.fast.latency_us", Some(&link.fast)),
            ("link.slow.latency_us", link.slow.as_ref()),
        ];
        let latencies = links.into_iter().filter_map(|(key, link)| Some((key, link?.latency_us)));
        for (key, us) in latencies.chain([("gpu.layer_us", gpu.layer_us)]) {
            if !(us.is_finite() && us >= 0.0) {
                problems.push(format!("{key} = {us} must be a number of at least 0"));
            }
        }
        for (key, value) in rates.fractions() {
            if !(value > 0.0 && value <= 1.0) {
                problems.push(format!("{key} = {value} must be above 0 and at most 1"));
            }
        }
        if !(rates.expert_load.is_finite() && rates.expert_load >= 1.0) {
            problems.push(format!(
                "rates.expert_load = {} must be a number of at least 1",
                rates.expert_load
            ));
        }
        for (key, count) in [("node.gpus", node.gpus), ("node.count", node.count)] {
            if !(1..=MOST_GPUS).contains(&count) {
                problems.push(format!("{key} = {count} must be from 1 to {MOST_GPUS}"));
            }
        }
        if node.count > 1 && link.slow.is_none() {
            problems.push(format!(
                "link.slow is missing; node.count = {} nodes are joined by it",
                node.count
            ));
        }
        for (index, known) in reference.iter().enumerate() {
            if known.tokens.is_none_or(|tokens| tokens == 0) {
                problems.push(format!("reference[{index}].tokens must be at least 1"));
            }
        }
        problems
    }
}
