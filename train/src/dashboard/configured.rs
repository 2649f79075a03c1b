//! What a run's configuration says of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::refusal::Refusal;
use crate::config::RunConfig;
use crate::failure::Result;

/// A run's configuration without what is secret of it, and what is told of it.
#[derive(Debug)]
pub(super) struct Configured {
    pub config: RunConfig,
    /// As it may be shown: without what is secret of it.
    pub toml: String,
    /// Whole keys and values of what is no default.
    pub changed: BTreeMap<String, String>,
    pub planned_steps: u64,
    pub model: String,
    pub parameters: u64,
    /// MoE layers, MTP modules after the main model's.
    pub layers: Vec<usize>,
}

impl Configured {
    /// What a configuration says.
    ///
    /// # Errors
    /// It is none.
    pub fn read(toml: &str, origin: &str) -> Result<Self> {
        let config = RunConfig::from_toml(toml, origin)?.shown();
        let mut changed = BTreeMap::new();
        for (section, keys) in config.differences()? {
            changed
                .extend(keys.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)));
        }
        let preset = changed.get("model.preset").map(|name| name.trim_matches('"').to_owned());
        Ok(Self {
            planned_steps: config.schedule()?.end().step,
            model: preset.unwrap_or_else(|| "of its own".into()),
            parameters: config.model.parameter_counts().total,
            changed,
            layers: config.model.moe_layer_indices(),
            toml: config.to_toml()?,
            config,
        })
    }

    /// All of it, as tables within tables.
    ///
    /// # Errors
    /// A value that has no form.
    pub fn nested(&self) -> Result<Value, Refusal> {
        let table: toml::Table = toml::from_str(&self.config.to_toml()?)
            .map_err(|error| Refusal::unreadable(error.to_string()))?;
        serde_json::to_value(table).map_err(|error| Refusal::unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigRequest;

    #[test]
    fn a_run_is_told_by_what_is_no_default() {
        let secret = "alerts.webhook=https://example.org/s3cret";
        let set = vec!["train.seed=5".into(), secret.into()];
        let config = ConfigRequest { set, ..ConfigRequest::default() }.resolve().unwrap();
        let read = Configured::read(&config.to_toml().unwrap(), "run.toml").unwrap();
        assert_eq!((&*read.model, read.planned_steps), ("quickstart", 1700));
        assert_eq!(read.changed["train.seed"], "5");
        assert_eq!(read.nested().unwrap()["train"]["seed"], 5);
        assert!(!read.layers.is_empty());
        let told = format!("{} {} {:?}", read.toml, read.nested().unwrap(), read.changed);
        assert!(told.contains("example.org") && !told.contains("s3cret"), "{told}");
        assert!(Configured::read("[train", "run.toml").is_err());
    }
}
