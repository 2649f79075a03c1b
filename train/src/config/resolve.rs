//! From what is written (a file or an embedded run, and the command line over it) to a validated
//! [`RunConfig`].

use std::path::{Path, PathBuf};

use burn_deepseek::weights::{SETTINGS_BYTES, read_regular_text};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::embedded;
use super::error::ConfigError;
use super::keys::{fields_of, nearest};
use super::model;
use super::overrides::Override;
use super::{
    AlertsConfig, DataConfig, EmaConfig, MetricsConfig, OptimizerConfig, OutputConfig,
    ParallelConfig, PrecisionConfig, RunConfig, ScheduleConfig, TrainConfig,
};

/// What a command line says of the configuration. Paths are relative to the current folder,
/// wherever they are written.
#[derive(Clone, Debug, Default)]
pub struct ConfigRequest {
    /// Path of a run file or name of an embedded one; `quickstart` where absent.
    pub config: Option<String>,
    /// `section.key=value`, in order.
    pub set: Vec<String>,
    /// Files and folders to train on, instead of `data.source`.
    pub data: Vec<PathBuf>,
    /// Instead of `train.steps` and `train.tokens`.
    pub steps: Option<u64>,
    /// Instead of `train.steps` and `train.tokens`.
    pub tokens: Option<u64>,
    /// Instead of `output.run_dir`.
    pub run_dir: Option<PathBuf>,
}

impl ConfigRequest {
    /// Reads the run file, lays the command line over it, fills in what is left out, and validates.
    ///
    /// # Errors
    /// [`ConfigError`]: a file that cannot be read or is not TOML, an unknown key (with the nearest
    /// known one), a value of the wrong type, an unknown preset, or every problem of an impossible
    /// run at once.
    pub fn resolve(&self) -> Result<RunConfig, ConfigError> {
        let name = self.config.as_deref().unwrap_or(embedded::DEFAULT_RUN);
        match embedded::find(embedded::RUNS, name) {
            Some(text) => self.resolve_text(text, name),
            None if embedded::is_path(name) => self.resolve_text(&read(Path::new(name))?, name),
            None => Err(embedded::unknown("run configuration", name, embedded::RUNS)),
        }
    }

    /// As [`resolve`](Self::resolve), of the text of a run file called `origin`.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_text(&self, text: &str, origin: &str) -> Result<RunConfig, ConfigError> {
        let mut root = parse(text, origin)?;
        check_keys(&root, origin)?;
        let overrides = self.overrides()?;
        let name = run_name(origin);
        let origin = if overrides.is_empty() {
            origin.to_string()
        } else {
            format!("{origin} with the command line's values")
        };
        model::apply_with_base(&mut root, &overrides, &origin)?;
        let mut config = RunConfig {
            model: read_section(&root, "model", &origin)?,
            data: read_section(&root, "data", &origin)?,
            train: read_section(&root, "train", &origin)?,
            schedule: read_section(&root, "schedule", &origin)?,
            optimizer: read_section(&root, "optimizer", &origin)?,
            precision: read_section(&root, "precision", &origin)?,
            ema: read_section(&root, "ema", &origin)?,
            parallel: read_section(&root, "parallel", &origin)?,
            output: read_section(&root, "output", &origin)?,
            metrics: read_section(&root, "metrics", &origin)?,
            alerts: read_section(&root, "alerts", &origin)?,
        };
        if !names_its_run(&root) {
            config.output.name = name;
        }
        config.validate(&origin)?;
        Ok(config)
    }

    fn overrides(&self) -> Result<Vec<Override>, ConfigError> {
        let mut overrides =
            self.set.iter().map(|text| Override::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if !self.data.is_empty() {
            let paths = self
                .data
                .iter()
                .map(|path| path_value("--data", path))
                .collect::<Result<Vec<_>, _>>()?;
            overrides.push(Override::new("--data", "data.source", Value::Array(paths)));
        }
        for (argument, key, number) in
            [("--steps", "train.steps", self.steps), ("--tokens", "train.tokens", self.tokens)]
        {
            if let Some(number) = number {
                let number = i64::try_from(number).unwrap_or(i64::MAX);
                overrides.push(Override::new(argument, key, Value::Integer(number)));
            }
        }
        if let Some(path) = &self.run_dir {
            overrides.push(Override::new(
                "--run-dir",
                "output.run_dir",
                path_value("--run-dir", path)?,
            ));
        }
        Ok(overrides)
    }
}

/// Reads a file of settings whole.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    read_regular_text(path, SETTINGS_BYTES)
        .map_err(|source| ConfigError::Unreadable { path: path.into(), source })
}

/// Reads TOML; an error gives its line.
pub(super) fn parse(text: &str, origin: &str) -> Result<Table, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().map_or(0, |span| span.start.min(text.len()));
        ConfigError::Syntax {
            origin: origin.into(),
            line: 1 + text.as_bytes()[..before].iter().filter(|&&byte| byte == b'\n').count(),
            message: error.message().replace('\n', "; "),
        }
    })
}

