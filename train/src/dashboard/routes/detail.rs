//! One run: its configuration, its files, its checkpoints, and how to make it again.

use std::path::Path;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::checkpoint::{FOLDER, RUN_FILE, step_of};
use crate::dashboard::asked::OfRun;
use crate::dashboard::configured::Configured;
use crate::dashboard::house::{House, blocking};
use crate::dashboard::refusal::Refusal;
use crate::dashboard::run::Run;
use crate::shell_word::quoted;

/// Files that are listed at most.
const MOST_FILES: usize = 1000;

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new().route("/api/runs/{id}", get(detail))
}

async fn detail(OfRun(run): OfRun) -> Result<Json<Value>, Refusal> {
    blocking(move || detail_of(&run)).await
}

fn detail_of(run: &Run) -> Result<Json<Value>, Refusal> {
    let configured = run.configured()?;
    let model = &configured.config.model;
    let of_experts = |count: usize| (!configured.layers.is_empty()).then_some(count);
    Ok(Json(json!({
        "row": run.row().as_ref(),
        "config": configured.nested()?,
        "config_toml": configured.toml,
        "changed": configured.changed,
        "files": files(&run.folder),
        "checkpoints": checkpoints(run),
        "layers": configured.layers,
        "experts": of_experts(model.n_routed_experts),
        "chosen": of_experts(model.num_experts_per_tok),
        "mtp_depths": model.num_nextn_predict_layers,
        "command": command(run, &configured),
    })))
}

/// What makes the run again, in a folder of its own.
fn command(run: &Run, configured: &Configured) -> String {
    let config = Path::new(&run.shown).join(RUN_FILE);
    let command = format!("deepseek train --config {}", quoted(&config.display().to_string()));
    match configured.config.output.run_dir {
        Some(_) => format!("{command} --run-dir {}", quoted(&format!("{}-again", run.shown))),
        None => command,
    }
}

/// A file in a run's folder.
#[derive(Debug, Serialize)]
struct FileOfRun {
    name: String,
    bytes: u64,
    modified: Option<String>,
}

/// The files of a folder, in the order of their names; links and hidden ones are left out.
fn files(folder: &Path) -> Vec<FileOfRun> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<FileOfRun> = entries
        .flatten()
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let modified = metadata
                .modified()
                .ok()
                .map(|time| DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true));
            let bytes = metadata.len();
            (!name.starts_with('.')).then_some(FileOfRun { name, bytes, modified })
        })
        .take(MOST_FILES)
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

/// The complete checkpoints of a run, by step, with the bytes of their files.
fn checkpoints(run: &Run) -> Vec<Value> {
    let Ok(folder) = run.inside(FOLDER) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(u64, u64)> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((step_of(&entry.file_name().to_string_lossy())?, entry.path())))
        .take(MOST_FILES)
        .map(|(step, path)| (step, bytes_of(&path, 2)))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(step, bytes)| json!({ "step": step, "bytes": bytes })).collect()
}

/// Bytes of the files in a folder and `deeper` levels of folders in it.
fn bytes_of(folder: &Path, deeper: usize) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().take(MOST_FILES).map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(metadata) if metadata.is_dir() && deeper > 0 => bytes_of(&entry.path(), deeper - 1),
        _ => 0,
    });
    bytes.sum()
}
