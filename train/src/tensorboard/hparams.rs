//! What TensorBoard's hparams plugin shows of a run: its configuration, and what it is judged by.

use std::collections::{BTreeMap, BTreeSet};

use super::messages::{
    DType, DataClass, Dim, Experiment, HParam, HParamInfo, HParamType, HParamValue, HParamsData,
    Held, Metadata, MetricInfo, MetricName, PluginData, SessionEnd, SessionOutcome, SessionStart,
    Shape, Tensor, Told, Value,
};
use crate::config::RunConfig;
use crate::failure::{Result, UsageError};

/// Sections that say how a run is looked at, not what it is.
const LOOKS: [&str; 3] = ["output", "metrics", "alerts"];
/// What runs are judged by: tag, and how it is shown.
const METRICS: [(&str, &str); 3] = [
    ("valid/loss", "validation loss"),
    ("train/loss", "training loss"),
    ("time/tokens_per_second", "tokens/s"),
];

/// Every value of a configuration that says what a run computes, by its key.
pub(super) fn of_config(config: &RunConfig) -> Result<BTreeMap<String, HParam>> {
    let table: toml::Table = toml::from_str(&config.to_toml()?)
        .map_err(|error| UsageError(format!("the run's configuration: {error}")))?;
    let mut found = BTreeMap::new();
    for (section, value) in table.iter().filter(|(section, _)| !LOOKS.contains(&section.as_str())) {
        flatten(section, value, &mut found);
    }
    Ok(found)
}

fn flatten(key: &str, value: &toml::Value, found: &mut BTreeMap<String, HParam>) {
    let value = match value {
        toml::Value::Table(inner) => {
            for (name, value) in inner {
                flatten(&format!("{key}.{name}"), value, found);
            }
            return;
        }
        toml::Value::Integer(number) => HParamValue::Number(*number as f64),
        toml::Value::Float(number) => HParamValue::Number(*number),
        toml::Value::Boolean(flag) => HParamValue::Flag(*flag),
        toml::Value::String(text) => HParamValue::Text(text.clone()),
        other => HParamValue::Text(other.to_string()),
    };
    found.insert(key.into(), HParam { value: Some(value) });
}

/// The keys of a configuration that are no default.
pub(super) fn changed(config: &RunConfig) -> Result<BTreeSet<String>> {
    let sections = config.differences()?.into_iter();
    let keys = sections.flat_map(|(section, keys)| {
        keys.into_iter().map(move |(key, _)| format!("{section}.{key}"))
    });
    Ok(keys.collect())
}

/// That a run begins, as two values. What was changed is shown first.
pub(super) fn start(
    hparams: &BTreeMap<String, HParam>,
    changed: &BTreeSet<String>,
    wall_time: f64,
) -> Vec<Value> {
    let hparam_infos = hparams.iter().map(|(name, value)| {
        let kind = match value.value {
            Some(HParamValue::Number(_)) => HParamType::Number,
            Some(HParamValue::Flag(_)) => HParamType::Bool,
            Some(HParamValue::Text(_)) => HParamType::String,
            None => HParamType::Unset,
        };
        HParamInfo { name: name.clone(), kind: kind.into(), differs: changed.contains(name) }
    });
    let metric_infos = METRICS.map(|(tag, display_name)| MetricInfo {
        name: Some(MetricName { tag: tag.into() }),
        display_name: display_name.into(),
    });
    let experiment = Experiment {
        time_created_secs: wall_time,
        hparam_infos: hparam_infos.collect(),
        metric_infos: metric_infos.into(),
    };
    let session = SessionStart { hparams: hparams.clone(), start_time_secs: wall_time };
    vec![
        value("_hparams_/experiment", Told::Experiment(experiment)),
        value("_hparams_/session_start_info", Told::SessionStart(session)),
    ]
}

/// That a run has ended.
pub(super) fn end(status: SessionOutcome, wall_time: f64) -> Value {
    let end = SessionEnd { status: status.into(), end_time_secs: wall_time };
    value("_hparams_/session_end_info", Told::SessionEnd(end))
}

/// All is in the metadata; the value itself is a tensor of nothing.
fn value(tag: &str, told: Told) -> Value {
    let content = prost::Message::encode_to_vec(&HParamsData { told: Some(told) });
    Value {
        tag: tag.into(),
        metadata: Some(Metadata {
            plugin_data: Some(PluginData { plugin_name: "hparams".into(), content }),
            summary_description: String::new(),
            data_class: DataClass::Tensor.into(),
        }),
        held: Some(Held::Tensor(Tensor {
            dtype: DType::Float.into(),
            tensor_shape: Some(Shape { dim: vec![Dim { size: 0 }] }),
            string_val: Vec::new(),
        })),
    }
}
