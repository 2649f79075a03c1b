//! Writing a run's record, `metrics.jsonl`. With the position of a checkpoint it is what a run goes
//! on from: what it says is done is not done again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};

use super::alerts::{Alerts, ExpertCounts};
use super::columns::{drift, experts, fp8_casts, grad_norms, param_norms};
use super::kept::keep;
use super::seconds::StepSeconds;
use crate::config::AlertsConfig;
use crate::durable::replace_file;
use crate::failure::{Context, Result};
use crate::kill_point;
use crate::learner::{Evaluation, StepReport};
use crate::parallel::ExchangeBytes;
use crate::record::{
    AlertLine, EvaluationLine, Line, METRICS_FILE, SampleLine, Stamp, StepLine, SystemLine,
    TIMELINE_FILE, Timelines, VERSION,
};
use crate::schedule::StepSettings;
use crate::tensorboard::{EVENTS_FOLDER, EventFile, RunFacts};

/// What is recorded, and how often.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Steps from one line with what takes room or time (loads of the experts, the machine) to the
    /// next.
    pub every: u64,
    /// Bytes of text that a token stands for.
    pub bytes_per_token: f64,
    /// The rules of alerts.
    pub alerts: AlertsConfig,
    /// The model's experts.
    pub experts: ExpertCounts,
    /// What TensorBoard is told of the run beside the lines; none where no event files are wanted.
    pub tensorboard: Option<RunFacts>,
}

/// Appends to the record of a run.
#[derive(Debug)]
pub struct StepLog {
    file: File,
    path: PathBuf,
    settings: LogSettings,
    alerts: Alerts,
    /// What TensorBoard reads.
    events: Option<EventFile>,
    /// The last steps with an evaluation and with a sample.
    evaluated: Option<u64>,
    sampled: Option<u64>,
    /// Steps and losses of the evaluations.
    losses: Vec<(u64, f64)>,
    /// The balance biases of the last evaluation; empty before the first.
    biases: Vec<Vec<f32>>,
}

