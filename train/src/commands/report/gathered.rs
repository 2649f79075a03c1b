//! What a report needs of a run, from its folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::complete_in;
use crate::failure::{Context, Result};
use crate::record::{AlertLine, EvaluationLine, Experts, Line, Record, SampleLine, StepLine};
use crate::runs::RunSummary;

/// A run, read through.
pub(super) struct Gathered {
    pub summary: RunSummary,
    pub steps: Vec<Step>,
    pub evaluations: Vec<EvaluationLine>,
    pub samples: Vec<SampleLine>,
    pub alerts: Vec<AlertLine>,
    /// The last loads of every expert, and after which step.
    pub loads: Option<(u64, Experts)>,
    /// Steps and bytes of the checkpoints that are kept.
    pub checkpoints: Vec<(u64, u64)>,
}

/// What a curve has of a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub step: u64,
    pub tokens: u64,
    pub loss: f64,
    pub mtp_losses: Vec<f64>,
    pub grad_norm: f64,
    pub lr: f64,
    pub tokens_per_second: f64,
    /// Seconds of the parts of the step, those of [`PARTS`].
    pub seconds: [f64; PARTS.len()],
    pub max_violation: Option<f64>,
    pub layer_violation: Vec<f64>,
}

/// What the seconds of a step are made of.
pub(super) const PARTS: [&str; 6] = [
    "forward",
    "backward",
    "rest of the passes",
    "update of the weights",
    "waiting for data",
    "average of the weights",
];

/// Share of the time below which a part is not told.
const LEAST: f64 = 0.0005;

impl Gathered {
    /// Reads a run. Lines of its record that cannot be read are counted in its summary.
    ///
    /// # Errors
    /// A folder without a run; files that cannot be read.
    pub fn of(folder: &Path) -> Result<Self> {
        let summary = RunSummary::read(folder)?;
        let mut checkpoints = Vec::new();
        for (step, path) in complete_in(folder)? {
            match bytes_in(&path) {
                // A run that goes on deletes its older ones.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                bytes => {
                    checkpoints.push((step, bytes.with_context(|| path.display().to_string())?));
                }
            }
        }
        let mut run = Self {
            summary,
            steps: Vec::new(),
            evaluations: Vec::new(),
            samples: Vec::new(),
            alerts: Vec::new(),
            loads: None,
            checkpoints,
        };
        Record::readable(folder, |line| run.take(line))?;
        Ok(run)
    }

    /// Which of [`PARTS`] took time, by index, and how many seconds over all steps.
    pub fn spent(&self) -> Vec<(usize, f64)> {
        let sum = |part: usize| self.steps.iter().map(|step| step.seconds[part]).sum::<f64>();
        let sums: Vec<(usize, f64)> = (0..PARTS.len()).map(|part| (part, sum(part))).collect();
        let all: f64 = sums.iter().map(|(_, sum)| sum).sum();
        sums.into_iter().filter(|&(_, sum)| sum > LEAST * all).collect()
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Step(line) => {
                self.steps.push(Step::of(&line));
                self.take_loads(line.stamp.step, line.experts);
            }
            Line::Evaluation(line) => {
                self.take_loads(line.stamp.step, line.experts.clone());
                self.evaluations.push(line);
            }
            Line::Sample(line) => self.samples.push(line),
            Line::Alert(line) => self.alerts.push(line),
            Line::System(_) => {}
        }
    }

    fn take_loads(&mut self, step: u64, experts: Experts) {
        if !experts.expert_loads.is_empty() {
            self.loads = Some((step, experts));
        }
    }
}

impl Step {
    fn of(line: &StepLine) -> Self {
        Self {
            step: line.stamp.step,
            tokens: line.stamp.tokens,
            loss: line.loss,
            mtp_losses: line.mtp_losses.clone(),
            grad_norm: line.grad_norm,
            lr: line.lr,
            tokens_per_second: line.tokens_per_second,
            seconds: [
                line.forward_seconds,
                line.backward_seconds,
                (line.compute_seconds - line.forward_seconds - line.backward_seconds).max(0.0),
                line.update_seconds,
                line.data_seconds,
                line.average_seconds,
            ],
            max_violation: line.experts.max_violation,
            layer_violation: line.experts.layer_violation.clone(),
        }
    }
}

/// Bytes of the files in a folder and below it.
fn bytes_in(folder: &Path) -> io::Result<u64> {
    let (mut bytes, mut folders) = (0, vec![PathBuf::from(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let found = entry.metadata()?;
            if found.is_dir() {
                folders.push(entry.path());
            } else {
                bytes += found.len();
            }
        }
    }
    Ok(bytes)
}
