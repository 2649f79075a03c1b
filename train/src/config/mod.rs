//! A run's configuration: as written (a file, a preset, `--set`) -> resolved (complete, validated,
//! printable, stored).
//!
//! There is one type, [`RunConfig`]; what may be left out or abbreviated in a file (`model.preset`,
//! defaults) is filled in by [`resolve`](ConfigRequest::resolve), and what [`RunConfig::to_toml`]
//! prints can be fed back.

mod cluster;
mod differences;
pub mod embedded;
mod error;
mod keys;
mod memory;
mod model;
mod overrides;
mod parallel;
mod precision;
mod resolve;
mod sections;
#[cfg(test)]
mod tests;
mod validate;
mod watch;

use burn_deepseek::config::DeepSeekConfig;
use serde::{Deserialize, Serialize};

pub use crate::data::DataConfig;
pub use crate::schedule::ScheduleConfig;
use crate::schedule::TrainingSchedule;
pub use cluster::{
    ClusterConfig, GpuConfig, LinkConfig, LinksConfig, NodeConfig, PlanConfig, RatesConfig,
    ReferenceConfig, WorkerConfig, cluster_key_like, resolve_cluster,
};
pub use differences::model_differences;
pub use error::ConfigError;
pub(crate) use keys::nearest;
pub use memory::MemoryEstimate;
pub use model::resolve_model;
pub use parallel::{DispatchFormat, ParallelConfig};
pub use precision::{Format, PrecisionConfig, Products};
pub use resolve::ConfigRequest;
pub use sections::{EmaConfig, MomentsConfig, OptimizerConfig, OutputConfig, TrainConfig};
pub use watch::{AlertsConfig, MetricsConfig, told_address};

/// Everything that decides what a run computes and where it writes, complete and validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The model.
    pub model: DeepSeekConfig,
    /// What it is trained on.
    #[serde(default)]
    pub data: DataConfig,
    /// How much, and how often the run looks up.
    pub train: TrainConfig,
    /// What changes in its course: learning rate, batch, and the weights of the losses.
    pub schedule: ScheduleConfig,
    /// AdamW.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The numbers that are computed in.
    #[serde(default)]
    pub precision: PrecisionConfig,
    /// The running average of the weights.
    #[serde(default)]
    pub ema: EmaConfig,
    /// The ranks that it is spread over.
    #[serde(default)]
    pub parallel: ParallelConfig,
    /// Where the run goes.
    #[serde(default)]
    pub output: OutputConfig,
    /// What it records of itself.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// What it calls out.
    #[serde(default)]
    pub alerts: AlertsConfig,
}

impl RunConfig {
    /// The TOML that [`from_toml`](Self::from_toml) reads back as the same configuration.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] where a value has no TOML form (a number above 2^63 - 1, a path
    /// that is not Unicode).
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        /// The sections that `toml` prints as they are to be read.
        #[derive(Serialize)]
        struct Sections<'a> {
            model: &'a DeepSeekConfig,
            data: &'a DataConfig,
            train: &'a TrainConfig,
            optimizer: &'a OptimizerConfig,
            precision: &'a PrecisionConfig,
            ema: &'a EmaConfig,
            parallel: &'a ParallelConfig,
            output: &'a OutputConfig,
            metrics: &'a MetricsConfig,
            alerts: &'a AlertsConfig,
        }
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
        let sections = toml::to_string(&Sections {
            model,
            data,
            train,
            optimizer,
            precision,
            ema,
            parallel,
            output,
            metrics,
            alerts,
        })
        .map_err(|error| ConfigError::Invalid {
            origin: "resolved configuration".into(),
            problems: vec![error.to_string()],
        })?;
        Ok(format!("{sections}\n{}", schedule.to_toml()))
    }

    /// The configuration with paths of its data and its weights that do not depend on the current
    /// folder, as a run stores it.
    pub fn with_absolute_paths(mut self) -> Self {
        self.data = self.data.with_absolute_paths();
        self.train.init_from =
            self.train.init_from.map(|path| std::path::absolute(&path).unwrap_or(path));
        self
    }

    /// The schedule of the run.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] where there is none: a configuration that was
    /// [validated](Self::validate) has one.
    pub fn schedule(&self) -> Result<TrainingSchedule, ConfigError> {
        let length = self
            .train
            .length()
            .ok_or_else(|| vec!["train.steps or train.tokens is missing".to_string()]);
        length
            .and_then(|length| {
                TrainingSchedule::new(
                    &self.schedule,
                    length,
                    self.train.micro_batch.max(1),
                    self.train.seq_len.max(1),
                )
            })
            .map_err(|problems| ConfigError::Invalid {
                origin: "resolved configuration".into(),
                problems,
            })
    }

    /// Reads a configuration as a file has it, or as [`to_toml`](Self::to_toml) wrote it beside a
    /// checkpoint; `origin` names the text in errors.
    ///
    /// # Errors
    /// As [`ConfigRequest::resolve`].
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, ConfigError> {
        ConfigRequest::default().resolve_text(text, origin)
    }
}
