//! Timelines, simulated and measured, as a file for Perfetto and chrome://tracing.

use std::path::Path;

use serde_json::{Value, json};

use super::executor::StepTimeline;
use super::lanes::{measured_lanes, simulated_lanes};
use super::schedule::PipelineSchedule;
use super::simulate::Simulation;
use crate::failure::{Context, Result};
use crate::record::{Lane, Slice};

/// Timelines below each other: a process each, in it a thread a rank.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: Vec<Value>,
    processes: usize,
}

impl Trace {
    /// Adds a schedule with the times that it was simulated with; a unit of them is so many
    /// microseconds.
    pub fn simulated(
        &mut self,
        title: &str,
        schedule: &PipelineSchedule,
        simulation: &Simulation,
        unit_us: f64,
    ) {
        let process = self.process(title);
        self.lanes(process, &simulated_lanes(schedule, simulation, unit_us));
    }

    /// Adds a step that was measured: a process for each pipeline.
    pub fn measured(&mut self, title: &str, timeline: &StepTimeline) {
        let lanes = measured_lanes(timeline);
        let pipelines = lanes.len().div_ceil(timeline.schedule.ranks);
        for (pipeline, lanes) in lanes.chunks(timeline.schedule.ranks).enumerate() {
            let process = match pipelines {
                1 => self.process(title),
                _ => self.process(&format!("{title}, pipeline {pipeline}")),
            };
            self.lanes(process, lanes);
        }
    }

    /// The file: an object of Chrome's trace event format.
    pub fn to_json(&self) -> Value {
        json!({ "traceEvents": self.events, "displayTimeUnit": "ms" })
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, format!("{}\n", self.to_json()))
            .with_context(|| format!("{}: cannot write the trace", path.display()))
    }

    fn process(&mut self, title: &str) -> usize {
        let process = self.processes;
        self.processes += 1;
        self.events.push(
            json!({ "ph": "M", "name": "process_name", "pid": process, "args": { "name": title } }),
        );
        self.events.push(json!({
            "ph": "M", "name": "process_sort_index", "pid": process,
            "args": { "sort_index": process },
        }));
        process
    }

    fn lanes(&mut self, process: usize, lanes: &[Lane]) {
        for (rank, lane) in lanes.iter().enumerate() {
            self.events.push(json!({
                "ph": "M", "name": "thread_name", "pid": process, "tid": rank,
                "args": { "name": lane.name },
            }));
            self.events.push(json!({
                "ph": "M", "name": "thread_sort_index", "pid": process, "tid": rank,
                "args": { "sort_index": rank },
            }));
            for Slice { name, kind, start_us, end_us, details } in &lane.slices {
                self.events.push(json!({
                    "ph": "X", "name": name, "cat": kind, "pid": process, "tid": rank,
                    "ts": start_us, "dur": end_us - start_us, "args": details,
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dualpipe::Action;
    use crate::dualpipe::{Costs, PipelineSchedule, RankTime, Span, Waiting, simulate};
    use crate::parallel::PipelineScheduleKind;

    /// The slices of a process, by rank.
    fn slices(trace: &Value, process: usize) -> Vec<(u64, String, f64, f64)> {
        let events = trace["traceEvents"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["ph"] == "X" && event["pid"] == process);
        let slice = |event: &Value| {
            let number = |key: &str| event[key].as_f64().unwrap();
            (
                event["tid"].as_u64().unwrap(),
                event["name"].as_str().unwrap().to_owned(),
                number("ts"),
                number("dur"),
            )
        };
        events.map(slice).collect()
    }

    #[test]
    fn a_simulated_and_a_measured_timeline_share_a_file() {
        let schedule = PipelineSchedule::new(PipelineScheduleKind::DualPipe, 2, 4).unwrap();
        let simulation = simulate(&schedule, &Costs::UNIT, Waiting::AtExchanges).unwrap();
        let mut trace = Trace::default();
        trace.simulated("on paper", &schedule, &simulation, 1e3);

        // Two pipelines, each action a millisecond of which the first half is waited.
        let ms = |time: f64| Duration::from_secs_f64(time * 1e-3);
        let spans = |rank: usize| {
            let actions = schedule.actions[rank % 2].iter().map(|planned| &planned.action);
            let timed = actions.filter(|action| !matches!(action, Action::Exchange(_))).zip(0..);
            timed
                .map(|(action, at)| Span {
                    action: action.clone(),
                    start: ms(f64::from(at)),
                    end: ms(f64::from(at) + 1.0),
                    waited: ms(0.5),
                    in_flight: ms(0.25),
                    hidden: ms(0.125),
                })
                .collect()
        };
        let ranks = (0..4)
            .map(|rank| RankTime { name: format!("rank {rank} on flex"), spans: spans(rank) })
            .collect();
        trace.measured("step 3", &StepTimeline { schedule, ranks });

        let json: Value = serde_json::from_str(&trace.to_json().to_string()).unwrap();
        let simulated = slices(&json, 0);
        assert_eq!(simulated.len(), 2 * 8);
        assert_eq!(simulated[4], (0, "F 3 & B 0".to_owned(), 5e3, 3e3));
        assert_eq!(simulated[6], (0, "B input 1".to_owned(), 10e3, 1e3));
        for pipeline in [1, 2] {
            let measured = slices(&json, pipeline);
            assert_eq!(measured.len(), 2 * 2 * 8);
            assert_eq!(
                measured[..2],
                [(0, "wait".to_owned(), 0.0, 500.0), (0, "F 0".to_owned(), 500.0, 500.0)]
            );
        }
        let overlapped = |event: &&Value| event["pid"] == 1 && event["cat"] == "overlapped";
        let event = json["traceEvents"].as_array().unwrap().iter().find(overlapped).unwrap();
        assert_eq!(
            (&event["args"]["rows_in_flight_us"], &event["args"]["rows_hidden_us"]),
            (&json!(250.0), &json!(125.0))
        );
        let names: Vec<&str> = json["traceEvents"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|event| event["args"]["name"].as_str())
            .collect();
        assert_eq!(names[..4], ["on paper", "rank 0", "rank 1", "step 3, pipeline 0"]);
        assert_eq!(names[6..], ["step 3, pipeline 1", "rank 2 on flex", "rank 3 on flex"]);
    }
}
