//! What is known of a run from its folder, without loading a model.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use burn_deepseek::weights::{SETTINGS_BYTES, open_regular, read_regular_text};

use super::find::{RunsError, is_run};
use super::labels::Labels;
use crate::checkpoint::RUN_FILE;
use crate::config::RunConfig;
use crate::failure::{Context, Result};
use crate::record::{
    AlertLevel, EvaluationLine, Line, METRICS_FILE, RawLines, RunState, StepLine, parse_line,
};
use crate::run_lock::RunLock;

/// What the line of a step begins with.
const STEP: &[u8] = b"{\"kind\":\"step\"";

/// What is known of a run.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Its folder.
    pub folder: PathBuf,
    /// How far it is.
    pub state: RunState,
    /// Everything that decides what it computes.
    pub config: RunConfig,
    /// Steps that it is to make in all.
    pub planned_steps: u64,
    /// Its last step.
    pub step: Option<StepLine>,
    /// Its last evaluation.
    pub evaluation: Option<EvaluationLine>,
    /// Step and loss of the best evaluation.
    pub best: Option<(u64, f64)>,
    /// Alerts of the levels `info`, `warning` and `error`.
    pub alerts: [usize; 3],
    /// When its first and its last line were written, as RFC 3339 has it.
    pub times: Option<(String, String)>,
    /// Lines of the record that cannot be read.
    pub unreadable_lines: usize,
    /// What people wrote on it.
    pub labels: Labels,
}

/// The configuration of the run in a folder, and the steps that it is to make in all.
///
/// # Errors
/// A folder without a run; a configuration that cannot be read.
pub fn config_of(folder: &Path) -> Result<(RunConfig, u64)> {
    if !is_run(folder) {
        return Err(RunsError::NoRun { path: folder.into() }.into());
    }
    let file = folder.join(RUN_FILE);
    let text =
        read_regular_text(&file, SETTINGS_BYTES).with_context(|| file.display().to_string())?;
    let config = RunConfig::from_toml(&text, &file.display().to_string())?;
    let planned_steps = config.schedule()?.end().step;
    Ok((config, planned_steps))
}

impl RunSummary {
    /// What is known of the run in a folder. Lines of steps are only looked at, but for the first
    /// and the last, so that a long run is read in a moment.
    ///
    /// # Errors
    /// A folder without a run; a configuration, labels or a record that cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let (config, planned_steps) = config_of(folder)?;
        let mut summary = Self {
            folder: folder.into(),
            state: RunState::Stopped,
            config,
            planned_steps,
            step: None,
            evaluation: None,
            best: None,
            alerts: [0; 3],
            times: None,
            unreadable_lines: 0,
            labels: Labels::read(folder)?,
        };
        let diverged = summary.read_record(&folder.join(METRICS_FILE))?;
        let evaluated = summary.evaluation.as_ref().map_or(0, |line| line.stamp.step);
        let (is_trained, steps) = (RunLock::is_taken(folder), summary.steps());
        summary.state = RunState::of(is_trained, diverged, steps, evaluated, planned_steps);
        Ok(summary)
    }

    /// The last part of its folder's name.
    pub fn name(&self) -> String {
        let name = self.folder.file_name().map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| self.folder.display().to_string())
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.step.as_ref().map_or(0, |step| step.stamp.step)
    }

    /// Tokens a second ([`RunState::speed`]); none before the first step.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let step = self.step.as_ref()?;
        let (tokens, seconds) = (step.stamp.tokens, step.stamp.elapsed_seconds);
        Some(self.state.speed(step.tokens_per_second, tokens, seconds))
    }

    /// Seconds of training that are left at the mean speed so far; none where none was measured.
    pub fn seconds_left(&self) -> Option<f64> {
        let step = self.step.as_ref()?;
        let left = self.planned_steps.saturating_sub(step.stamp.step) as f64;
        Some(step.stamp.elapsed_seconds / step.stamp.step.max(1) as f64 * left)
    }

    /// Goes through a record; whether its last step diverged.
    fn read_record(&mut self, path: &Path) -> Result<bool> {
        let file = match open_regular(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened.with_context(|| path.display().to_string())?,
        };
        let (mut lines, mut last_step) = (RawLines::new(BufReader::new(file)), Vec::new());
        let (mut first, mut diverged) = (true, false);
        while let Some(line) = lines.next_line().with_context(|| path.display().to_string())? {
            if line.is_too_long {
                self.unreadable_lines += 1;
                continue;
            }
            if !line.is_ended {
                break; // it is being written
            }
            if !first && line.bytes.starts_with(STEP) {
                last_step.clear();
                last_step.extend_from_slice(line.bytes);
                continue;
            }
            first = false;
            let Some(line) = self.parsed(line.bytes) else { continue };
            self.take(line, &mut diverged);
        }
        if !last_step.is_empty()
            && let Some(line) = self.parsed(&last_step)
        {
            self.take(line, &mut diverged);
        }
        Ok(diverged)
    }

    fn parsed(&mut self, bytes: &[u8]) -> Option<Line> {
        let line = std::str::from_utf8(bytes).ok().and_then(|text| parse_line(text).ok());
        self.unreadable_lines += usize::from(line.is_none());
        line
    }

    fn take(&mut self, line: Line, diverged: &mut bool) {
        let time = line.stamp().time.clone();
        match &mut self.times {
            Some((_, last)) if *last < time => *last = time,
            Some(_) => {}
            None => self.times = Some((time.clone(), time)),
        }
        match line {
            Line::Step(step) => self.step = Some(step),
            Line::Evaluation(evaluation) => {
                let (step, loss) = (evaluation.stamp.step, evaluation.valid_loss);
                if loss.is_finite() && self.best.is_none_or(|(_, best)| loss < best) {
                    self.best = Some((step, loss));
                }
                self.evaluation = Some(evaluation);
            }
            Line::Alert(alert) => {
                self.alerts[match alert.level {
                    AlertLevel::Info => 0,
                    AlertLevel::Warning => 1,
                    AlertLevel::Error => 2,
                }] += 1;
                *diverged |= alert.rule == "diverged";
            }
            Line::Sample(_) | Line::System(_) => {}
        }
    }
}
