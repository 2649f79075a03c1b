//! What somebody should look at, the newest first.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Wrap};

use super::super::view::{Panel, View};
use super::{framed, nothing};
use crate::digits::grouped;
use crate::record::AlertLevel;
use crate::visible::visible;

pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let (history, palette) = (&view.history, view.palette);
    let [infos, warnings, errors] = history.counts;
    let counted =
        [(errors, AlertLevel::Error), (warnings, AlertLevel::Warning), (infos, AlertLevel::Info)];
    let mut spans = Vec::new();
    for (count, level) in counted.into_iter().filter(|(count, _)| *count > 0) {
        if !spans.is_empty() {
            spans.push(Span::raw("  "));
        }
        spans.push(Span::styled(format!("{count} {}", level.name()), palette.level(level)));
    }
    let inner = framed(frame, area, view, Panel::Alerts, Line::from(spans));
    let notes = &view.live.notes;
    if history.alerts.is_empty() && notes.is_empty() {
        return nothing(frame, inner, view, "none so far");
    }
    let from = if view.choices.focus == Panel::Alerts { view.choices.scroll } else { 0 };
    let from = from.min(history.alerts.len() + notes.len() - 1);
    let shown = |text: &str| Span::raw(visible(text).replace('\n', " "));
    let notes = notes.iter().rev().map(|note| {
        Line::from(vec![Span::styled(format!("{:<8}", "note"), palette.label()), shown(note)])
    });
    let alerts = history.alerts.iter().rev().map(|alert| {
        Line::from(vec![
            Span::styled(format!("{:<8}", alert.level.name()), palette.level(alert.level)),
            Span::styled(format!("step {:<8}", grouped(alert.stamp.step)), palette.label()),
            shown(&alert.message),
        ])
    });
    let lines = notes.chain(alerts).skip(from).take(usize::from(inner.height));
    let lines: Vec<Line<'_>> = lines.collect();
    frame.render_widget(Paragraph::new(Text::from(lines)).wrap(Wrap { trim: false }), inner);
}
