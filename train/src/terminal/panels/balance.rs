//! How even each MoE layer is, and what its balance biases do about it: a row a layer.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::history::History;
use super::super::numbers::short;
use super::super::palette::sparkline;
use super::super::view::{Panel, View};
use super::{framed, nothing, scrolled};

/// A violation that is told.
const MUCH: f64 = 1.0;
/// Columns of the course of a violation at most.
const COURSE: usize = 32;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Layer,
    Violation,
    Course(usize),
    Entropy,
    Bias,
    Drift,
}

impl Column {
    fn head(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Violation => "maxvio",
            Self::Course(_) => "",
            Self::Entropy => "entropy",
            Self::Bias => "bias",
            Self::Drift => "drift",
        }
    }

    fn width(self) -> usize {
        match self {
            Self::Layer => 6,
            Self::Violation => 7,
            Self::Course(columns) => columns + 1,
            Self::Entropy | Self::Drift => 9,
            Self::Bias => 17,
        }
    }

    /// What stands in it of the layer at an index.
    fn cell(self, history: &History, index: usize) -> String {
        let number = |values: &[f64]| short(values.get(index).copied().unwrap_or(f64::NAN));
        match (self, &history.step, &history.evaluation) {
            (Self::Layer, Some(step), _) => {
                step.experts.layers.get(index).map_or_else(String::new, ToString::to_string)
            }
            (Self::Violation, ..) => {
                format!("{:.2}", violation(history, index))
            }
            (Self::Course(columns), ..) => {
                history.layer_violations.get(index).map_or_else(String::new, |values| {
                    sparkline(values.iter().skip(values.len().saturating_sub(columns)).copied())
                })
            }
            (Self::Entropy, ..) => number(&history.gate_entropy),
            (Self::Drift, ..) => number(&history.bias_drift),
            (Self::Bias, _, Some(line)) => {
                match (line.bias_min.get(index), line.bias_max.get(index)) {
                    (Some(low), Some(high)) => format!("{low:+.3}..{high:+.3}"),
                    _ => "-".into(),
                }
            }
            _ => "-".into(),
        }
    }
}

fn violation(history: &History, index: usize) -> f64 {
    let step = history.step.as_ref();
    step.and_then(|step| step.experts.layer_violation.get(index).copied()).unwrap_or(f64::NAN)
}

/// The columns that there is something for and that fit, what matters most first to be taken.
fn columns(history: &History, width: usize) -> Vec<Column> {
    let mut taken = vec![Column::Layer, Column::Violation];
    let mut used: usize = taken.iter().map(|column| column.width()).sum();
    let wanted = [
        (Column::Bias, history.evaluation.is_some()),
        (Column::Entropy, !history.gate_entropy.is_empty()),
        (Column::Drift, history.bias_drift.iter().any(|drift| drift.is_finite())),
    ];
    for (column, _) in wanted.into_iter().filter(|(_, is_there)| *is_there) {
        if used + column.width() <= width {
            used += column.width();
            taken.push(column);
        }
    }
    let course = width.saturating_sub(used + 1).min(COURSE);
    if course > 5 {
        taken.insert(2, Column::Course(course));
    }
    taken
}

pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let (history, palette) = (&view.history, view.palette);
    let said = history.violation.last().map_or_else(Line::default, |violation| {
        Line::styled(format!("max violation {violation:.2}"), palette.label())
    });
    let inner = framed(frame, area, view, Panel::Balance, said);
    let Some(step) = history.step.as_ref().filter(|step| !step.experts.layers.is_empty()) else {
        return nothing(frame, inner, view, "no step has been made");
    };
    let columns = columns(history, usize::from(inner.width));
    let padded = |text: &str, column: Column| format!("{text:<width$}", width = column.width());
    let head: String = columns.iter().map(|&column| padded(column.head(), column)).collect();
    let mut lines = vec![Line::styled(head, palette.label())];
    for index in 0..step.experts.layers.len() {
        let much = violation(history, index) > MUCH;
        let measured = if much { palette.warning() } else { palette.train() };
        let spans = columns.iter().map(|&column| {
            let style = match column {
                Column::Layer => palette.label(),
                Column::Violation | Column::Course(_) => measured,
                Column::Entropy | Column::Bias | Column::Drift => Style::new(),
            };
            Span::styled(padded(&column.cell(history, index), column), style)
        });
        lines.push(Line::from_iter(spans));
    }
    scrolled(frame, inner, view, Panel::Balance, lines);
}
