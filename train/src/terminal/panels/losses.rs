//! The losses over the whole run: of training, of validation, of the MTP modules.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType};

use super::super::numbers::count;
use super::super::scale::Scale;
use super::super::series::smoothed;
use super::super::view::{Panel, View};
use super::{framed, nothing};

/// More points than this share of the columns are not marked one by one.
const MARKED: usize = 3;

pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let (history, palette, choices) = (&view.history, view.palette, &view.choices);
    let legend = legend(view, usize::from(area.width));
    let inner = framed(frame, area, view, Panel::Losses, legend);
    let from = choices.span.from(history.steps());
    let raw = history.loss.points(from);
    if raw.len() < 2 || inner.height < 4 || inner.width < 20 {
        let why = if raw.is_empty() { "no step has been made" } else { "two steps make a curve" };
        return nothing(frame, inner, view, why);
    }
    let train = smoothed(&raw, choices.smoothing.share());
    let mtp = smoothed(&history.mtp.points(from), choices.smoothing.share());
    let valid = history.valid.points(from);
    let curves = [&train[..], &mtp, &valid];
    let scale = Scale::of(&curves, choices.log_axis, choices.whole_scale, inner.height);
    let placed = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().map(|&(x, y)| (x, scale.place(y))).collect()
    };
    let (raw, train, mtp, valid) = (placed(&raw), placed(&train), placed(&mtp), placed(&valid));
    let set = |points, style, marker, kind| {
        Dataset::default().data(points).style(style).marker(marker).graph_type(kind)
    };
    let (line, dots) = (GraphType::Line, GraphType::Scatter);
    let mut sets = vec![
        set(&raw, palette.faint(), Marker::Braille, dots),
        set(&mtp, palette.mtp(), Marker::Braille, line),
        set(&valid, palette.valid(), Marker::Braille, line),
        set(&train, palette.train(), Marker::Braille, line),
    ];
    if valid.len() <= usize::from(inner.width) / MARKED {
        sets.push(set(&valid, palette.valid(), Marker::Dot, dots));
    }
    let (first, last) = (from.max(train[0].0), train[train.len() - 1].0);
    let middle = f64::midpoint(first, last);
    let steps = [first, middle, last].map(|step| count(step.round() as u64));
    let chart = Chart::new(sets)
        .legend_position(None)
        .x_axis(Axis::default().bounds([first, last]).labels(steps).style(palette.label()))
        .y_axis(
            Axis::default().bounds(scale.bounds()).labels(scale.labels()).style(palette.label()),
        );
    frame.render_widget(chart, inner);
}

/// The last values, each in the colour of its curve, and how they are drawn, as far as there is
/// room.
fn legend(view: &View, width: usize) -> Line<'static> {
    let (history, palette, choices) = (&view.history, view.palette, &view.choices);
    let mut spans = Vec::new();
    let mut say = |glyph: &str, name: &str, value: Option<f64>, style: Style| {
        let Some(value) = value else { return };
        if !spans.is_empty() {
            spans.push(Span::raw("  "));
        }
        spans.push(Span::styled(format!("{glyph} {name} {value:.4}"), style));
    };
    say("⠒", "training", history.loss.last(), palette.train());
    say("•", "validation", history.valid.last(), palette.valid());
    say("⠒", "MTP", history.mtp.last(), palette.mtp());
    let values = Line::from(spans);
    let scale = if choices.log_axis { ", log axis" } else { "" };
    let whole = if choices.whole_scale { ", all values" } else { "" };
    let how = format!("  {}, {}{scale}{whole}", choices.span.name(), choices.smoothing.name());
    if values.width() + how.len() + 14 > width || values.spans.is_empty() {
        return values;
    }
    let mut spans = values.spans;
    spans.push(Span::styled(how, palette.label()));
    Line::from(spans)
}
