//! A cluster's file: its hardware, what is attained of it, and what is planned for it. `deepseek plan cluster` reckons with it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::embedded;
use super::error::ConfigError;
use super::keys::{fields_of, nearest};
use super::overrides::Override;
use super::precision::Format;
use super::resolve::{parse, read, read_section};
use super::sections::tokens_as_written;
use crate::dualpipe::ScheduleKind;

/// A cluster, complete and validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// One GPU (or whatever a rank computes on).
    pub gpu: GpuConfig,
    /// What shares the fast link.
    pub node: NodeConfig,
    /// The links.
    pub link: LinksConfig,
    /// What is attained of all that.
    pub rates: RatesConfig,
    /// What is planned where no run says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanConfig>,
    /// Runs that are known, to compare plans with.
    #[serde(default)]
    pub reference: Vec<ReferenceConfig>,
}

/// `[gpu]`: one device by its data sheet. A TFLOP/s is 10^12, a GB 10^9.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuConfig {
    /// What it is called.
    pub name: String,
    /// Its memory in GiB.
    pub memory_gib: f64,
    /// Bandwidth of its memory in GB/s, reads and writes together.
    pub memory_gb_per_s: f64,
    /// Peak of FP8 products, dense; without it FP8 cannot be planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp8_tflops: Option<f64>,
    /// Peak of BF16 products, dense; without it neither BF16 nor FP8 can be planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bf16_tflops: Option<f64>,
    /// Peak of FP32 products.
    pub f32_tflops: f64,
    /// Microseconds that a layer costs a micro-batch beside its work, in each of F, B and W: calls, launches, threads that wait for each
    /// other. Small models spend their time here.
    #[serde(default)]
    pub layer_us: f64,
}

/// `[node]`: GPUs that share the fast link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// GPUs of a node.
    pub gpus: usize,
    /// Nodes.
    pub count: usize,
}

/// `[link]`: what GPUs are joined by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinksConfig {
    /// Inside a node.
    pub fast: LinkConfig,
    /// Between nodes; needed where there is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<LinkConfig>,
}

/// `[link.fast]` and `[link.slow]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// GB/s of one GPU in one direction.
    pub gb_per_s: f64,
}

/// `[rates]`: what is attained, as fractions of the peaks of `[gpu]` and `[link]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatesConfig {
    /// Products of linears in FP8.
    #[serde(default = "one")]
    pub linear_fp8: f64,
    /// Products of linears in BF16.
    #[serde(default = "one")]
    pub linear_bf16: f64,
    /// Products of linears in FP32, routers included.
    pub linear_f32: f64,
    /// Attention, forward.
    pub attention_forward: f64,
    /// Attention, backward, its scores computed again.
    pub attention_backward: f64,
    /// The memory's bandwidth in what is not a product.
    pub memory: f64,
    /// The link inside a node.
    pub link_fast: f64,
    /// The link between nodes.
    #[serde(default = "one")]
    pub link_slow: f64,
    /// Rows of the rank whose experts have most, over the mean: at least 1.
    #[serde(default = "one")]
    pub expert_load: f64,
    /// Share of the time in which the run goes on.
    #[serde(default = "one")]
    pub goodput: f64,
}

/// `[plan]`: how a run is spread over the cluster, and what a step is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanConfig {
    /// Ranks of a pipeline.
    pub pipeline: usize,
    /// Pipelines that share the experts of their layers.
    pub expert: usize,
    /// Copies of all that.
    pub data: usize,
    /// The schedule of a pipeline.
    pub schedule: ScheduleKind,
    /// Tokens of a sequence.
    pub seq_len: usize,
    /// Sequences of a micro-batch.
    pub micro_batch: usize,
    /// Sequences of a step.
    pub global_batch: usize,
    /// What the linears compute in.
    pub precision: Format,
    /// Whether RMSNorms, MLA up-projections and SwiGLU are computed again in backward.
    pub recompute: bool,
    /// Tokens of the whole run, also as in `"14.8T"`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "tokens_as_written")]
    pub tokens: Option<u64>,
}

/// `[[reference]]`: what a run is known to have taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceConfig {
    /// Parameters of its model, MTP modules not counted: which model it is.
    pub parameters: u64,
    /// Tokens that it was trained on.
    #[serde(deserialize_with = "tokens_as_written")]
    pub tokens: Option<u64>,
    /// GPUs times hours.
    pub gpu_hours: f64,
}

fn one() -> f64 {
    1.0
}

