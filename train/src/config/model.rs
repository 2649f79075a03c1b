//! The `[model]` section: a preset or a Hugging Face `config.json`, and what is written over it.

use std::path::{Path, PathBuf};

use burn_deepseek::config::{DeepSeekConfig, YarnConfig};
use toml::{Table, Value};

use super::embedded;
use super::error::ConfigError;
use super::keys::fields_of;
use super::overrides::{Override, merge};
use super::resolve::{check_keys, parse, read, read_section};

/// Keys of `[model]` that are no fields of the model: where to begin from.
const PRESET: &str = "preset";
const HUGGING_FACE: &str = "hugging_face";

/// A model alone, without a run: `preset` (a name or path) or `hugging_face` (the path of a
/// `config.json`), with the `--set model.key=value` of `set` laid over it.
///
/// # Errors
/// As [`ConfigRequest::resolve`](super::ConfigRequest::resolve); a `--set` of another section is
/// one too.
pub fn resolve_model(
    preset: Option<&str>,
    hugging_face: Option<&Path>,
    set: &[String],
) -> Result<DeepSeekConfig, ConfigError> {
    let mut model = Table::new();
    if let Some(preset) = preset {
        model.insert(PRESET.into(), Value::String(preset.into()));
    }
    if let Some(path) = hugging_face {
        model.insert(HUGGING_FACE.into(), Value::String(path.display().to_string()));
    }
    let origin = preset.map_or_else(
        || hugging_face.map_or_else(String::new, |path| path.display().to_string()),
        str::to_string,
    );
    let mut root = Table::from_iter([("model".to_string(), Value::Table(model))]);
    let overrides = set.iter().map(|text| Override::parse(text)).collect::<Result<Vec<_>, _>>()?;
    if let Some(other) = overrides.iter().find(|over| over.path[0] != "model") {
        return Err(ConfigError::Set {
            text: other.key(),
            message: "a model is resolved without a run here, so the key must begin with model."
                .into(),
        });
    }
    apply_with_base(&mut root, &overrides, &origin)?;
    let model: DeepSeekConfig = read_section(&root, "model", &origin)?;
    model.validate().map_err(|problems| ConfigError::Invalid {
        origin,
        problems: problems.0.iter().map(|problem| format!("model.{problem}")).collect(),
    })?;
    Ok(model)
}

/// Replaces what `[model]` begins from by its fields, with the overrides laid over: those that
/// choose the base first.
pub(super) fn apply_with_base(
    root: &mut Table,
    overrides: &[Override],
    origin: &str,
) -> Result<(), ConfigError> {
    for over in overrides {
        check_keys(&over.as_table(), &over.origin)?;
    }
    let chooses_base = |over: &&Override| {
        over.path.len() == 2
            && over.path[0] == "model"
            && [PRESET, HUGGING_FACE].contains(&over.path[1].as_str())
    };
    overrides.iter().filter(chooses_base).for_each(|over| over.apply(root));
    match root.get_mut("model") {
        Some(Value::Table(model)) => expand(model, origin)?,
        _ => {
            let example = "is missing; begin it with a model to take, as in preset = \"tiny\"";
            return Err(section_error(origin, example));
        }
    }
    overrides.iter().filter(|over| !chooses_base(over)).for_each(|over| over.apply(root));
    Ok(())
}

/// The keys that `[model]` may have, nested ones given by the names before them.
pub(super) fn known_keys(nested: &[&str]) -> Vec<&'static str> {
    match nested {
        [] => [PRESET, HUGGING_FACE]
            .into_iter()
            .chain(fields_of::<DeepSeekConfig>().iter().copied())
            .collect(),
        ["rope_scaling"] => fields_of::<YarnConfig>().to_vec(),
        _ => Vec::new(),
    }
}

/// Replaces `preset` or `hugging_face` by the fields they stand for; what is written beside them
/// wins.
fn expand(model: &mut Table, origin: &str) -> Result<(), ConfigError> {
    let preset = take_text(model, PRESET, origin)?;
    let hugging_face = take_text(model, HUGGING_FACE, origin)?;
    let mut base = match (preset, hugging_face) {
        (None, None) => Table::new(),
        (Some(_), Some(_)) => {
            return Err(section_error(
                origin,
                "has both preset and hugging_face; one of them is the base",
            ));
        }
        (Some(preset), None) => read_preset(&preset)?,
        (None, Some(path)) => read_hugging_face(Path::new(&path))?,
    };
    merge(&mut base, std::mem::take(model));
    *model = base;
    Ok(())
}

fn read_preset(preset: &str) -> Result<Table, ConfigError> {
    let table = match embedded::find(embedded::MODELS, preset) {
        Some(text) => parse(text, preset)?,
        None if embedded::is_path(preset) => parse(&read(Path::new(preset))?, preset)?,
        None => return Err(embedded::unknown("model preset", preset, embedded::MODELS)),
    };
    let wrapped = Table::from_iter([("model".to_string(), Value::Table(table.clone()))]);
    check_keys(&wrapped, preset)?;
    if table.contains_key(PRESET) || table.contains_key(HUGGING_FACE) {
        return Err(section_error(
            preset,
            "a preset gives the fields themselves, not another preset",
        ));
    }
    Ok(table)
}

fn read_hugging_face(path: &Path) -> Result<Table, ConfigError> {
    // A model's folder stands for the config.json in it.
    let path = if path.is_dir() { path.join("config.json") } else { PathBuf::from(path) };
    let config = DeepSeekConfig::from_hugging_face_json(&read(&path)?)
        .map_err(|source| ConfigError::HuggingFace { path: path.clone(), source })?;
    Table::try_from(config)
        .map_err(|error| section_error(&path.display().to_string(), &error.to_string()))
}

fn take_text(model: &mut Table, key: &str, origin: &str) -> Result<Option<String>, ConfigError> {
    match model.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(section_error(origin, &format!("{key} = {other} must be a string"))),
    }
}

fn section_error(origin: &str, message: &str) -> ConfigError {
    ConfigError::Section { origin: origin.into(), section: "model".into(), message: message.into() }
}
