//! The view of a training, as burn-train shows its progress through it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use burn_train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn_train::metric::MetricDefinition;
use burn_train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};

use super::palette::Palette;
use super::screen;
use super::show::Shown;
use super::view::{Facts, Role, View};
use crate::metrics::{Notes, PlainRenderer};
use crate::signals::Signals;

/// Shows a training in the terminal. Numbers come from the record of the run, which has all of it;
/// burn-train tells how far an evaluation is. Where the view has no terminal, or lost it, there are
/// plain lines.
#[derive(Debug)]
pub struct TerminalRenderer {
    plain: PlainRenderer,
    notes: Notes,
    shown: Arc<Shown>,
    threads: Vec<JoinHandle<()>>,
    signals: Signals,
    /// Batches of the evaluation that goes on.
    evaluating: Option<usize>,
}

impl TerminalRenderer {
    /// Takes the terminal for a run that has `notes` to tell; `plain` shows it where that cannot
    /// be.
    pub fn open(facts: Facts, signals: &Signals, notes: Notes, plain: PlainRenderer) -> Self {
        let view = View::new(facts, Role::Training, Palette::of_environment());
        let shown = Arc::new(Shown::new(view, signals.clone()));
        let threads = match start(&shown) {
            Ok(threads) => {
                signals.take_screen(screen::give_back);
                threads
            }
            // Plain lines say all that is needed.
            Err(_) => Vec::new(),
        };
        Self { plain, notes, shown, threads, signals: signals.clone(), evaluating: None }
    }

    /// Leaves to plain lines what the view does not show: all, where it is not seen.
    fn share(&mut self) {
        let is_seen = !self.threads.is_empty() && screen::is_taken();
        self.plain.mute(is_seen);
        if is_seen {
            let notes = self.notes.take().into_iter().filter(|note| !note.is_recorded);
            self.shown.view().note(notes.map(|note| note.text));
        }
    }
}

/// Starts to show a view and to follow its record.
fn start(shown: &Arc<Shown>) -> io::Result<Vec<JoinHandle<()>>> {
    let screen = screen::take()?;
    let shower = shown.clone();
    let show = move || {
        // A terminal that cannot be written is left; plain lines may go elsewhere.
        let _ = shower.show(screen);
        screen::give_back();
    };
    let follower = shown.clone();
    let follow = move || follower.follow();
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    let threads = thread("terminal")
        .spawn(show)
        .and_then(|shower| Ok(vec![shower, thread("record").spawn(follow)?]));
    threads.inspect_err(|_| {
        shown.end();
        screen::give_back();
    })
}

impl Drop for TerminalRenderer {
    fn drop(&mut self) {
        self.shown.end();
        for thread in self.threads.drain(..) {
            // What a thread panicked of has been told.
            let _ = thread.join();
        }
        screen::give_back();
        self.signals.leave_screen();
    }
}

impl MetricsRendererTraining for TerminalRenderer {
    fn update_train(&mut self, state: MetricState) {
        self.plain.update_train(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.plain.update_valid(state);
    }

    fn on_train_end(
        &mut self,
        _summary: Option<burn_train::LearnerSummary>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl TrainingProgressLogger for TerminalRenderer {
    fn start(&mut self, epochs: usize, first: usize, items: Option<usize>, label: Option<&str>) {
        self.plain.start(epochs, first, items, label);
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.plain.update_epoch(epoch);
    }

    fn start_split(&mut self, split: &str, total_items: usize) {
        self.evaluating = split.eq_ignore_ascii_case("valid").then_some(total_items);
        self.shown.view().live.evaluating = self.evaluating.map(|all| (0, all));
        self.shown.change();
        self.plain.start_split(split, total_items);
    }

    fn update_split(&mut self, items_processed: usize) {
        if let Some(all) = self.evaluating {
            self.shown.view().live.evaluating = Some((items_processed, all));
            self.shown.change();
        }
        self.share();
        self.plain.update_split(items_processed);
        self.shown.view().live.made = self.plain.step();
    }

    fn end_split(&mut self) {
        self.evaluating = None;
        self.shown.view().live.evaluating = None;
        self.shown.change();
        self.share();
        self.plain.end_split();
    }

    fn end(&mut self) {}

    fn log_event_training(&mut self, _event: String) {}
}

impl MetricsRendererEvaluation for TerminalRenderer {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl EvaluationProgressLogger for TerminalRenderer {
    fn start_global_progress(&mut self, _total_tests: usize) {}

    fn start_test(&mut self, _name: &str, _total_items: usize) {}

    fn update_test_progress(&mut self, _items_processed: usize) {}

    fn end_test(&mut self) {}

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRenderer for TerminalRenderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.plain.register_metric(definition);
    }
}
