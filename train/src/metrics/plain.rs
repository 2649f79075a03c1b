//! Progress as plain lines, for where there is no terminal.

use std::collections::HashMap;
use std::time::Instant;

use burn_train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn_train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn_train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};

use super::Notes;
use super::progress::{Progress, evaluation_line};
use crate::fold::fold_on_terminal;
use crate::stdout::write_stdout;

/// Prints a line every few steps, with progress and time left, and one after each evaluation.
#[derive(Debug)]
pub struct PlainRenderer {
    every: u64,
    first_step: u64,
    steps: u64,
    eval_every: u64,
    step: u64,
    epoch_start: u64,
    validating: bool,
    started: Instant,
    names: HashMap<MetricId, String>,
    train: HashMap<String, f64>,
    valid: HashMap<String, Mean>,
    notes: Notes,
    /// Whether something else shows the run.
    muted: bool,
}

/// A mean over tokens, as exact as what it is made of.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64, count: usize) {
        self.sum += value * count as f64;
        self.count += count;
    }

    fn value(self) -> f64 {
        self.sum / self.count as f64
    }
}

impl PlainRenderer {
    /// A renderer for a run of `steps` steps that starts after `first_step`, evaluates every
    /// `eval_every` and prints every `every`, and what comes to `notes`.
    pub fn new(first_step: u64, steps: u64, eval_every: u64, every: u64, notes: Notes) -> Self {
        Self {
            every: every.max(1),
            first_step,
            steps,
            eval_every: eval_every.max(1),
            step: first_step,
            epoch_start: first_step / eval_every.max(1) * eval_every.max(1),
            validating: false,
            started: Instant::now(),
            names: HashMap::new(),
            train: HashMap::new(),
            valid: HashMap::new(),
            notes,
            muted: false,
        }
    }

    /// Steps made, as far as was told.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Prints nothing while something else shows the run; what it would have printed is not said
    /// later.
    pub fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// Prints a line. A reader that has left, or a full disk behind standard output, does not end a
    /// training.
    fn say(&self, line: &str) {
        if !self.muted {
            let _ = write_stdout(&fold_on_terminal(format!("{line}\n")));
        }
    }

    fn say_notes(&self) {
        self.notes.take().iter().for_each(|note| self.say(&note.text));
    }

    /// The name of a metric and its value for one batch, with the tokens that it is of.
    fn named(&self, state: &MetricState) -> Option<(String, f64, usize)> {
        let MetricState::Numeric(entry, Some(value)) = state else { return None };
        let name = self.names.get(&entry.metric_id)?.clone();
        let count = match value {
            NumericEntry::Aggregated { count, .. } => *count,
            NumericEntry::Value(_) | NumericEntry::Final(_) => 1,
        };
        Some((name, value.current(), count))
    }

    fn line(&self) -> String {
        let get = |name: &str| self.train.get(name).copied();
        let violation = self
            .train
            .iter()
            .filter(|(name, _)| name.starts_with("Max violation"))
            .map(|(_, v)| *v)
            .fold(f64::NAN, f64::max);
        Progress {
            step: self.step,
            steps: self.steps,
            loss: get("Loss"),
            mtp: get("MTP 1 loss"),
            grad_norm: get("Gradient norm"),
            lr: get("Learning rate"),
            violation: Some(violation),
            speed: get("Speed"),
            left: self.time_left(),
        }
        .line()
    }

    fn time_left(&self) -> Option<f64> {
        let done = self.step.saturating_sub(self.first_step);
        let left = self.steps.saturating_sub(self.step) as f64;
        (done > 0).then(|| self.started.elapsed().as_secs_f64() / done as f64 * left)
    }
}

impl MetricsRendererTraining for PlainRenderer {
    fn update_train(&mut self, state: MetricState) {
        if let Some((name, value, _)) = self.named(&state) {
            self.train.insert(name, value);
        }
    }

    fn update_valid(&mut self, state: MetricState) {
        if let Some((name, value, count)) = self.named(&state) {
            self.valid.entry(name).or_default().add(value, count);
        }
    }

    fn on_train_end(
        &mut self,
        _summary: Option<burn_train::LearnerSummary>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl TrainingProgressLogger for PlainRenderer {
    fn start(
        &mut self,
        _epochs: usize,
        _starting_epoch: usize,
        _items: Option<usize>,
        _label: Option<&str>,
    ) {
        self.started = Instant::now();
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch_start = epoch as u64 * self.eval_every;
    }

    fn start_split(&mut self, split: &str, _total_items: usize) {
        self.validating = split.eq_ignore_ascii_case("valid");
        self.valid.clear();
    }

    fn update_split(&mut self, items_processed: usize) {
        if self.validating {
            return;
        }
        self.step = self.epoch_start + items_processed as u64;
        self.say_notes();
        if self.step.is_multiple_of(self.every)
            || self.step == self.first_step + 1
            || self.step == self.steps
        {
            self.say(&self.line());
        }
    }

    fn end_split(&mut self) {
        if self.validating {
            let get = |name: &str| self.valid.get(name).copied().unwrap_or_default().value();
            let (loss, bits) = (get("Loss"), get("Bits a byte"));
            self.say(&evaluation_line(self.step, loss, bits));
        }
        self.validating = false;
        self.say_notes();
    }

    fn end(&mut self) {}

    fn log_event_training(&mut self, _event: String) {}
}

impl MetricsRendererEvaluation for PlainRenderer {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl EvaluationProgressLogger for PlainRenderer {
    fn start_global_progress(&mut self, _total_tests: usize) {}

    fn start_test(&mut self, _name: &str, _total_items: usize) {}

    fn update_test_progress(&mut self, _items_processed: usize) {}

    fn end_test(&mut self) {}

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRenderer for PlainRenderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.insert(definition.metric_id, definition.name.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_train::metric::{MetricEntry, SerializedEntry};

    /// Means are over tokens, and of an evaluation alone: what an earlier one measured, or one that
    /// was cut short, is in none.
    #[test]
    fn an_evaluation_is_the_exact_mean_of_its_batches() {
        let mut renderer = PlainRenderer::new(0, 10, 5, 1, Notes::default());
        let id = MetricId::new(std::sync::Arc::new("Loss".into()));
        renderer.names.insert(id.clone(), "Loss".into());
        let batch = |renderer: &mut PlainRenderer, loss: f64, count| {
            let entry = MetricEntry::new(
                id.clone(),
                SerializedEntry::new(format!("epoch {loss:.1} nats"), loss.to_string()),
            );
            let value = NumericEntry::Aggregated { aggregated_value: loss, count };
            renderer.update_valid(MetricState::Numeric(entry, Some(value)));
        };
        renderer.start_split("Valid", 2);
        batch(&mut renderer, 100.0, 7);
        renderer.start_split("Valid", 2);
        batch(&mut renderer, 1.23456, 10);
        batch(&mut renderer, 1.4, 20);
        let mean = renderer.valid["Loss"].value();
        assert!((mean - (12.3456 + 28.0) / 30.0).abs() < 1e-12, "{mean}");
    }
}
