//! `metrics.jsonl`: one JSON object a step and an evaluation, in the run folder. With the position
//! of a checkpoint it is the record of the run: what it says is done is not done again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::kept::{Kept, keep};
use crate::failure::{Context, Result};
use crate::kill_point;
use crate::learner::{Evaluation, StepReport};

/// Name of the log in a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// Appends to the metrics of a run.
#[derive(Debug)]
pub struct StepLog {
    file: File,
    path: PathBuf,
    /// The last step with an evaluation.
    evaluated: Option<u64>,
}

impl StepLog {
    /// Opens the log of `run_dir` for a run that goes on after `step`. Lines of later steps are
    /// dropped, and so is a last one that was cut off: they will be written again. Lines that
    /// nobody can read are set aside, and told.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn open(run_dir: &Path, step: u64) -> Result<(Self, Option<String>)> {
        let path = run_dir.join(METRICS_FILE);
        let Kept { evaluated, broken } = keep(&path, step)?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        let told = broken.told(&path);
        Ok((Self { file, path, evaluated }, told))
    }

    /// Whether the evaluation after a step is recorded.
    pub fn has_evaluation(&self, step: u64) -> bool {
        self.evaluated == Some(step)
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
        self.write(&value)?;
        self.evaluated = Some(step);
        Ok(())
    }

    /// Has every line written so far on the disk: a checkpoint relies on those of the steps before
    /// it.
    ///
    /// # Errors
    ///
    /// The disk does not take them.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().with_context(|| format!("{}: cannot write", self.path.display()))
    }

    fn write(&mut self, value: &serde_json::Value) -> Result<()> {
        kill_point::here();
        let line = format!("{value}\n");
        if kill_point::reached() {
            let _ = self.file.write_all(&line.as_bytes()[..line.len() / 2]);
            std::process::abort();
        }
        if kill_point::reached() {
            let _ = self.file.write_all(line.trim_end().as_bytes());
            std::process::abort();
        }
        // In one piece: a line is there or not, and costs one call.
        self.file
            .write_all(line.as_bytes())
            .with_context(|| format!("{}: cannot write", self.path.display()))?;
        kill_point::here();
        Ok(())
    }
}
