//! What the ranks did in a step, and when: the measured side of a schedule.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use burn::tensor::Device;

use crate::dualpipe::action::Action;
use crate::dualpipe::lanes::{end_us, measured_lanes, simulated_lanes};
use crate::dualpipe::schedule::PipelineSchedule;
use crate::dualpipe::simulate::{Costs, Waiting, simulate};
use crate::record::{Lane, TIMELINE_VERSION, Timeline, Timelines};

/// Where the engine leaves the timeline of the last step.
pub type TimelineCell = Arc<Mutex<Option<StepTimeline>>>;

/// The measured timeline of one step.
#[derive(Clone, Debug)]
pub struct StepTimeline {
    /// The schedule that every pipeline carried out.
    pub schedule: PipelineSchedule,
    /// Each rank, in order.
    pub ranks: Vec<RankTime>,
}

/// A rank's part of a timeline.
#[derive(Clone, Debug)]
pub struct RankTime {
    /// The rank's number and device.
    pub name: String,
    /// What it did, in order.
    pub spans: Vec<Span>,
}

/// Something that a rank did; times count from the start of the step.
#[derive(Clone, Debug)]
pub struct Span {
    /// The action.
    pub action: Action,
    /// When it began.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
    /// The part of it in which messages were waited for.
    pub waited: Duration,
    /// How long rows of experts were in flight in it: of two passes together each counts.
    pub in_flight: Duration,
    /// The part of that in which the other pass computed.
    pub hidden: Duration,
}

impl Span {
    /// The part of it in which something was computed.
    pub fn computed(&self) -> Duration {
        (self.end - self.start).saturating_sub(self.waited)
    }
}

impl StepTimeline {
    /// The timeline of a step from the spans of each rank; `ranks` gives their devices' names.
    pub(super) fn new(
        ranks: &[(String, Device)],
        schedule: &PipelineSchedule,
        spans: impl Iterator<Item = Vec<Span>>,
    ) -> Self {
        let time = |(rank, (spans, (device, _))): (usize, (Vec<Span>, &(String, Device)))| {
            RankTime { name: format!("rank {rank} on {device}"), spans }
        };
        let ranks = spans.zip(ranks).enumerate().map(time).collect();
        Self { schedule: schedule.clone(), ranks }
    }

    /// What the actions cost in seconds, waiting not counted: means over all ranks. An action that
    /// the schedule has not costs what it would be made of.
    pub fn costs(&self) -> Costs {
        let mean = |kind: fn(&Action) -> bool| {
            let of_kind =
                self.ranks.iter().flat_map(|rank| &rank.spans).filter(|span| kind(&span.action));
            let (count, sum) = of_kind.fold((0u32, 0.0), |(count, sum), span| {
                (count + 1, sum + span.computed().as_secs_f64())
            });
            (count > 0).then(|| sum / f64::from(count))
        };
        let forward = mean(|action| matches!(action, Action::Forward(_))).unwrap_or(0.0);
        let weights = mean(|action| matches!(action, Action::Weights(_))).unwrap_or(0.0);
        let whole = mean(|action| matches!(action, Action::Backward { defer_weights: false, .. }));
        let backward_input =
            mean(|action| matches!(action, Action::Backward { defer_weights: true, .. }));
        let backward_input =
            backward_input.or_else(|| Some((whole? - weights).max(0.0))).unwrap_or(0.0);
        let overlapped = mean(|action| matches!(action, Action::Overlapped { .. }));
        let overlapped = overlapped.unwrap_or(forward + backward_input + weights);
        Costs { forward, backward_input, weights, overlapped, communication: 0.0 }
    }

    /// The step as a file has it, beside the same schedule simulated with what its actions cost in
    /// it; none of a schedule that cannot be proved, which none is that was carried out.
    pub fn beside_its_simulation(&self, step: u64) -> Option<Timelines> {
        let simulation = simulate(&self.schedule, &self.costs(), Waiting::WhereNeeded).ok()?;
        let timeline = |title: &str, ranks: Vec<Lane>| Timeline {
            title: title.into(),
            total_us: end_us(&ranks),
            ranks,
        };
        let simulated = simulated_lanes(&self.schedule, &simulation, 1e6);
        Some(Timelines {
            version: TIMELINE_VERSION,
            step,
            measured: timeline("measured", measured_lanes(self)),
            simulated: timeline("simulated with the measured costs", simulated),
        })
    }

    /// When the last rank was done.
    pub fn makespan(&self) -> Duration {
        self.ranks
            .iter()
            .flat_map(|rank| rank.spans.iter().map(|span| span.end))
            .max()
            .unwrap_or_default()
    }
}

impl RankTime {
    /// Time in which it computed.
    pub fn busy(&self) -> Duration {
        self.spans.iter().map(Span::computed).sum()
    }
}