impl ClusterConfig {
    /// The sections of a cluster's file: those of no run.
    pub(crate) const SECTIONS: [&'static str; 6] = ["gpu", "node", "link", "rates", "plan", "reference"];

    /// GPUs of all nodes.
    pub fn gpus(&self) -> usize {
        self.node.gpus.saturating_mul(self.node.count)
    }

    /// What is wrong with it, each problem with its key; `[plan]` is judged with the model that it is for.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let Self { gpu, node, link, rates, plan: _, reference } = self;
        let mut above_0 = |key: &str, value: f64| {
            if !(value.is_finite() && value > 0.0) {
                problems.push(format!("{key} = {value} must be a number above 0"));
            }
        };
        above_0("gpu.memory_gib", gpu.memory_gib);
        above_0("gpu.memory_gb_per_s", gpu.memory_gb_per_s);
        above_0("gpu.f32_tflops", gpu.f32_tflops);
        for (key, value) in [("gpu.fp8_tflops", gpu.fp8_tflops), ("gpu.bf16_tflops", gpu.bf16_tflops)] {
            value.into_iter().for_each(|value| above_0(key, value));
        }
        above_0("link.fast.gb_per_s", link.fast.gb_per_s);
        link.slow.iter().for_each(|slow| above_0("link.slow.gb_per_s", slow.gb_per_s));
        reference.iter().enumerate().for_each(|(index, known)| above_0(&format!("reference[{index}].gpu_hours"), known.gpu_hours));
        if !(gpu.layer_us.is_finite() && gpu.layer_us >= 0.0) {
            problems.push(format!("gpu.layer_us = {} must be a number of at least 0", gpu.layer_us));
        }
        for (key, value) in rates.fractions() {
            if !(value > 0.0 && value <= 1.0) {
                problems.push(format!("{key} = {value} must be above 0 and at most 1"));
            }
        }
        if !(rates.expert_load.is_finite() && rates.expert_load >= 1.0) {
            problems.push(format!("rates.expert_load = {} must be a number of at least 1", rates.expert_load));
        }
        for (key, count) in [("node.gpus", node.gpus), ("node.count", node.count)] {
            if !(1..=MOST_GPUS).contains(&count) {
                problems.push(format!("{key} = {count} must be from 1 to {MOST_GPUS}"));
            }
        }
        if node.count > 1 && link.slow.is_none() {
            problems.push(format!("link.slow is missing; node.count = {} nodes are joined by it", node.count));
        }
        for (index, known) in reference.iter().enumerate() {
            if known.tokens.is_none_or(|tokens| tokens == 0) {
                problems.push(format!("reference[{index}].tokens must be at least 1"));
            }
        }
        problems
    }
}

/// More than anybody has.
const MOST_GPUS: usize = 1 << 16;

