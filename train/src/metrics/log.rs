//! `metrics.jsonl`: one JSON object a step and an evaluation, in the run folder.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::failure::{Context, Result};
use crate::learner::{Evaluation, StepReport};

/// Name of the log in a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// Appends to the metrics of a run.
#[derive(Debug)]
pub struct StepLog {
    file: File,
    path: PathBuf,
}

impl StepLog {
    /// Opens the log of `run_dir`; lines of steps after `step` (a run that is resumed from before
    /// its end) are dropped.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn open(run_dir: &Path, step: u64) -> Result<Self> {
        let path = run_dir.join(METRICS_FILE);
        let kept = kept_lines(&path, step).with_context(|| path.display().to_string())?;
        if let Some(kept) = kept {
            let partial = path.with_extension("jsonl.tmp");
            std::fs::write(&partial, kept).with_context(|| partial.display().to_string())?;
            std::fs::rename(&partial, &path).with_context(|| path.display().to_string())?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Self { file, path })
    }

    /// Writes a step.
    ///
    /// # Errors
    ///
    /// The line cannot be written.
    pub fn step(&mut self, report: &StepReport) -> Result<()> {
        let mut value = serde_json::to_value(report)?;
        value["max_violation"] = json!(
            report
                .layer_loads
                .iter()
                .map(|load| json!({"layer": load.layer, "value": load.violation()}))
                .collect::<Vec<_>>()
        );
        if let Some(object) = value.as_object_mut() {
            object.remove("layer_loads");
        }
        self.write(&value)
    }

    /// Writes an evaluation after `step`.
    ///
    /// # Errors
    ///
    /// The line cannot be written.
    pub fn evaluation(&mut self, step: u64, evaluation: &Evaluation) -> Result<()> {
        let value =
            json!({"step": step, "valid": evaluation, "perplexity": evaluation.perplexity()});
        self.write(&value)
    }

    fn write(&mut self, value: &serde_json::Value) -> Result<()> {
        // In one piece: a line is there or not, and costs one call.
        self.file
            .write_all(format!("{value}\n").as_bytes())
            .with_context(|| format!("{}: cannot write", self.path.display()))
    }
}

/// The lines up to `step`, where there are later ones; a last line that was cut off is dropped too.
fn kept_lines(path: &Path, step: u64) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut kept, mut dropped) = (String::new(), false);
    for line in BufReader::new(file).lines() {
        let line = line?;
        let at = serde_json::from_str::<serde_json::Value>(&line)
            .ok()
            .and_then(|value| value["step"].as_u64());
        if at.is_some_and(|at| at <= step) {
            kept.push_str(&line);
            kept.push('\n');
        } else {
            dropped = true;
        }
    }
    Ok(dropped.then_some(kept))
}
