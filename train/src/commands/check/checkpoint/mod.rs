//! `deepseek check --checkpoint`: whether a folder holds the model that it says, without loading it.

mod text;
mod tokens;

use std::fs;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn_deepseek::weights::{
    DeepInspection, Inspection, Inspector, ReadProgress, WeightFormat, WeightsError,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, CheckpointError, Purpose, STATE_FILE};
use crate::commands::check::binary;
use crate::exit::{FaultFound, Outcome};
use crate::failure::{Failure, Result, UsageError, line_of};
use crate::learner::OPTIMIZER_FILE;
use crate::model_folder::{KINDS, ModelFolder};
use crate::signals::Signals;
use crate::stdout::write_stdout;
use text::page;
use tokens::Tokens;

/// What the program takes beside the model: 100 MB for itself and its threads, the rest for the
/// activations of a prompt of a few hundred tokens. Measured; docs/log.md.
const OVERHEAD_BYTES: u64 = 152 << 20;

/// Ends of names of files that other tools keep weights in.
const OTHER_WEIGHTS: [&str; 6] = [".safetensors", ".bin", ".pt", ".pth", ".gguf", ".ckpt"];

/// What was found in a folder.
#[derive(Debug, Serialize)]
struct Report {
    path: PathBuf,
    /// Whether nothing is wrong with it.
    conforms: bool,
    /// What is wrong, the first thing first.
    problems: Vec<String>,
    /// What is worth knowing.
    remarks: Vec<String>,
    /// What this program does not read.
    ignored: Vec<String>,
    model: burn_deepseek::DeepSeekConfig,
    parameters: burn_deepseek::config::ParameterCounts,
    headers: Inspection,
    values: Option<DeepInspection>,
    tokens: Tokens,
    memory: Vec<Memory>,
    kv_cache_bytes_per_token: u64,
}

/// Memory that it takes to run the model in a format.
#[derive(Debug, Serialize)]
struct Memory {
    format: WeightFormat,
    /// Weights alone.
    weights_bytes: u64,
    /// The process, once all of its weights were used.
    resident_bytes: u64,
    /// What its MTP modules add, for `generate --speculative`.
    mtp_bytes: u64,
}

/// Looks at a folder, at every value in it if `deep`, and says what it found: on one page, or as the
/// results alone where `json`.
///
/// # Errors
/// A folder that is no checkpoint or does not conform ([`crate::exit::USAGE`]), a read that fails.
pub(super) fn run(path: &Path, deep: bool, json: bool, signals: &Signals) -> Result<Outcome> {
    let (folder, of_a_run) = match ModelFolder::find(path)? {
        Some(ModelFolder::Checkpoint(folder)) => (folder, true),
        Some(ModelFolder::HuggingFace(folder)) => (folder, false),
        None if path.is_file() => (path.to_owned(), false),
        None => {
            let problem = format!("{}: no model here; give {KINDS}", path.display());
            return Err(UsageError(problem).into());
        }
    };
    let inspector = Inspector::open(&folder).map_err(|error| unreadable(&folder, error))?;
    let values = if deep { Some(read_values(&inspector, signals)?) } else { None };
    let interrupted = values.as_ref().is_some_and(|values| !values.complete);
    let mut report = Report::of(folder, &inspector, values);
    if deep && of_a_run && !interrupted {
        report.add_problem(damage(&report.path)?);
    }
    if !json {
        write_stdout(&page(&report))?;
    }
    let results = report.results();
    if report.conforms || interrupted {
        return Ok(Outcome { results, interrupted });
    }
    let line = format!(
        "{} does not conform: {}{}",
        report.path.display(),
        report.problems[0],
        match report.problems.len() - 1 {
            0 => String::new(),
            more => format!("; and {more} more"),
        }
    );
    Err(FaultFound { line, results }.into())
}

/// A folder of which not even the headers can be read, which is what was to be found out.
fn unreadable(folder: &Path, error: WeightsError) -> Failure {
    if let WeightsError::Read { source, .. } = &error
        && source.kind() != std::io::ErrorKind::NotFound
    {
        return error.into();
    }
    let line = line_of(&error.into());
    let results = json!({
        "command": "check",
        "path": folder,
        "conforms": false,
        "problems": [line],
    });
    FaultFound { line, results }.into()
}

