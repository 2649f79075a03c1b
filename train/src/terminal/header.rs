//! The head of the view: which run, how far, how fast, how good.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Paragraph};

use super::numbers::{count, short};
use super::palette::sparkline;
use super::view::{Role, View};
use crate::digits::grouped;
use crate::metrics::duration;
use crate::record::RunState;

/// Its rows.
pub(super) const ROWS: u16 = 4;
/// A record without a new line for so many seconds is told.
const OLD_SECONDS: u64 = 10;

pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let row = |index: u16| Rect { y: area.y + index, height: 1, ..area };
    name(frame, row(0), view);
    progress(frame, row(1), view);
    frame.render_widget(Paragraph::new(Line::from(pace(view, usize::from(area.width)))), row(2));
    frame.render_widget(Paragraph::new(Line::from(losses(view, usize::from(area.width)))), row(3));
}

/// The run's name and state, and what it runs on.
fn name(frame: &mut Frame, area: Rect, view: &View) {
    let palette = view.palette;
    let (state, style) = state(view);
    let left = Line::from(vec![
        Span::styled(format!(" {}", view.facts.name), palette.accent()),
        Span::styled("  ● ", style),
        Span::styled(state, style),
    ]);
    let mut told: Vec<&str> = vec![&view.facts.model];
    told.extend(view.facts.device.as_deref());
    let right = Line::styled(format!("{} ", told.join(", ")), palette.label()).right_aligned();
    if left.width() + 2 + right.width() <= usize::from(area.width) {
        frame.render_widget(Paragraph::new(right), area);
    }
    frame.render_widget(Paragraph::new(left), Rect { width: area.width, ..area });
}

/// What the run is doing.
fn state(view: &View) -> (String, Style) {
    let (live, palette) = (&view.live, view.palette);
    let old = live.age_seconds.filter(|&seconds| seconds >= OLD_SECONDS);
    let since = old.map_or_else(String::new, |seconds| {
        format!(", last line {} ago", duration(seconds as f64))
    });
    if let Some(state) = live.state {
        let style = match state {
            RunState::Training => palette.good(),
            RunState::Finished => palette.train(),
            RunState::Diverged => palette.error(),
            RunState::Stopped => palette.warning(),
        };
        let since = if state == RunState::Training { since } else { String::new() };
        return (format!("{}{since}", state.name()), style);
    }
    if view.role == Role::Watching {
        return ("reading".into(), palette.label());
    }
    match live.evaluating {
        _ if live.stopping => ("stopping".into(), palette.warning()),
        Some((done, all)) => (format!("evaluating, batch {done} of {all}"), palette.valid()),
        None if !live.guarded => ("starting".into(), palette.label()),
        None => (format!("training{since}"), palette.good()),
    }
}

fn progress(frame: &mut Frame, area: Rect, view: &View) {
    let (facts, palette) = (&view.facts, view.palette);
    let made = view.history.steps();
    let share = (made as f64 / facts.steps.max(1) as f64).min(1.0);
    let left = match view.history.seconds_left(facts.steps, facts.eval_every) {
        _ if made >= facts.steps => String::new(),
        _ if view.live.state.is_some_and(|state| state != RunState::Training) => String::new(),
        Some(seconds) => format!("  {} left ", duration(seconds)),
        None => String::new(),
    };
    let said = format!(
        "step {} of {}  {:>4.1}%{left}",
        grouped(made),
        grouped(facts.steps),
        100.0 * share
    );
    let width = u16::try_from(said.chars().count()).unwrap_or(u16::MAX).min(area.width);
    // The gauge has a space before it.
    let bar = Rect { width: area.width.saturating_sub(width + 2), ..area };
    let gauge = LineGauge::default()
        .ratio(share)
        .label("")
        .filled_symbol("━")
        .unfilled_symbol("─")
        .filled_style(palette.train())
        .unfilled_style(palette.frame());
    if bar.width > 4 {
        frame.render_widget(gauge, bar);
    }
    let right = Rect { x: area.right() - width, width, ..area };
    frame.render_widget(Paragraph::new(said), right);
}

/// Names and values, as many as there is room for.
fn row(view: &View, width: usize, told: Vec<(&str, String, Style)>) -> Vec<Span<'static>> {
    let (mut spans, mut used) = (Vec::new(), 0);
    for (name, value, style) in told {
        let columns = 1 + name.chars().count() + 1 + value.chars().count() + 1;
        if used + columns > width {
            break;
        }
        used += columns;
        spans.push(Span::styled(format!(" {name} "), view.palette.label()));
        spans.push(Span::styled(format!("{value} "), style));
    }
    spans
}

/// Tokens, time and speed.
fn pace(view: &View, width: usize) -> Vec<Span<'static>> {
    let (history, palette) = (&view.history, view.palette);
    let stamp = history.step.as_ref().map(|step| &step.stamp);
    let tokens = stamp.map_or(0, |stamp| stamp.tokens);
    let seconds = stamp.map_or(0.0, |stamp| stamp.elapsed_seconds);
    let mut told =
        vec![("tokens", count(tokens), Style::new()), ("trained", duration(seconds), Style::new())];
    if let Some(speed) = history.speed.last() {
        told.push(("tokens/s", count(speed.round() as u64), palette.train()));
    }
    let mut spans = row(view, width, told);
    let used: usize = spans.iter().map(Span::width).sum();
    let line = sparkline(history.speed.recent(width.saturating_sub(used + 1).min(60)));
    spans.push(Span::styled(line, palette.train()));
    spans
}

/// Losses and what drives them.
fn losses(view: &View, width: usize) -> Vec<Span<'static>> {
    let (history, palette) = (&view.history, view.palette);
    let mut told = Vec::new();
    let loss = |value: Option<f64>| value.map(|value| format!("{value:.4}"));
    if let Some(step) = &history.step {
        told.push(("loss", format!("{:.4}", step.loss), palette.train()));
    }
    if let Some(value) = loss(history.valid.last()) {
        told.push(("validation", value, palette.valid()));
    }
    if let Some((step, best)) = history.best {
        told.push(("best", format!("{best:.4} after {}", grouped(step)), palette.valid()));
    }
    if let Some(value) = loss(history.mtp.last()) {
        told.push(("MTP", value, palette.mtp()));
    }
    if let Some(step) = &history.step {
        told.push(("gradient", short(step.grad_norm), Style::new()));
        told.push(("lr", short(step.lr), Style::new()));
    }
    row(view, width, told)
}