/// Finds the first key that no section knows.
pub(super) fn check_keys(root: &Table, origin: &str) -> Result<(), ConfigError> {
    check_table(root, &[], origin)
}

/// The sections of a run and the keys that each knows.
fn sections() -> [(&'static str, Vec<&'static str>); 11] {
    [
        ("model", model::known_keys(&[])),
        ("data", fields_of::<DataConfig>().to_vec()),
        ("train", fields_of::<TrainConfig>().to_vec()),
        ("schedule", fields_of::<ScheduleConfig>().to_vec()),
        ("optimizer", fields_of::<OptimizerConfig>().to_vec()),
        ("precision", fields_of::<PrecisionConfig>().to_vec()),
        ("ema", fields_of::<EmaConfig>().to_vec()),
        ("parallel", fields_of::<ParallelConfig>().to_vec()),
        ("output", fields_of::<OutputConfig>().to_vec()),
        ("metrics", fields_of::<MetricsConfig>().to_vec()),
        ("alerts", fields_of::<AlertsConfig>().to_vec()),
    ]
}

fn check_table(table: &Table, path: &[&str], origin: &str) -> Result<(), ConfigError> {
    let known: Vec<&str> = match path {
        [] => fields_of::<RunConfig>().to_vec(),
        ["model", nested @ ..] => model::known_keys(nested),
        [section] => {
            let found = sections().into_iter().find(|(name, _)| name == section);
            found.map_or_else(Vec::new, |(_, keys)| keys)
        }
        _ => Vec::new(),
    };
    // A table that is no struct of ours is left to serde.
    if known.is_empty() {
        return Ok(());
    }
    let dotted = |key: &str| [path, &[key]].concat().join(".");
    for (key, value) in table {
        if !known.contains(&key.as_str()) {
            // In a section that there is none of, what is asked for is the key.
            let last = match value {
                Value::Table(inner) if path.is_empty() => inner.keys().next(),
                _ => None,
            };
            return Err(ConfigError::UnknownKey {
                origin: origin.into(),
                key: dotted(key),
                nearest: nearest(key, known.iter().copied())
                    .map(dotted)
                    .or_else(|| key_like(last.unwrap_or(key)).filter(|_| path.len() < 2)),
                known: known.iter().map(|key| dotted(key)).collect(),
            });
        }
        if path.is_empty() && !value.is_table() {
            let message = format!("must be a section, [{key}], not {value}");
            return Err(section_error(origin, key, message));
        }
        if let Value::Table(inner) = value {
            check_table(inner, &[path, &[key.as_str()]].concat(), origin)?;
        }
    }
    Ok(())
}

/// The key of a run that is called so, or nearly so, with its section.
pub(super) fn key_like(key: &str) -> Option<String> {
    let sections = sections();
    let called_so = sections.iter().find(|(_, keys)| keys.contains(&key));
    if let Some((section, _)) = called_so {
        return Some(format!("{section}.{key}"));
    }
    let all = sections.iter().flat_map(|(_, keys)| keys.iter().copied());
    let near = nearest(key, all)?;
    let (section, _) = sections.iter().find(|(_, keys)| keys.contains(&near))?;
    Some(format!("{section}.{near}"))
}

/// Deserializes a section; an absent one is an empty one.
pub(super) fn read_section<T: DeserializeOwned>(
    root: &Table,
    section: &str,
    origin: &str,
) -> Result<T, ConfigError> {
    let value = root.get(section).cloned().unwrap_or_else(|| Value::Table(Table::new()));
    value.try_into().map_err(|error: toml::de::Error| {
        let text = error.to_string();
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        // The parser names the key last, without the section.
        let key = lines.last().and_then(|last| last.strip_prefix("in `")?.strip_suffix('`'));
        match key {
            Some(key) => {
                let message = lines[..lines.len() - 1].join(" ");
                section_error(origin, &format!("{section}.{key}"), message)
            }
            None => section_error(origin, section, lines.join(" ")),
        }
    })
}

fn section_error(origin: &str, section: &str, message: String) -> ConfigError {
    ConfigError::Section { origin: origin.into(), section: section.into(), message }
}

fn path_value(argument: &str, path: &Path) -> Result<Value, ConfigError> {
    path.to_str().map(|text| Value::String(text.into())).ok_or_else(|| ConfigError::Set {
        text: format!("{argument} {}", path.display()),
        message: "the path is not Unicode, so a configuration cannot hold it".into(),
    })
}

fn names_its_run(root: &Table) -> bool {
    root.get("output").and_then(|output| output.get("name")).is_some()
}

/// The name of a run of the configuration called `origin`: the file's name without its ending.
fn run_name(origin: &str) -> String {
    Path::new(origin)
        .file_stem()
        .map_or_else(|| "run".into(), |stem| stem.to_string_lossy().into_owned())
}
