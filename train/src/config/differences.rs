//! What of a configuration is not a default, and in what two models differ.

use std::collections::BTreeMap;

use burn_deepseek::config::DeepSeekConfig;
use serde::{Deserialize, Serialize};
use toml::Table;

use super::embedded::MODELS;
use super::{
    AlertsConfig, ConfigError, DataConfig, EmaConfig, MetricsConfig, OptimizerConfig, OutputConfig,
    ParallelConfig, PrecisionConfig, RunConfig, ScheduleConfig, TrainConfig, resolve_model,
};

/// Keys and their values as TOML.
pub type Keys = Vec<(String, String)>;

/// What has no value.
const NONE: &str = "none";

/// The sections of `[train]` and `[schedule]` with what they must say; what they say is no default.
const TRAIN: &str = "seq_len = 1\nmicro_batch = 1";
const SCHEDULE: &str = "lr = 0\nglobal_batch = 1";

impl RunConfig {
    /// The same as it may be shown to others: without what is secret of it.
    pub fn shown(&self) -> Self {
        Self { alerts: self.alerts.shown(), ..self.clone() }
    }

    /// What the configuration says beyond defaults, section by section: its name, and keys with
    /// their values as TOML. The model is the built-in one that it differs least from, and what of
    /// it differs. What of it may be secret is left out.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] where a value has no TOML form.
    pub fn differences(&self) -> Result<Vec<(&'static str, Keys)>, ConfigError> {
        let Self {
            model,
            data,
            train,
            schedule,
            optimizer,
            precision,
            ema,
            parallel,
            output,
            metrics,
            alerts,
        } = self;
        let mut sections = vec![("model", of_model(model)?)];
        for (name, own, defaults) in [
            ("data", table(data)?, table(&DataConfig::default())?),
            ("train", table(train)?, without::<TrainConfig>(TRAIN)?),
            ("schedule", of_schedule(schedule)?, scheduled()?),
            ("optimizer", table(optimizer)?, table(&OptimizerConfig::default())?),
            ("precision", table(precision)?, table(&PrecisionConfig::default())?),
            ("ema", table(ema)?, table(&EmaConfig::default())?),
            ("parallel", table(parallel)?, table(&ParallelConfig::default())?),
            ("output", table(output)?, table(&OutputConfig::default())?),
            ("metrics", table(metrics)?, table(&MetricsConfig::default())?),
            ("alerts", table(&alerts.shown())?, table(&AlertsConfig::default())?),
        ] {
            sections.push((name, differing(&own, &defaults)));
        }
        sections.retain(|(_, keys)| !keys.is_empty());
        Ok(sections)
    }
}

/// The keys whose values differ between two models, and both values, those of `one` first; an
/// optional key without a value has `none`.
///
/// # Errors
/// [`ConfigError::Invalid`] where a value has no TOML form.
pub fn model_differences(
    one: &DeepSeekConfig,
    other: &DeepSeekConfig,
) -> Result<Vec<(String, String, String)>, ConfigError> {
    let (one, other) = (table(one)?, table(other)?);
    let mut keys: Vec<&String> =
        one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))).collect();
    keys.retain(|key| one.get(*key) != other.get(*key));
    let value = |table: &Table, key: &str| {
        table.get(key).map_or_else(|| NONE.to_string(), ToString::to_string)
    };
    Ok(keys.into_iter().map(|key| (key.clone(), value(&one, key), value(&other, key))).collect())
}

/// The built-in model next to this one and what differs; all of it where none is near.
fn of_model(model: &DeepSeekConfig) -> Result<Keys, ConfigError> {
    let own = table(model)?;
    let mut nearest: Option<(&str, Keys)> = None;
    for (name, _) in MODELS {
        let preset = table(&resolve_model(Some(name), None, &[])?)?;
        let changed = differing(&own, &preset);
        if nearest.as_ref().is_none_or(|(_, least)| changed.len() < least.len()) {
            nearest = Some((*name, changed));
        }
    }
    let all = differing(&own, &Table::new());
    Ok(match nearest {
        Some((name, changed)) if 2 * changed.len() <= all.len() => {
            let preset = ("preset".to_string(), format!("{name:?}"));
            std::iter::once(preset).chain(changed).collect()
        }
        _ => all,
    })
}

/// The keys of `own` that `others` has not or has otherwise, then those that only `others` has.
fn differing(own: &Table, others: &Table) -> Keys {
    let changed = own
        .iter()
        .filter(|(key, value)| others.get(*key) != Some(*value))
        .map(|(key, value)| (key.clone(), value.to_string()));
    let gone = others.keys().filter(|key| !own.contains_key(*key));
    changed.chain(gone.map(|key| (key.clone(), format!("{NONE:?}")))).collect()
}

fn table<T: Serialize>(section: &T) -> Result<Table, ConfigError> {
    Table::try_from(section).map_err(|error| ConfigError::Invalid {
        origin: "resolved configuration".into(),
        problems: vec![error.to_string()],
    })
}

/// A schedule as it is written.
fn of_schedule(schedule: &ScheduleConfig) -> Result<Table, ConfigError> {
    let written: BTreeMap<String, Table> =
        toml::from_str(&schedule.to_toml()).map_err(no_default)?;
    Ok(written.into_values().next().unwrap_or_default())
}

