//! `deepseek plan cluster`: a run on a cluster, worked out and printed.

mod tables;

use burn_deepseek::DeepSeekConfig;
use serde_json::json;
use toml::{Table, Value};

use crate::cli::PlanClusterArgs;
use crate::config::{
    ClusterConfig, ConfigError, ConfigRequest, RunConfig, cluster_key_like, resolve_cluster,
    resolve_model,
};
use crate::exit::Outcome;
use crate::failure::Result;
use crate::fold::width;
use crate::plan::{ClusterPlan, Workload};
use crate::stdout::write_stdout;

/// The model of a plan without one.
const DEFAULT_MODEL: &str = "deepseek-v3-671b";

/// A plan and what it is of.
struct Planned {
    model_name: String,
    model: DeepSeekConfig,
    cluster_name: String,
    cluster: ClusterConfig,
    plan: ClusterPlan,
}

/// Works a plan out and prints it.
pub(super) fn run(args: &PlanClusterArgs) -> Result<Outcome> {
    let planned = Planned::new(args)?;
    write_stdout(&tables::text(&planned, width()))?;
    Ok(Outcome::done(planned.results()))
}

impl Planned {
    fn new(args: &PlanClusterArgs) -> Result<Self, ConfigError> {
        let of_cluster = |text: &&String| ClusterConfig::SECTIONS.contains(&section(text));
        let (cluster_set, other_set): (Vec<_>, Vec<_>) =
            args.config.set.iter().partition(of_cluster);
        let [cluster_set, other_set] =
            [cluster_set, other_set].map(|set| set.into_iter().cloned().collect::<Vec<String>>());
        let origin = format!(
            "{} on {}",
            args.config.config.as_deref().unwrap_or(model_name(args)),
            args.cluster
        );
        let (model, run) = match &args.config.config {
            Some(config) => {
                let request = ConfigRequest {
                    config: Some(config.clone()),
                    set: other_set,
                    ..ConfigRequest::default()
                };
                let run = request.resolve()?;
                (run.model.clone(), Some(run))
            }
            None => {
                if let Some(text) = other_set.iter().find(|text| section(text) != "model") {
                    let key = text.split('=').next().unwrap_or(text).trim();
                    let meant = cluster_key_like(key.rsplit('.').next().unwrap_or(key))
                        .map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
                    let message = format!(
                        "the key must begin with model. or with a section of the cluster's file \
                         ({}); a run's sections need --config{meant}",
                        ClusterConfig::SECTIONS.join(", ")
                    );
                    return Err(ConfigError::Set { text: text.clone(), message });
                }
                (resolve_model(Some(model_name(args)), None, &other_set)?, None)
            }
        };
        let planned = run.as_ref().map_or_else(|| Ok(Table::new()), keys_of_run)?;
        let cluster = resolve_cluster(&args.cluster, &cluster_set, &planned)?;
        let Some(section) = &cluster.plan else {
            let message =
                "is missing; a model alone does not say how it is spread over the cluster, so give \
                 --config or the section".into();
            return Err(ConfigError::Section {
                origin: args.cluster.clone(),
                section: "plan".into(),
                message,
            });
        };
        let mut workload = Workload::new(section);
        if let Some(run) = &run {
            if run.precision.format == section.precision {
                workload.precision = run.precision.precision();
            }
            workload.dispatch = run.parallel.dispatch;
            workload.moment_bytes = run.optimizer.moment_bytes();
        }
        let plan = ClusterPlan::new(&model, &workload, &cluster, &origin)?;
        let model_name = args.config.config.clone().unwrap_or_else(|| model_name(args).into());
        Ok(Self { model_name, model, cluster_name: args.cluster.clone(), cluster, plan })
    }

    fn results(&self) -> serde_json::Value {
        let ClusterPlan { workload, report, program, traffic, step, schedules, account } =
            &self.plan;
        json!({
            "command": "plan cluster",
            "model": self.model,
            "parameters": self.model.parameter_counts(),
            "cluster_name": self.cluster_name,
            "cluster": self.cluster,
            "workload": workload,
            "memory": { "report": report, "program": program },
            "traffic": traffic,
            "step": step,
            "schedules": schedules,
            "account": account,
        })
    }
}

fn model_name(args: &PlanClusterArgs) -> &str {
    args.preset.as_deref().unwrap_or(DEFAULT_MODEL)
}

/// The section of a `section.key=value`.
fn section(text: &str) -> &str {
    text.split(['.', '=']).next().unwrap_or(text).trim()
}

/// What a run says of the keys of `[plan]`: all of them, but the axes of a run on one rank, which
/// are the cluster's.
fn keys_of_run(run: &RunConfig) -> Result<Table, ConfigError> {
    let schedule = run.schedule()?;
    let integer = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let largest = schedule.global_batches().into_iter().max().unwrap_or(0);
    let mut keys = Table::from_iter([
        ("seq_len".into(), integer(run.train.seq_len as u64)),
        ("micro_batch".into(), integer(run.train.micro_batch as u64)),
        ("global_batch".into(), integer(largest as u64)),
        ("recompute".into(), Value::Boolean(run.precision.recompute)),
        ("tokens".into(), integer(schedule.end().tokens)),
        ("precision".into(), as_written(&run.precision.format)?),
    ]);
    if run.parallel.axes().ranks() > 1 {
        let parallel = &run.parallel;
        for (key, degree) in
            [("pipeline", parallel.pipeline), ("expert", parallel.expert), ("data", parallel.data)]
        {
            keys.insert(key.into(), integer(degree as u64));
        }
        keys.insert("schedule".into(), as_written(&parallel.schedule)?);
    }
    Ok(keys)
}

fn as_written<T: serde::Serialize>(value: &T) -> Result<Value, ConfigError> {
    Value::try_from(value).map_err(|error| ConfigError::Invalid {
        origin: "resolved configuration".into(),
        problems: vec![error.to_string()],
    })
}