/// What differs from a training checkpoint's own list of files, if something does.
///
/// # Errors
/// A file that is there and cannot be read.
fn damage(folder: &Path) -> Result<Option<String>> {
    match Checkpoint::open(folder, Purpose::Training) {
        Ok(_) => Ok(None),
        Err(error @ CheckpointError::Io { .. }) => Err(error.into()),
        Err(error) => Ok(Some(line_of(&error.into()))),
    }
}

/// Reads all values, with a line on standard error that says how far it is.
fn read_values(inspector: &Inspector, signals: &Signals) -> Result<DeepInspection> {
    signals.guard("stopping; what was read so far is shown");
    let terminal = std::io::stderr().is_terminal();
    let every = Duration::from_millis(if terminal { 200 } else { 10_000 });
    let (started, mut shown) = (Instant::now(), Instant::now());
    let found = inspector.values(&mut |ReadProgress { done_bytes, total_bytes }| {
        if shown.elapsed() >= every {
            shown = Instant::now();
            let rate = done_bytes as f64 / started.elapsed().as_secs_f64();
            let left = (total_bytes - done_bytes) as f64 / rate.max(1.0);
            // Nobody is left to tell where standard error is closed.
            let _ = write!(
                std::io::stderr(),
                "{}reading {:5.1} % of {}, {}/s, {left:.0} s left{}",
                if terminal { "\r" } else { "" },
                100.0 * done_bytes as f64 / total_bytes.max(1) as f64,
                binary(total_bytes),
                binary(rate as u64),
                if terminal { "  " } else { "\n" },
            );
        }
        if signals.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if terminal {
        let _ = write!(std::io::stderr(), "\r{:78}\r", "");
    }
    Ok(found?)
}

impl Report {
    fn of(path: PathBuf, inspector: &Inspector, values: Option<DeepInspection>) -> Self {
        let model = inspector.config().clone();
        let headers = inspector.headers();
        let folder = if path.is_dir() { &path } else { path.parent().unwrap_or(&path) };
        let tokens = Tokens::of(folder, &model);
        let mut problems: Vec<String> =
            headers.problems.iter().map(|finding| finding.text.clone()).collect();
        let mut remarks: Vec<String> =
            headers.twice.iter().map(|finding| finding.text.clone()).collect();
        if let Some(values) = &values {
            problems.extend(values.not_finite.iter().map(|finding| finding.text.clone()));
            remarks.extend(values.zero_blocks.iter().map(|finding| finding.text.clone()));
            if !values.complete {
                remarks.push("the reading of values was interrupted".into());
            }
        }
        if headers.absent_mtp > 0 {
            remarks.push(format!(
                "config.json promises {} MTP module(s) and nothing of them is there: decoding \
                 leaves them out, training draws them",
                headers.absent_mtp
            ));
        }
        problems.extend(tokens.problems.iter().cloned());
        remarks.extend(tokens.remarks.iter().cloned());
        let mut ignored: Vec<String> =
            headers.ignored.iter().map(|finding| finding.text.clone()).collect();
        ignored.extend(other_weights(folder, &headers));
        let memory = WeightFormat::ALL.iter().filter_map(|&format| {
            let weights_bytes = *headers.weight_bytes.get(&format)?;
            Some(Memory {
                format,
                weights_bytes,
                resident_bytes: weights_bytes + OVERHEAD_BYTES,
                mtp_bytes: headers.mtp_weight_bytes.get(&format).copied().unwrap_or(0),
            })
        });
        Self {
            conforms: problems.is_empty(),
            memory: memory.collect(),
            parameters: model.parameter_counts(),
            kv_cache_bytes_per_token: model.kv_cache_bytes_per_token(size_of::<f32>()),
            path,
            problems,
            remarks,
            ignored,
            model,
            headers,
            values,
            tokens,
        }
    }

    fn add_problem(&mut self, problem: Option<String>) {
        self.problems.extend(problem);
        self.conforms = self.problems.is_empty();
    }

    fn results(&self) -> Value {
        let mut results = json!(self);
        results["command"] = json!("check");
        results
    }
}

/// Files of weights that are not among those of the checkpoint. (The moments of the optimizer are:
/// nobody reads them to decode.)
fn other_weights(folder: &Path, headers: &Inspection) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut other: Vec<String> = names
        .filter(|name| OTHER_WEIGHTS.iter().any(|end| name.ends_with(end)))
        .filter(|name| headers.files.iter().all(|file| file.name != *name))
        .filter(|name| !(name == OPTIMIZER_FILE && folder.join(STATE_FILE).is_file()))
        .map(|name| format!("{name}: not a file of this checkpoint"))
        .collect();
    other.sort();
    other
}