impl StepLog {
    /// Opens the log of `run_dir` for a run that goes on after `step`. Lines of later steps are
    /// dropped, and so is a last one that was cut off: they will be written again. Lines that
    /// nobody can read are set aside, and told.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn open(
        run_dir: &Path,
        step: u64,
        settings: LogSettings,
    ) -> Result<(Self, Option<String>)> {
        let path = run_dir.join(METRICS_FILE);
        let mut alerts = Alerts::new(settings.alerts.clone(), settings.experts);
        let (mut evaluated, mut sampled) = (None, None);
        let (mut losses, mut biases) = (Vec::new(), Vec::new());
        let broken = keep(&path, step, |line| {
            match &line {
                Line::Evaluation(line) => {
                    evaluated = Some(line.stamp.step);
                    losses.push((line.stamp.step, line.valid_loss));
                    biases.clone_from(&line.expert_biases);
                }
                Line::Sample(line) => sampled = Some(line.stamp.step),
                Line::Step(_) | Line::Alert(_) | Line::System(_) => {}
            }
            alerts.observe(&line); // what it raises is in the record
        })?;
        alerts.begin_session();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        let told = broken.told(&path);
        let events = settings
            .tensorboard
            .clone()
            .map(|facts| EventFile::of_run(run_dir, &run_dir.join(EVENTS_FOLDER), facts))
            .transpose()?
            .map(|(events, _)| events); // what could not be read was set aside
        let log = Self { file, path, settings, alerts, events, evaluated, sampled, losses, biases };
        Ok((log, told))
    }

    /// Whether the evaluation after a step is recorded.
    pub fn has_evaluation(&self, step: u64) -> bool {
        self.evaluated == Some(step)
    }

    /// Steps and validation losses of all evaluations so far.
    pub fn validation_losses(&self) -> &[(u64, f64)] {
        &self.losses
    }

    /// Whether the sample after a step is recorded.
    pub fn has_sample(&self, step: u64) -> bool {
        self.sampled == Some(step)
    }

    /// Whether a step's line has what takes room or time.
    pub fn is_detailed(&self, step: u64) -> bool {
        step.is_multiple_of(self.settings.every.max(1))
    }

    /// Writes a step, and gives the alerts that it raises.
    ///
    /// # Errors
    ///
    /// The line cannot be written.
    pub fn step(
        &mut self,
        stamp: Stamp,
        report: &StepReport,
        settings: &StepSettings,
        seconds: &StepSeconds,
    ) -> Result<Vec<AlertLine>> {
        let detailed = self.is_detailed(stamp.step);
        let mut experts = experts(&report.layer_loads);
        if !detailed {
            experts.expert_loads.clear();
        }
        let passes = &report.passes;
        let ranks = if detailed { &passes.ranks[..] } else { &[] };
        let bytes = |of: fn(&ExchangeBytes) -> u64| report.exchange.as_ref().map(of);
        self.write(Line::Step(StepLine {
            loss: report.loss,
            perplexity: report.loss.exp(),
            bits_per_byte: self.bits_per_byte(report.loss),
            mtp_loss: report.mtp_loss(),
            mtp_losses: report.mtp_losses.clone(),
            balance_loss: report.balance_loss,
            total_loss: report.total_loss,
            grad_norm: report.grad_norm,
            lr: settings.lr,
            global_batch: settings.global_batch as u64,
            batch_tokens: report.tokens as u64,
            bias_update_speed: settings.bias_update_speed,
            seq_aux_alpha: settings.seq_aux_alpha,
            mtp_lambda: settings.mtp_lambda,
            tokens_per_second: report.tokens_per_second,
            step_seconds: seconds.step,
            data_seconds: seconds.data,
            compute_seconds: seconds.compute,
            update_seconds: seconds.update,
            average_seconds: seconds.average,
            saving_seconds: seconds.saving,
            experts,
            grad_norms: report.norms.map(|norms| grad_norms(&norms.gradients)).unwrap_or_default(),
            param_norm: report.norms.map(|norms| norms.parameters.global),
            param_norms: report
                .norms
                .map(|norms| param_norms(&norms.parameters))
                .unwrap_or_default(),
            forward_seconds: passes.forward_seconds,
            backward_seconds: passes.backward_seconds,
            exchange_seconds: passes.exchange_seconds,
            exchange_hidden_seconds: passes.exchange_hidden_seconds,
            gate_entropy: passes.gate_entropy.clone(),
            fp8: passes.casts.as_ref().map(fp8_casts).unwrap_or_default(),
            rank_busy_seconds: ranks.iter().map(|rank| rank.busy_seconds).collect(),
            rank_waiting_seconds: ranks.iter().map(|rank| rank.waiting_seconds).collect(),
            rank_sent_bytes: ranks.iter().map(|rank| rank.sent_bytes).collect(),
            exchange_fast_bytes: bytes(|bytes| bytes.sent.fast_bytes),
            exchange_slow_bytes: bytes(|bytes| bytes.sent.slow_bytes),
            exchange_direct_fast_bytes: bytes(|bytes| bytes.direct.fast_bytes),
            exchange_direct_slow_bytes: bytes(|bytes| bytes.direct.slow_bytes),
            stamp,
        }))
    }

    /// Writes an evaluation with the balance biases of the MoE layers, and gives the alerts that it
    /// raises.
    ///
    /// # Errors
    ///
    /// The line cannot be written.
    pub fn evaluation(
        &mut self,
        stamp: Stamp,
        evaluation: &Evaluation,
        biases: &[Vec<f32>],
        seconds: f64,
    ) -> Result<Vec<AlertLine>> {
        let step = stamp.step;
        let extreme = |of: fn(f64, f64) -> f64, from: f64| -> Vec<f64> {
            biases.iter().map(|bias| bias.iter().copied().map(f64::from).fold(from, of)).collect()
        };
        let mtp = &evaluation.mtp_losses;
        let alerts = self.write(Line::Evaluation(EvaluationLine {
            stamp,
            valid_loss: evaluation.loss,
            valid_perplexity: evaluation.perplexity(),
            valid_bits_per_byte: self.bits_per_byte(evaluation.loss),
            valid_mtp_loss: (!mtp.is_empty()).then(|| mtp.iter().sum::<f64>() / mtp.len() as f64),
            valid_mtp_losses: mtp.clone(),
            valid_tokens: evaluation.tokens as u64,
            evaluation_seconds: seconds,
            experts: experts(&evaluation.layer_loads),
            bias_min: extreme(f64::min, f64::INFINITY),
            bias_max: extreme(f64::max, f64::NEG_INFINITY),
            bias_drift: drift(&self.biases, biases),
            expert_biases: biases.to_vec(),
        }))?;
        self.evaluated = Some(step);
        self.losses.push((step, evaluation.loss));
        self.biases = biases.to_vec();
        Ok(alerts)
    }

    /// Writes a sample.
    ///
    /// # Errors
    ///
    /// The line cannot be written.
    pub fn sample(&mut self, sample: SampleLine) -> Result<()> {
        let step = sample.stamp.step;
        self.write(Line::Sample(sample))?;
        self.sampled = Some(step);
        Ok(())
    }

    /// Writes what the machine has to give, and gives the alerts that it raises.
    ///
    /// # Errors
    ///
    /// The line cannot be written.
    pub fn system(&mut self, line: SystemLine) -> Result<Vec<AlertLine>> {
        self.write(Line::System(line))
    }

    /// Writes what the ranks did in a step beside the record, in the place of what they did before.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn timelines(&self, timelines: &Timelines) -> Result<()> {
        let text = serde_json::to_string(timelines)?;
        let path = self.path.with_file_name(TIMELINE_FILE);
        Ok(replace_file(&path, |out| out.write_all(text.as_bytes()))?)
    }

    /// Has every line written so far on the disk: a checkpoint relies on those of the steps before
    /// it.
    ///
    /// # Errors
    ///
    /// The disk does not take them.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().with_context(|| format!("{}: cannot write", self.path.display()))?;
        self.events.as_ref().map_or(Ok(()), EventFile::sync)
    }

    fn bits_per_byte(&self, loss: f64) -> f64 {
        loss / std::f64::consts::LN_2 / self.settings.bytes_per_token
    }

    /// Writes a line and the alerts that it raises.
    fn write(&mut self, line: Line) -> Result<Vec<AlertLine>> {
        let alerts = self.alerts.observe(&line);
        let mut text = serde_json::to_string(&line)? + "\n";
        for alert in &alerts {
            text += &(serde_json::to_string(&Line::Alert(alert.clone()))? + "\n");
        }
        kill_point::here();
        if kill_point::reached() {
            let _ = self.file.write_all(&text.as_bytes()[..text.len() / 2]);
            std::process::abort();
        }
        if kill_point::reached() {
            let _ = self.file.write_all(text.trim_end().as_bytes());
            std::process::abort();
        }
        // In one piece: a line and its alerts are there or not, and cost one call.
        self.file
            .write_all(text.as_bytes())
            .with_context(|| format!("{}: cannot write", self.path.display()))?;
        kill_point::here();
        if let Some(events) = &mut self.events {
            events.add(&line)?;
            for alert in &alerts {
                events.add(&Line::Alert(alert.clone()))?;
            }
        }
        Ok(alerts)
    }
}

/// A stamp of now.
pub fn stamp(elapsed_seconds: f64, step: u64, samples: u64, tokens: u64) -> Stamp {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    Stamp { version: VERSION, time, elapsed_seconds, step, samples, tokens }
}
