//! Timelines, simulated and measured, as lanes of slices: what each rank did, and when.

use serde_json::{Value, json};

use super::action::{Action, Chunk, Planned};
use super::executor::StepTimeline;
use super::schedule::PipelineSchedule;
use super::simulate::Simulation;
use crate::record::{Lane, Slice};

/// Something that a rank did, in microseconds.
struct Done<'a> {
    planned: &'a Planned,
    start: f64,
    end: f64,
    /// The part of it that passed before it could begin.
    waited: f64,
    /// How long rows of experts were in flight in it, and how much of that was hidden.
    in_flight: f64,
    hidden: f64,
}

/// A schedule with the times that it was simulated with; a unit of them is so many microseconds.
pub(super) fn simulated_lanes(
    schedule: &PipelineSchedule,
    simulation: &Simulation,
    unit_us: f64,
) -> Vec<Lane> {
    let lanes = simulation.ranks.iter().enumerate().map(|(rank, timed)| {
        let done = timed.iter().map(|timed| {
            let (start, end) = (timed.start * unit_us, timed.end * unit_us);
            Done { planned: &timed.planned, start, end, waited: 0.0, in_flight: 0.0, hidden: 0.0 }
        });
        lane(format!("rank {rank}"), schedule, done)
    });
    with_idle(lanes.collect())
}

/// A step that was measured: its ranks, those of the first pipeline first.
pub(super) fn measured_lanes(timeline: &StepTimeline) -> Vec<Lane> {
    let schedule = &timeline.schedule;
    let lanes = timeline.ranks.iter().enumerate().map(|(rank, time)| {
        let planned = schedule.actions[rank % schedule.ranks]
            .iter()
            .filter(|planned| !matches!(planned.action, Action::Exchange(_)));
        let done = planned.zip(&time.spans).map(|(planned, span)| {
            let [start, end, waited, in_flight, hidden] =
                [span.start, span.end, span.waited, span.in_flight, span.hidden]
                    .map(|time| time.as_secs_f64() * 1e6);
            Done { planned, start, end, waited, in_flight, hidden }
        });
        lane(time.name.clone(), schedule, done)
    });
    with_idle(lanes.collect())
}

/// When the last of some ranks was done, microseconds.
pub(super) fn end_us(lanes: &[Lane]) -> f64 {
    lanes.iter().flat_map(|lane| &lane.slices).map(|slice| slice.end_us).fold(0.0, f64::max)
}

/// Lanes in which the time is idle in which nothing is computed, until the last is done.
fn with_idle(mut lanes: Vec<Lane>) -> Vec<Lane> {
    let end = end_us(&lanes);
    for lane in &mut lanes {
        lane.idle_us = (end - lane.busy_us).max(0.0);
    }
    lanes
}

fn lane<'a>(
    name: String,
    schedule: &PipelineSchedule,
    done: impl Iterator<Item = Done<'a>>,
) -> Lane {
    let mut lane = Lane { name, busy_us: 0.0, idle_us: 0.0, slices: Vec::new() };
    for Done { planned, start, end, waited, in_flight, hidden } in done {
        // An action waits for its messages first, then computes.
        let begun = (start + waited).min(end);
        if waited > 0.0 {
            lane.slices.push(slice("wait".into(), "wait", (start, begun), json!({})));
        }
        let Some((name, kind, mut details)) = described(schedule, &planned.action) else {
            continue;
        };
        details["step"] = json!(planned.step);
        if in_flight > 0.0 {
            details["rows_in_flight_us"] = json!(in_flight);
            details["rows_hidden_us"] = json!(hidden);
        }
        lane.busy_us += end - begun;
        lane.slices.push(slice(name, kind, (begun, end), details));
    }
    lane
}

fn slice(name: String, kind: &str, (start_us, end_us): (f64, f64), details: Value) -> Slice {
    Slice { name, kind: kind.into(), start_us, end_us, details }
}

/// Name, category and details of an action; nothing of an exchange, which takes no time of its own.
fn described(
    schedule: &PipelineSchedule,
    action: &Action,
) -> Option<(String, &'static str, Value)> {
    let details = |chunk: &Chunk| {
        let Chunk { direction, index, stage } = *chunk;
        let micro_batch = schedule.micro_batch(*chunk);
        json!({
            "direction": direction, "chunk": index, "stage": stage, "micro_batch": micro_batch,
        })
    };
    let number = |chunk: &Chunk| schedule.micro_batch(*chunk);
    match action {
        Action::Forward(chunk) => Some((format!("F {}", number(chunk)), "forward", details(chunk))),
        Action::Backward { chunk, defer_weights: true } => {
            Some((format!("B input {}", number(chunk)), "backward_input", details(chunk)))
        }
        Action::Backward { chunk, .. } => {
            Some((format!("B {}", number(chunk)), "backward", details(chunk)))
        }
        Action::Weights(chunk) => Some((format!("W {}", number(chunk)), "weights", details(chunk))),
        Action::Overlapped { forward, backward } => {
            let name = format!("F {} & B {}", number(forward), number(backward));
            Some((
                name,
                "overlapped",
                json!({ "forward": details(forward), "backward": details(backward) }),
            ))
        }
        Action::Exchange(_) => None,
    }
}
