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
        }
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
        let left = self.time_left();
        let get = |name: &str| self.train.get(name).copied();
        let mut line = format!(
            "step {:>6}/{} ({:>3.0}%)",
            self.step,
            self.steps,
            100.0 * self.step as f64 / self.steps.max(1) as f64
        );
        if let Some(loss) = get("Loss") {
            line += &format!("  loss {loss:.4}");
        }
        if let Some(mtp) = get("MTP 1 loss") {
            line += &format!("  mtp {mtp:.4}");
        }
        if let Some(norm) = get("Gradient norm") {
            line += &format!("  grad {norm:.3}");
        }
        if let Some(lr) = get("Learning rate") {
            line += &format!("  lr {lr:.2e}");
        }
        let violation = self
            .train
            .iter()
            .filter(|(name, _)| name.starts_with("Max violation"))
            .map(|(_, v)| *v)
            .fold(f64::NAN, f64::max);
        if violation.is_finite() {
            line += &format!("  maxvio {violation:.2}");
        }
        if let Some(speed) = get("Speed") {
            line += &format!("  {speed:.0} tokens/s");
        }
        line + &format!("  left {left}")
    }

    fn time_left(&self) -> String {
        let done = self.step.saturating_sub(self.first_step);
        if done == 0 {
            return "?".into();
        }
        let seconds = self.started.elapsed().as_secs_f64() / done as f64
            * self.steps.saturating_sub(self.step) as f64;
        duration(seconds)
    }
}

/// Prints a line. A reader that has left, or a full disk behind standard output, does not end a
/// training.
fn say(line: &str) {
    let _ = write_stdout(&fold_on_terminal(format!("{line}\n")));
}

/// `1h02m`, `3m20s`, `12s`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
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
        self.notes.take().iter().for_each(|note| say(note));
        if self.step.is_multiple_of(self.every)
            || self.step == self.first_step + 1
            || self.step == self.steps
        {
            say(&self.line());
        }
    }

    fn end_split(&mut self) {
        if self.validating {
            let get = |name: &str| self.valid.get(name).copied().unwrap_or_default().value();
            let (loss, bits) = (get("Loss"), get("Bits a byte"));
            say(&format!(
                "step {:>6}  validation loss {loss:.4} nats, perplexity {:.3}, {bits:.4} bits a \
                 byte",
                self.step,
                loss.exp()
            ));
        }
        self.validating = false;
        self.notes.take().iter().for_each(|note| say(note));
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

    #[test]
    fn durations_read_well() {
        assert_eq!([duration(7.4), duration(200.0), duration(3725.0)], ["7s", "3m20s", "1h02m"]);
    }

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