/// The defaults of a schedule.
fn scheduled() -> Result<Table, ConfigError> {
    let mut defaults = of_schedule(&toml::from_str(SCHEDULE).map_err(no_default)?)?;
    let required: Table = toml::from_str(SCHEDULE).map_err(no_default)?;
    defaults.retain(|key, _| !required.contains_key(key));
    Ok(defaults)
}

fn no_default(error: toml::de::Error) -> ConfigError {
    ConfigError::Invalid { origin: "defaults".into(), problems: vec![error.to_string()] }
}

/// The defaults of a section that has to say something: `required`, which is left out again.
fn without<T: Serialize + for<'de> Deserialize<'de>>(required: &str) -> Result<Table, ConfigError> {
    let required_keys: Table = toml::from_str(required).map_err(no_default)?;
    let mut defaults = table(&toml::from_str::<T>(required).map_err(no_default)?)?;
    defaults.retain(|key, _| !required_keys.contains_key(key));
    Ok(defaults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigRequest;

    fn resolved(set: &[&str]) -> RunConfig {
        let set = set.iter().map(ToString::to_string).collect();
        ConfigRequest { set, ..ConfigRequest::default() }.resolve().unwrap()
    }

    #[test]
    fn a_built_in_run_is_a_few_keys() {
        let sections = resolved(&[]).differences().unwrap();
        let keys = |section: &str| -> Vec<String> {
            let found = sections.iter().find(|(name, _)| *name == section);
            let keys = found.map_or(&[][..], |(_, keys)| keys);
            keys.iter().map(|(key, value)| format!("{key} = {value}")).collect()
        };
        assert_eq!(keys("model"), ["preset = \"quickstart\""]);
        let train = keys("train");
        assert!(
            ["seq_len = 256", "steps = 1700"].iter().all(|key| train.contains(&key.to_string())),
            "{train:?}"
        );
        assert!(!train.iter().any(|key| key.starts_with("keep_checkpoints")), "{train:?}");
        let schedule = keys("schedule");
        assert_eq!(schedule.len(), 3, "{schedule:?}");
        assert!(schedule.contains(&"bias_update_speed = 0.005".to_string()), "{schedule:?}");
        assert_eq!([keys("data"), keys("optimizer")], [[""; 0]; 2]);
    }

    /// What is said, laid over a run that says no more than it must, is the configuration again.
    #[test]
    fn what_is_said_makes_the_configuration() {
        let config = resolved(&[
            "model.q_lora_rank=none",
            "model.hidden_size=64",
            "ema.decay=0.9",
            "precision.format=fp8",
            "data.seed=3",
            "train.seed=5",
            "train.tokens=1M",
        ]);
        let mut text = String::new();
        for (section, keys) in config.differences().unwrap() {
            text += &format!("[{section}]\n");
            for (key, value) in keys {
                text += &format!("{key} = {value}\n");
            }
        }
        assert!(text.contains("preset") && text.contains("q_lora_rank = \"none\""), "{text}");
        assert_eq!(RunConfig::from_toml(&text, "said").unwrap(), config, "{text}");
    }

    #[test]
    fn a_model_like_no_other_is_told_whole() {
        let base = resolve_model(Some("deepseek-v3-671b"), None, &[]).unwrap();
        let model = DeepSeekConfig {
            vocab_size: 20,
            hidden_size: 10,
            intermediate_size: 11,
            moe_intermediate_size: 12,
            num_hidden_layers: 13,
            num_attention_heads: 14,
            n_routed_experts: 15,
            n_shared_experts: 3,
            num_experts_per_tok: 4,
            first_k_dense_replace: 2,
            n_group: 5,
            topk_group: 2,
            q_lora_rank: Some(6),
            kv_lora_rank: 16,
            qk_nope_head_dim: 17,
            qk_rope_head_dim: 18,
            v_head_dim: 19,
            max_position_embeddings: 21,
            num_nextn_predict_layers: 7,
            routed_scaling_factor: 1.5,
            rope_theta: 3.0,
            initializer_range: 0.5,
            rms_norm_eps: 0.25,
            ..base
        };
        let keys = of_model(&model).unwrap();
        let all = table(&model).unwrap().len();
        assert_eq!(keys.len(), all, "{keys:?}");
    }

    #[test]
    fn models_are_compared_key_by_key() {
        let tiny = resolve_model(Some("tiny"), None, &[]).unwrap();
        let other = DeepSeekConfig { hidden_size: 32, q_lora_rank: None, ..tiny.clone() };
        let found = model_differences(&other, &tiny).unwrap();
        let keys: Vec<&str> = found.iter().map(|(key, ..)| key.as_str()).collect();
        assert!(keys.contains(&"hidden_size") && keys.contains(&"q_lora_rank"), "{found:?}");
        assert_eq!(keys.len(), 2);
        let rank = found.iter().find(|(key, ..)| key == "q_lora_rank").unwrap();
        assert_eq!(rank.1, "none");
        assert_eq!(model_differences(&tiny, &tiny).unwrap(), []);
    }
}
