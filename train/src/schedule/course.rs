//! One quantity's course with its boundaries known: from what is written to a function of the
//! position.

use std::f64::consts::PI;

use super::batch::BatchCourse;
use super::position::Position;
use super::until::Until;
use super::written::{Course, Segment, Shape};

/// What boundaries are converted by.
pub(super) struct Clock<'a> {
    pub batch: &'a BatchCourse,
    /// Where the run ends.
    pub end: Position,
}

/// A segment with its values known; `from` and `to` are equal where it does not change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plain {
    pub until: Option<Until>,
    pub from: f64,
    pub to: f64,
    pub shape: Shape,
}

/// The segments of a course, checked one by one and in their order; a number is one segment.
pub(super) fn segments(course: &Course, key: &str, problems: &mut Vec<String>) -> Vec<Plain> {
    let list = match course {
        Course::Constant(value) => {
            check_value(key, *value, problems);
            return vec![Plain { until: None, from: *value, to: *value, shape: Shape::Linear }];
        }
        Course::Segments(list) => list,
    };
    if list.is_empty() {
        problems.push(format!("{key} = [] must have at least one segment, as in [{{ at = 1 }}]"));
    }
    let mut reached = 0.0;
    let mut plain = Vec::new();
    for (index, segment) in list.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let values = match *segment {
            Segment { at: Some(at), from: None, to: None, shape: None, .. } => Some((at, at)),
            Segment { at: None, from, to: Some(to), .. } => Some((from.unwrap_or(reached), to)),
            _ => None,
        };
        let Some((from, to)) = values else {
            problems.push(format!(
                "{key} must have either `at`, or `to` (with `from` and `shape` where needed)"
            ));
            continue;
        };
        for value in if from == to { vec![to] } else { vec![from, to] } {
            check_value(&key, value, problems);
        }
        if segment.until.is_none() && index + 1 < list.len() {
            problems.push(format!(
                "{key}.until is missing; only the last segment goes on to the end of the run"
            ));
        }
        check_until(&key, segment.until, problems);
        reached = to;
        plain.push(Plain {
            until: segment.until,
            from,
            to,
            shape: segment.shape.unwrap_or(Shape::Linear),
        });
    }
    check_order(key, list, problems);
    plain
}

fn check_value(key: &str, value: f64, problems: &mut Vec<String>) {
    if !(value.is_finite() && value >= 0.0) {
        problems.push(format!("{key} = {value} must be a number of at least 0"));
    } else if !(value as f32).is_finite() {
        problems.push(format!("{key} = {value} is more than FP32 holds"));
    } else if key.contains("bias_update_speed") && value > 1.0 {
        // Larger ones overflow the biases one day, of which models are then damaged.
        problems.push(format!("{key} = {value} must be at most 1: scores lie between 0 and 1"));
    }
}

fn check_until(key: &str, until: Option<Until>, problems: &mut Vec<String>) {
    match until {
        Some(until @ (Until::Tokens(0) | Until::Steps(0))) => {
            problems.push(format!("{key}.until = \"{until}\" must be above 0"))
        }
        Some(Until::Percent(percent)) if !(percent > 0.0 && percent <= 100.0) => {
            problems
                .push(format!("{key}.until = \"{percent}%\" must be above 0% and at most 100%"));
        }
        _ => {}
    }
}

/// Boundaries in the same unit must rise; of different units it depends on the run's length which
/// comes first, and a segment that is over before it begins is passed over.
fn check_order(key: &str, list: &[Segment], problems: &mut Vec<String>) {
    let number = |until: Until| match until {
        Until::Tokens(tokens) => (0, tokens as f64),
        Until::Steps(steps) => (1, steps as f64),
        Until::Percent(percent) => (2, percent),
    };
    let mut last: [Option<Until>; 3] = [None; 3];
    for (index, until) in
        list.iter().enumerate().filter_map(|(index, segment)| Some((index, segment.until?)))
    {
        let (unit, value) = number(until);
        if let Some(before) = last[unit].filter(|before| number(*before).1 >= value) {
            problems.push(format!(
                "{key}[{index}].until = \"{until}\" must be after \"{before}\", \
                 where an earlier segment ends"
            ));
        }
        last[unit] = Some(until);
    }
}

