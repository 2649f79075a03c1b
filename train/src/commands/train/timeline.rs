//! The last step's timeline of a run over several ranks: a trace, and each rank's idle time beside
//! what was to be expected.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::dualpipe::{Cluster, Costs, Simulation, Span, StepTimeline, Trace, Waiting, simulate};
use crate::failure::{Context, Result};

/// A measured step, and the same schedule simulated with the costs measured in it.
pub(super) struct Report {
    timeline: StepTimeline,
    costs: Costs,
    simulation: Simulation,
}

impl Report {
    /// The report of a run's last step; nothing where there was none.
    pub(super) fn of(cluster: &Cluster) -> Result<Option<Self>> {
        let Some(cell) = &cluster.timeline else { return Ok(None) };
        let Some(timeline) = cell.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
        else {
            return Ok(None);
        };
        let costs = timeline.costs();
        let simulation = simulate(&timeline.schedule, &costs, Waiting::WhereNeeded);
        Ok(Some(Self {
            simulation: simulation
                .context("invariant: a schedule that was carried out can be proved")?,
            costs,
            timeline,
        }))
    }

    /// Writes both as one trace.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut trace = Trace::default();
        trace.measured("measured", &self.timeline);
        trace.simulated(
            "simulated with the measured costs",
            &self.timeline.schedule,
            &self.simulation,
            1e6,
        );
        trace.write(path)
    }

    /// A line a rank, in milliseconds.
    pub(super) fn text(&self) -> String {
        let Self { timeline: StepTimeline { schedule, .. }, costs, simulation } = self;
        let mut text = String::from(
            "timeline    rank        busy        idle   simulated     formula   (ms of the last \
             step)\n",
        );
        let (formula, simulated) = (schedule.kind.bubble(schedule.ranks, costs), simulation.idle());
        for (rank, (busy, idle)) in self.times().into_iter().enumerate() {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "            {rank:<4} {:>11.2} {:>11.2} {:>11.2} {:>11.2}",
                1e3 * busy.as_secs_f64(),
                1e3 * idle.as_secs_f64(),
                1e3 * simulated[rank % schedule.ranks],
                1e3 * formula
            );
        }
        let _ = writeln!(
            text,
            "            simulated with what was measured: F {:.2}, B {:.2} (input {:.2}, W \
             {:.2}), F&B {:.2}; formula {}",
            1e3 * costs.forward,
            1e3 * costs.backward(),
            1e3 * costs.backward_input,
            1e3 * costs.weights,
            1e3 * costs.overlapped,
            schedule.kind.bubble_text()
        );
        text
    }

    /// For programs: times in seconds.
    pub(super) fn results(&self) -> Value {
        let schedule = &self.timeline.schedule;
        let (busy, idle): (Vec<f64>, Vec<f64>) = self
            .times()
            .into_iter()
            .map(|(busy, idle)| (busy.as_secs_f64(), idle.as_secs_f64()))
            .unzip();
        let of_ranks = |time: fn(&Span) -> Duration| -> Vec<f64> {
            let ranks = self.timeline.ranks.iter();
            ranks.map(|rank| rank.spans.iter().map(time).sum::<Duration>().as_secs_f64()).collect()
        };
        json!({
            "in_flight": of_ranks(|span| span.in_flight),
            "hidden": of_ranks(|span| span.hidden),
            "schedule": schedule.kind,
            "makespan": self.timeline.makespan().as_secs_f64(),
            "busy": busy,
            "idle": idle,
            "idle_simulated": self.simulation.idle(),
            "makespan_simulated": self.simulation.makespan(),
            "idle_formula": schedule.kind.bubble(schedule.ranks, &self.costs),
            "costs": self.costs,
        })
    }

    /// Busy and idle of each rank, until the last one was done.
    fn times(&self) -> Vec<(Duration, Duration)> {
        let makespan = self.timeline.makespan();
        self.timeline
            .ranks
            .iter()
            .map(|rank| (rank.busy(), makespan.saturating_sub(rank.busy())))
            .collect()
    }
}