impl RatesConfig {
    /// All but `expert_load`, by key.
    pub fn fractions(&self) -> [(&'static str, f64); 9] {
        [
            ("rates.linear_fp8", self.linear_fp8),
            ("rates.linear_bf16", self.linear_bf16),
            ("rates.linear_f32", self.linear_f32),
            ("rates.attention_forward", self.attention_forward),
            ("rates.attention_backward", self.attention_backward),
            ("rates.memory", self.memory),
            ("rates.link_fast", self.link_fast),
            ("rates.link_slow", self.link_slow),
            ("rates.goodput", self.goodput),
        ]
    }
}

/// The cluster of a name or path, with the `--set section.key=value` of its sections laid over it and `planned`, keys of `[plan]` that a
/// run gives, under those.
///
/// # Errors
/// [`ConfigError`]: an unknown name or key, a value of the wrong type, or every problem at once, each with its key.
pub fn resolve_cluster(cluster: &str, set: &[String], planned: &Table) -> Result<ClusterConfig, ConfigError> {
    match embedded::find(embedded::CLUSTERS, cluster) {
        Some(text) => resolve_text(text, cluster, set, planned),
        None if embedded::is_path(cluster) => resolve_text(&read(Path::new(cluster))?, cluster, set, planned),
        None => {
            let known = embedded::names(embedded::CLUSTERS);
            Err(ConfigError::UnknownName { what: "cluster", name: cluster.into(), known })
        }
    }
}

fn resolve_text(text: &str, origin: &str, set: &[String], planned: &Table) -> Result<ClusterConfig, ConfigError> {
    let mut root = parse(text, origin)?;
    check_keys(&root, origin)?;
    let overrides = set.iter().map(|text| Override::parse(text)).collect::<Result<Vec<_>, _>>()?;
    if !planned.is_empty() {
        let plan = root.entry("plan").or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(plan) = plan {
            plan.extend(planned.clone());
        }
    }
    for over in &overrides {
        check_keys(&over.as_table(), &over.origin)?;
        over.apply(&mut root);
    }
    let origin = if set.is_empty() { origin.to_string() } else { format!("{origin} with the command line's values") };
    let cluster = ClusterConfig {
        gpu: read_section(&root, "gpu", &origin)?,
        node: read_section(&root, "node", &origin)?,
        link: read_section(&root, "link", &origin)?,
        rates: read_section(&root, "rates", &origin)?,
        plan: if root.contains_key("plan") { Some(read_section(&root, "plan", &origin)?) } else { None },
        reference: if root.contains_key("reference") { read_section(&root, "reference", &origin)? } else { Vec::new() },
    };
    let problems = cluster.problems();
    if problems.is_empty() { Ok(cluster) } else { Err(ConfigError::Invalid { origin, problems }) }
}

/// Finds the first key that no section knows.
fn check_keys(root: &Table, origin: &str) -> Result<(), ConfigError> {
    let unknown = |key: &str, path: &str, known: &[&str]| {
        let dotted = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        ConfigError::UnknownKey {
            origin: origin.into(),
            key: dotted(key),
            nearest: nearest(key, known.iter().copied()).map(dotted),
            known: known.iter().map(|key| dotted(key)).collect(),
        }
    };
    let check = |table: &Table, path: &str, known: &[&str]| {
        table.keys().find(|key| !known.contains(&key.as_str())).map_or(Ok(()), |key| Err(unknown(key, path, known)))
    };
    check(root, "", &ClusterConfig::SECTIONS)?;
    for (section, known) in [
        ("gpu", fields_of::<GpuConfig>()),
        ("node", fields_of::<NodeConfig>()),
        ("link", fields_of::<LinksConfig>()),
        ("rates", fields_of::<RatesConfig>()),
        ("plan", fields_of::<PlanConfig>()),
    ] {
        if let Some(Value::Table(table)) = root.get(section) {
            check(table, section, known)?;
        }
    }
    if let Some(Value::Table(links)) = root.get("link") {
        for (name, link) in links.iter().filter_map(|(name, link)| Some((name, link.as_table()?))) {
            check(link, &format!("link.{name}"), fields_of::<LinkConfig>())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, set: &[&str]) -> String {
        let set: Vec<String> = set.iter().map(ToString::to_string).collect();
        resolve_text(text, "c.toml", &set, &Table::new()).unwrap_err().to_string()
    }

    fn h800() -> &'static str {
        embedded::find(embedded::CLUSTERS, "h800-2048").unwrap()
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        assert!(message(&h800().replace("[link.fast]", "[link.quick]"), &[]).contains("unknown key `link.quick`"));
        assert!(
            message(&h800().replace("fp8_tflops", "fp8_tflop"), &[])
                .contains("c.toml: unknown key `gpu.fp8_tflop`; did you mean `gpu.fp8_tflops`?")
        );
        let from_set = message(h800(), &["rates.linear_fp=0.3"]);
        assert!(
            from_set.starts_with("--set rates.linear_fp=0.3: unknown key") && from_set.contains("did you mean `rates.linear_f"),
            "{from_set}"
        );
        assert!(message(h800(), &["link.slow.gb=3"]).contains("unknown key `link.slow.gb`"));
    }

    #[test]
    fn every_problem_is_told_with_its_key() {
        let all = message(
            h800(),
            &["gpu.memory_gib=0", "rates.memory=1.5", "rates.expert_load=0.5", "node.count=0", "link.slow.gb_per_s=nan", "gpu.layer_us=-1"],
        );
        for part in [
            "gpu.memory_gib = 0 must be a number above 0",
            "rates.memory = 1.5 must be above 0 and at most 1",
            "rates.expert_load = 0.5 must be a number of at least 1",
            "node.count = 0 must be from 1",
            "link.slow.gb_per_s = NaN must be",
            "gpu.layer_us = -1 must be",
        ] {
            assert!(all.contains(part), "{part} not in {all}");
        }
        assert!(message(h800(), &["link.slow=none"]).contains("link.slow is missing; node.count = 256"));
        assert!(message(h800(), &["rates.memory=fast"]).contains("rates"));
        assert!(message(h800(), &["plan.schedule=gpipe"]).contains("plan"));
        assert!(message(&h800().replace("gpu_hours = 2.664e6", "gpu_hours = 0"), &[]).contains("reference[0].gpu_hours = 0"));
    }

    #[test]
    fn a_run_s_keys_lie_under_those_of_the_command_line() {
        let planned: Table = toml::from_str("seq_len = 128\nglobal_batch = 4").unwrap();
        let cluster = resolve_cluster("h800-2048", &["plan.global_batch=8".into()], &planned).unwrap();
        let plan = cluster.plan.unwrap();
        assert_eq!((plan.seq_len, plan.global_batch, plan.pipeline), (128, 8, 16));
        assert_eq!(plan.tokens, Some(14_800_000_000_000));
        let unknown = resolve_cluster("h801", &[], &planned).unwrap_err().to_string();
        assert!(unknown.contains("cluster \"h801\" is unknown; known: h800-2048, gpu-8, cpu-2"), "{unknown}");
    }
}