/// A part of the course between two boundaries, counted in steps or in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    in_steps: bool,
    start: f64,
    end: f64,
    from: f64,
    to: f64,
    shape: Shape,
}

/// A quantity as a function of the position.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Values {
    pieces: Vec<Piece>,
    last: f64,
}

impl Values {
    /// The course of these segments in a run with this clock.
    pub fn new(segments: &[Plain], clock: &Clock) -> Self {
        // The boundary before, in both units.
        let mut steps = 0.0;
        let mut tokens = 0.0;
        let mut pieces = Vec::new();
        for segment in segments {
            let in_steps = matches!(segment.until, Some(Until::Steps(_)));
            let start = if in_steps { steps } else { tokens };
            match segment.until {
                Some(Until::Steps(until)) => {
                    steps = (until as f64).max(steps);
                    tokens = clock.tokens_at(steps).max(tokens);
                }
                Some(Until::Tokens(until)) => tokens = (until as f64).max(tokens),
                Some(Until::Percent(percent)) => {
                    tokens = (percent / 100.0 * clock.end.tokens as f64).max(tokens)
                }
                None => tokens = (clock.end.tokens as f64).max(tokens),
            }
            if !in_steps {
                steps = clock.batch.steps_at(tokens).max(steps);
            }
            let end = if in_steps { steps } else { tokens };
            pieces.push(Piece {
                in_steps,
                start,
                end,
                from: segment.from,
                to: segment.to,
                shape: segment.shape,
            });
        }
        Self { pieces, last: segments.last().map_or(0.0, |segment| segment.to) }
    }

    /// The value of a step that ends at `position`.
    pub fn at(&self, position: Position) -> f64 {
        let now = |piece: &Piece| {
            if piece.in_steps { position.step as f64 } else { position.tokens as f64 }
        };
        match self.pieces.iter().find(|piece| now(piece) <= piece.end) {
            Some(piece) => piece.at(now(piece)),
            None => self.last,
        }
    }

    /// Whether it is above 0 anywhere.
    pub fn is_ever_positive(&self) -> bool {
        self.last > 0.0 || self.pieces.iter().any(|piece| piece.from > 0.0 || piece.to > 0.0)
    }

    /// The ends of its parts, in tokens or steps: where a table has a line.
    pub fn boundaries(&self) -> impl Iterator<Item = Until> {
        self.pieces.iter().map(|piece| {
            if piece.in_steps {
                Until::Steps(piece.end as u64)
            } else {
                Until::Tokens(piece.end as u64)
            }
        })
    }
}

impl Piece {
    /// `from + (to - from) x` or `to + (from - to) (1 + cos(pi x)) / 2`, where x goes from 0 at the
    /// start to 1 at the end.
    fn at(&self, now: f64) -> f64 {
        let (done, length) = ((now - self.start).max(0.0), self.end - self.start);
        if self.from == self.to || length <= 0.0 {
            return self.to;
        }
        match self.shape {
            Shape::Linear => self.from + (self.to - self.from) * done / length,
            Shape::Cosine => {
                self.to + (self.from - self.to) * (1.0 + (PI * (done / length)).cos()) / 2.0
            }
        }
    }
}

impl Clock<'_> {
    /// Tokens at a number of steps; beyond what can be counted, the end of all counting.
    fn tokens_at(&self, steps: f64) -> f64 {
        let whole = self.batch.position_after(steps as u64);
        whole.map_or(f64::MAX, |whole| {
            whole.tokens as f64
                + (steps - whole.step as f64) * self.batch.tokens_of_step(whole.tokens) as f64
        })
    }
}
