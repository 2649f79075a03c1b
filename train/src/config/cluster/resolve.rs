//! From a cluster's file, and what a run and the command line lay over it, to a [`ClusterConfig`].

use std::path::Path;

use toml::{Table, Value};

use super::{
    ClusterConfig, GpuConfig, LinkConfig, LinksConfig, NodeConfig, PlanConfig, RatesConfig,
};
use crate::config::embedded;
use crate::config::error::ConfigError;
use crate::config::keys::{fields_of, nearest};
use crate::config::overrides::Override;
use crate::config::resolve::{parse, read, read_section};

/// The cluster of a name or path, with the `--set section.key=value` of its sections laid over it
/// and `planned`, keys of `[plan]` that a run gives, under those.
///
/// # Errors
/// [`ConfigError`]: an unknown name or key, a value of the wrong type, or every problem at once,
/// each with its key.
pub fn resolve_cluster(
    cluster: &str,
    set: &[String],
    planned: &Table,
) -> Result<ClusterConfig, ConfigError> {
    match embedded::find(embedded::CLUSTERS, cluster) {
        Some(text) => resolve_text(text, cluster, set, planned),
        None if embedded::is_path(cluster) => {
            resolve_text(&read(Path::new(cluster))?, cluster, set, planned)
        }
        None => Err(embedded::unknown("cluster", cluster, embedded::CLUSTERS)),
    }
}

fn resolve_text(
    text: &str,
    origin: &str,
    set: &[String],
    planned: &Table,
) -> Result<ClusterConfig, ConfigError> {
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
    let origin = if set.is_empty() {
        origin.to_string()
    } else {
        format!("{origin} with the command line's values")
    };
    let cluster = ClusterConfig {
        gpu: read_section(&root, "gpu", &origin)?,
        node: read_section(&root, "node", &origin)?,
        link: read_section(&root, "link", &origin)?,
        rates: read_section(&root, "rates", &origin)?,
        plan: if root.contains_key("plan") {
            Some(read_section(&root, "plan", &origin)?)
        } else {
            None
        },
        reference: if root.contains_key("reference") {
            read_section(&root, "reference", &origin)?
        } else {
            Vec::new()
        },
        worker: if root.contains_key("worker") {
            read_section(&root, "worker", &origin)?
        } else {
            Vec::new()
        },
    };
    let problems = cluster.problems();
    if problems.is_empty() { Ok(cluster) } else { Err(ConfigError::Invalid { origin, problems }) }
}

/// The sections of a cluster that `--set` reaches, and the keys that each knows.
fn sections() -> [(&'static str, &'static [&'static str]); 5] {
    [
        ("gpu", fields_of::<GpuConfig>()),
        ("node", fields_of::<NodeConfig>()),
        ("link", fields_of::<LinksConfig>()),
        ("rates", fields_of::<RatesConfig>()),
        ("plan", fields_of::<PlanConfig>()),
    ]
}

/// The key of a cluster that is called so, or nearly so, with its section.
pub fn cluster_key_like(key: &str) -> Option<String> {
    let near = nearest(key, sections().into_iter().flat_map(|(_, keys)| keys.iter().copied()))?;
    let (section, _) = sections().into_iter().find(|(_, keys)| keys.contains(&near))?;
    Some(format!("{section}.{near}"))
}

/// Finds the first key that no section knows.
fn check_keys(root: &Table, origin: &str) -> Result<(), ConfigError> {
    let unknown = |key: &str, path: &str, known: &[&str]| {
        let dotted =
            |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        ConfigError::UnknownKey {
            origin: origin.into(),
            key: dotted(key),
            nearest: nearest(key, known.iter().copied()).map(dotted),
            known: known.iter().map(|key| dotted(key)).collect(),
        }
    };
    let check = |table: &Table, path: &str, known: &[&str]| {
        table
            .keys()
            .find(|key| !known.contains(&key.as_str()))
            .map_or(Ok(()), |key| Err(unknown(key, path, known)))
    };
    check(root, "", &ClusterConfig::SECTIONS)?;
    for (section, known) in sections() {
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
        assert!(
            message(&h800().replace("[link.fast]", "[link.quick]"), &[])
                .contains("unknown key `link.quick`")
        );
        assert!(
            message(&h800().replace("fp8_tflops", "fp8_tflop"), &[])
                .contains("c.toml: unknown key `gpu.fp8_tflop`; did you mean `gpu.fp8_tflops`?")
        );
        let from_set = message(h800(), &["rates.linear_fp=0.3"]);
        assert!(
            from_set.starts_with("--set rates.linear_fp=0.3: unknown key")
                && from_set.contains("did you mean `rates.linear_f"),
            "{from_set}"
        );
        assert!(message(h800(), &["link.slow.gb=3"]).contains("unknown key `link.slow.gb`"));
    }

    #[test]
    fn a_key_without_its_section_is_recognized() {
        assert_eq!(cluster_key_like("memory_gib"), Some("gpu.memory_gib".into()));
        assert_eq!(cluster_key_like("piepline"), Some("plan.pipeline".into()));
        assert_eq!(cluster_key_like("banana"), None);
    }

    #[test]
    fn every_problem_is_told_with_its_key() {
        let all = message(
            h800(),
            &[
                "gpu.memory_gib=0",
                "rates.memory=1.5",
                "rates.expert_load=0.5",
                "node.count=0",
                "link.slow.gb_per_s=nan",
                "gpu.layer_us=-1",
                "link.fast.latency_us=-2",
            ],
        );
        for part in [
            "gpu.memory_gib = 0 must be a number above 0",
            "rates.memory = 1.5 must be above 0 and at most 1",
            "rates.expert_load = 0.5 must be a number of at least 1",
            "node.count = 0 must be from 1",
            "link.slow.gb_per_s = NaN must be",
            "gpu.layer_us = -1 must be",
            "link.fast.latency_us = -2 must be",
        ] {
            assert!(all.contains(part), "{part} not in {all}");
        }
        assert!(
            message(h800(), &["link.slow=none"]).contains("link.slow is missing; node.count = 256")
        );
        assert!(message(h800(), &["rates.memory=fast"]).contains("rates"));
        assert!(message(h800(), &["plan.schedule=gpipe"]).contains("plan"));
        assert!(
            message(&h800().replace("gpu_hours = 2.664e6", "gpu_hours = 0"), &[])
                .contains("reference[0].gpu_hours = 0")
        );
    }

    #[test]
    fn a_run_s_keys_lie_under_those_of_the_command_line() {
        let planned: Table = toml::from_str("seq_len = 128\nglobal_batch = 4").unwrap();
        let cluster =
            resolve_cluster("h800-2048", &["plan.global_batch=8".into()], &planned).unwrap();
        let plan = cluster.plan.unwrap();
        assert_eq!((plan.seq_len, plan.global_batch, plan.pipeline), (128, 8, 16));
        assert_eq!(plan.tokens, Some(14_800_000_000_000));
        let unknown = resolve_cluster("h801", &[], &planned).unwrap_err().to_string();
        assert!(
            unknown.contains(
                "cluster \"h801\" is unknown; known: h800-2048, gpu-8, h100-1, two-machines, cpu-2"
            ),
            "{unknown}"
        );
    }
}
