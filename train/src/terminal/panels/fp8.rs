//! What casts to FP8 did to the values of the last step that was looked at: a row a kind of tensor.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::numbers::percent;
use super::super::view::{Panel, View};
use super::{framed, nothing, scrolled};
use crate::digits::grouped;

/// Columns of a kind's name and of a number.
const NAME: usize = 12;
const NUMBER: usize = 8;
/// A share of saturated codes that is told.
const MUCH: f64 = 0.01;

pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let palette = view.palette;
    let said = view.history.fp8.as_ref().map_or_else(Line::default, |(step, _)| {
        Line::styled(format!("step {}", grouped(step)), palette.label())
    });
    let inner = framed(frame, area, view, Panel::Fp8, said);
    let Some((_, casts)) = &view.history.fp8 else {
        return nothing(frame, inner, view, "measured every metrics.every steps");
    };
    let head = ["clipped", "to zero"].map(|name| format!("{name:<NUMBER$}")).concat();
    let mut lines = vec![Line::styled(format!("{:<NAME$}{head}scales", ""), palette.label())];
    for cast in casts {
        let share = |share: Option<f64>| percent(share.unwrap_or(f64::NAN));
        let much = cast.saturated.is_some_and(|share| share > MUCH);
        let style = if much { palette.warning() } else { palette.train() };
        let scales = match (cast.scale_min, cast.scale_max) {
            (Some(min), Some(max)) => format!("{min:.0e}..{max:.0e}"),
            _ => "-".into(),
        };
        lines.push(Line::from(vec![
            Span::styled(format!("{:<NAME$}", cast.name), palette.label()),
            Span::styled(format!("{:<NUMBER$}", share(cast.saturated)), style),
            Span::raw(format!("{:<NUMBER$}", share(cast.underflowed))),
            Span::raw(scales),
        ]));
    }
    scrolled(frame, inner, view, Panel::Fp8, lines);
}
