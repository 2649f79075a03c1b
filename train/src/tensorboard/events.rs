//! From the lines of a record to events.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;

use super::messages::{
    Event, HParam, Held, Histogram, SessionLog, SessionOutcome, SessionStatus, Summary, Value, What,
};
use super::text::{literal, text};
use super::{histogram, hparams, tags};
use crate::config::RunConfig;
use crate::failure::Result;
use crate::record::{Experts, Line};

/// The format of event files.
const FILE_VERSION: &str = "brain.Event:2";

/// What of a run its events say beside its lines.
#[derive(Clone, Debug)]
pub struct RunFacts {
    hparams: BTreeMap<String, HParam>,
    /// Those of them that are no default.
    changed: BTreeSet<String>,
    /// The configuration as it is written.
    toml: String,
    /// Steps that the run is to make.
    planned_steps: u64,
}

impl RunFacts {
    /// Those of a run with this configuration.
    ///
    /// # Errors
    /// A configuration that has no form in TOML, or no schedule.
    pub fn of(config: &RunConfig) -> Result<Self> {
        Ok(Self {
            hparams: hparams::of_config(config)?,
            changed: hparams::changed(config)?,
            toml: config.shown().to_toml()?,
            planned_steps: config.schedule()?.end().step,
        })
    }
}

/// Makes the events of a run, line by line.
#[derive(Debug)]
pub(super) struct Events {
    facts: RunFacts,
    begun: bool,
    /// Time of the last line that says one, in seconds since 1970.
    wall_time: f64,
}

impl Events {
    pub fn new(facts: RunFacts) -> Self {
        Self { facts, begun: false, wall_time: 0.0 }
    }

    /// The events of the next line.
    pub fn of(&mut self, line: &Line) -> Result<Vec<Event>> {
        let (stamp, mut events) = (line.stamp(), Vec::new());
        if let Ok(time) = DateTime::parse_from_rfc3339(&stamp.time) {
            self.wall_time = time.timestamp_micros() as f64 / 1e6;
        }
        if !self.begun {
            self.begun = true;
            events = self.beginning();
        }
        let mut values = Vec::new();
        match line {
            Line::Step(line) => loads("moe", &line.experts, &mut values),
            Line::Evaluation(line) => {
                loads("valid_moe", &line.experts, &mut values);
                biases(&line.experts.layers, &line.expert_biases, &mut values);
                if stamp.step >= self.facts.planned_steps {
                    values.push(hparams::end(SessionOutcome::Success, self.wall_time));
                }
            }
            Line::Sample(line) => values.push(text("sample/text", literal(&line.text))),
            Line::Alert(line) => {
                let said = format!("{}: {}", line.level.name(), line.message);
                values.push(text("alerts", literal(&said)));
                if line.rule == "diverged" {
                    values.push(hparams::end(SessionOutcome::Failure, self.wall_time));
                }
            }
            Line::System(_) => {}
        }
        // What an alert compared is in its message.
        if !matches!(line, Line::Alert(_))
            && let serde_json::Value::Object(keys) = serde_json::to_value(line)?
        {
            values.extend(tags::scalars(&keys).into_iter().map(|(tag, number)| Value {
                tag,
                metadata: None,
                held: Some(Held::Simple(single(number))),
            }));
        }
        if !values.is_empty() {
            events.push(self.event(stamp.step, What::Summary(Summary { value: values })));
        }
        Ok(events)
    }

    /// What a file begins with: its version, that all that readers have of the run counts no more,
    /// and the configuration.
    fn beginning(&self) -> Vec<Event> {
        let start = SessionLog { status: SessionStatus::Start.into() };
        let mut value = hparams::start(&self.facts.hparams, &self.facts.changed, self.wall_time);
        value.push(text("configuration", literal(self.facts.toml.trim_end())));
        vec![
            self.event(0, What::FileVersion(FILE_VERSION.into())),
            self.event(0, What::SessionLog(start)),
            self.event(0, What::Summary(Summary { value })),
        ]
    }

    fn event(&self, step: u64, what: What) -> Event {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        Event { wall_time: self.wall_time, step, what: Some(what) }
    }
}

/// The FP32 number nearest to the first 15 digits of a record's number. A number that is read back
/// from the record may be off by its last place, and what lies half way between two of FP32 would
/// then be another one in events that are made of the record than in those of the run.
fn single(number: f64) -> f32 {
    let digits = format!("{number:.14e}");
    digits.parse::<f64>().unwrap_or(number) as f32
}

