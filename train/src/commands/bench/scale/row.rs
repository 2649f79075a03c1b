//! A point and what was seen of it.

use super::axis::Point;
use super::bound::Bound;
use super::exponent::exponent;

/// How far the exponent of one step may be above what it must be before it is marked: the figure is
/// then 15% more than it must be.
pub(super) const TOLERANCE: f64 = 0.2;
/// The same of a whole axis, over which noise cancels.
const WHOLE_TOLERANCE: f64 = 0.1;

/// What a step took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    pub step_ms: f64,
    pub tokens_per_s: f64,
    /// Forward and backward.
    pub gradients_ms: f64,
    pub optimizer_ms: f64,
    /// The peak of the process, where the system tells.
    pub memory_bytes: Option<f64>,
    pub gflop_per_s: f64,
    /// The share of the peak that is, where the peak is known.
    pub of_peak: Option<f64>,
}

/// What came of a point.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Measured(Figures),
    /// Why there are no figures.
    LeftOut(String),
}

/// A point of an axis.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub point: Point,
    /// What it must take at least, where that can be known.
    pub bound: Option<Bound>,
    pub seen: Seen,
}

/// What grows along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    Step,
    Gradients,
    Optimizer,
    Memory,
}

/// How a quantity grows from one row to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    pub exponent: f64,
    /// What it must be.
    pub must: Option<f64>,
}

impl Growth {
    /// Whether it is faster over one step than it must be.
    pub fn is_faster(&self) -> bool {
        self.is_faster_by(TOLERANCE)
    }

    /// Whether it is faster over a whole axis than it must be.
    pub fn is_faster_on_the_whole(&self) -> bool {
        self.is_faster_by(WHOLE_TOLERANCE)
    }

    fn is_faster_by(&self, tolerance: f64) -> bool {
        self.must.is_some_and(|must| self.exponent > must + tolerance)
    }
}

impl Quantity {
    pub const ALL: [Self; 4] = [Self::Step, Self::Gradients, Self::Optimizer, Self::Memory];

    /// Its name, for programs too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Gradients => "forward and backward",
            Self::Optimizer => "optimizer",
            Self::Memory => "memory",
        }
    }

    fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::Step => Some(figures.step_ms),
            Self::Gradients => Some(figures.gradients_ms),
            Self::Optimizer => Some(figures.optimizer_ms),
            Self::Memory => figures.memory_bytes,
        }
    }

    fn at_least(self, bound: &Bound) -> f64 {
        match self {
            Self::Step => bound.step_ms(),
            Self::Gradients => bound.gradients_ms,
            Self::Optimizer => bound.optimizer_ms,
            Self::Memory => bound.memory_bytes,
        }
    }
}

impl Row {
    /// What was measured.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.seen {
            Seen::Measured(figures) => Some(figures),
            Seen::LeftOut(_) => None,
        }
    }

    /// How a quantity grows from an earlier row to this one.
    pub fn growth(&self, from: &Self, quantity: Quantity) -> Option<Growth> {
        let grown = |of: &dyn Fn(&Self) -> Option<f64>| {
            exponent((from.point.value, of(from)?), (self.point.value, of(self)?))
        };
        let must = grown(&|row| row.bound.as_ref().map(|bound| quantity.at_least(bound)));
        let exponent = grown(&|row| quantity.of(row.figures()?))?;
        Some(Growth { exponent, must })
    }

    /// How many times another row's quantity this one's is.
    pub fn ratio(&self, to: &Self, quantity: Quantity) -> Option<f64> {
        Some(quantity.of(self.figures()?)? / quantity.of(to.figures()?)?)
    }
}

/// The first and the last row that were measured, where others are between them.
pub(super) fn whole(rows: &[Row]) -> Option<(&Row, &Row)> {
    let measured: Vec<&Row> = rows.iter().filter(|row| row.figures().is_some()).collect();
    match measured[..] {
        [first, _, .., last] => Some((first, last)),
        _ => None,
    }
}

/// Each row with the one that it grows from: the last before it that was measured.
pub(super) fn with_before(rows: &[Row]) -> impl Iterator<Item = (&Row, Option<&Row>)> {
    let before = |index: usize| rows[..index].iter().rev().find(|row| row.figures().is_some());
    rows.iter().enumerate().map(move |(index, row)| (row, before(index)))
}