/// A histogram of the balance biases of each layer.
fn biases(layers: &[usize], biases: &[Vec<f32>], values: &mut Vec<Value>) {
    for (layer, biases) in layers.iter().zip(biases) {
        let biases: Vec<f64> = biases.iter().copied().map(f64::from).collect();
        let made = histogram::of_values(&biases);
        values.extend(made.map(|made| drawn(format!("moe/bias/layer_{layer}"), made)));
    }
}

/// Two histograms of each layer whose loads a line has.
fn loads(group: &str, experts: &Experts, values: &mut Vec<Value>) {
    for (layer, loads) in experts.layers.iter().zip(&experts.expert_loads) {
        for (name, made) in
            [("load", histogram::of_loads(loads)), ("choices", histogram::of_choices(loads))]
        {
            values.extend(made.map(|made| drawn(format!("{group}/{name}/layer_{layer}"), made)));
        }
    }
}

fn drawn(tag: String, histogram: Histogram) -> Value {
    Value { tag, metadata: None, held: Some(Held::Histogram(histogram)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{AlertLine, EvaluationLine, Stamp, StepLine};

    fn events() -> Events {
        Events::new(RunFacts {
            hparams: BTreeMap::new(),
            changed: BTreeSet::new(),
            toml: "a = 1".into(),
            planned_steps: 4,
        })
    }

    fn stamp(step: u64, time: &str) -> Stamp {
        Stamp { step, time: time.into(), ..Stamp::default() }
    }

    fn values(event: &Event) -> &[Value] {
        match &event.what {
            Some(What::Summary(summary)) => &summary.value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_number_is_the_same_however_it_was_read() {
        let half_way = 2.0 + f64::from(f32::EPSILON);
        let read =
            [-1, 0, 1].map(|last| f64::from_bits(half_way.to_bits().wrapping_add_signed(last)));
        assert_ne!(read[0] as f32, read[2] as f32, "it lies between two numbers");
        assert_eq!(read.map(single), [single(half_way); 3]);
        for number in [0.0, -0.0, 1.0, 0.1, 1e300, -3.5e-46, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(single(number).to_bits(), (number as f32).to_bits(), "{number}");
        }
        assert!(single(f64::NAN).is_nan());
    }

    #[test]
    fn a_file_begins_once_and_has_the_time_of_its_lines() {
        let mut events = events();
        let stamp = stamp(3, "2026-01-02T03:04:05.250Z");
        let line = Line::Step(StepLine { stamp: stamp.clone(), ..StepLine::default() });
        let made = events.of(&line).unwrap();
        assert_eq!(made.iter().map(|event| event.step).collect::<Vec<_>>(), [0, 0, 0, 3]);
        assert!(made.iter().all(|event| event.wall_time == 1_767_323_045.25), "{made:?}");
        assert_eq!(events.of(&line).unwrap().len(), 1);
        // A line without a time has that of the one before it.
        let untimed = Stamp { time: "yesterday".into(), ..stamp };
        let line = Line::Step(StepLine { stamp: untimed, ..StepLine::default() });
        assert_eq!(events.of(&line).unwrap()[0].wall_time, 1_767_323_045.25);
    }

    #[test]
    fn a_number_that_is_none_has_no_event() {
        let line = StepLine { loss: f64::NAN, grad_norm: 2.0, ..StepLine::default() };
        let made = events().of(&Line::Step(line)).unwrap();
        let tags: Vec<&str> = values(&made[3]).iter().map(|value| value.tag.as_str()).collect();
        assert!(!tags.contains(&"train/loss") && tags.contains(&"train/grad_norm"), "{tags:?}");
    }

    #[test]
    fn a_run_ends_with_its_last_evaluation_or_where_it_diverges() {
        let ended = |line: &Line| {
            let made = events().of(line).unwrap();
            let end = values(&made[3]).iter().find(|value| value.tag.ends_with("session_end_info"));
            end.cloned()
        };
        let evaluation = |step| {
            let stamp = stamp(step, "1970-01-01T00:00:09Z");
            Line::Evaluation(EvaluationLine { stamp, ..EvaluationLine::default() })
        };
        assert_eq!(ended(&evaluation(3)), None);
        assert_eq!(ended(&evaluation(4)), Some(hparams::end(SessionOutcome::Success, 9.0)));
        let alert = |rule: &str| {
            let stamp = stamp(2, "1970-01-01T00:00:09Z");
            Line::Alert(AlertLine { stamp, rule: rule.into(), ..AlertLine::default() })
        };
        assert_eq!(ended(&alert("loss_spike")), None);
        let failure = hparams::end(SessionOutcome::Failure, 9.0);
        assert_eq!(ended(&alert("diverged")), Some(failure));
    }

    #[test]
    fn text_is_shown_as_it_is() {
        assert_eq!(literal("a\n\n```\n# b"), "    a\n    \n    ```\n    # b");
    }
}
