//! The ranks of a run over several: busy, waiting, and what they send.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::history::Rank;
use super::super::numbers::{bytes, seconds};
use super::super::view::{Panel, View};
use super::{framed, nothing, scrolled};
use crate::record::StepLine;

/// Columns of a rank's name.
const NAME: usize = 8;
/// Columns of a rank's bar at least.
const BAR: usize = 10;

pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let (ranks, palette) = (&view.history.ranks, view.palette);
    let exchanged = view.history.step.as_ref().and_then(exchanged);
    let said = exchanged.map_or_else(Line::default, |text| Line::styled(text, palette.label()));
    let inner = framed(frame, area, view, Panel::Ranks, said);
    if ranks.is_empty() {
        return nothing(frame, inner, view, "measured every metrics.every steps");
    }
    let all = |rank: &Rank| rank.busy_seconds + rank.waiting_seconds;
    let busy = |rank: &Rank| format!(" {:>3.0}% busy", 100.0 * rank.busy_seconds / all(rank));
    let longest = ranks.iter().map(all).fold(f64::MIN_POSITIVE, f64::max);
    let width = usize::from(inner.width).saturating_sub(NAME);
    // As much as there is room for beside the bars.
    let told: Vec<[String; 3]> = ranks
        .iter()
        .map(|rank| {
            let sent = format!("  sent {:<9}", bytes(rank.sent_bytes));
            [busy(rank), sent, format!(" of {:<7}", seconds(all(rank)))]
        })
        .collect();
    let mut parts = 3;
    let columns = |parts: usize| -> usize {
        let lengths = told.iter().map(|told| told[..parts].concat().chars().count());
        lengths.max().unwrap_or(0)
    };
    while parts > 1 && columns(parts) + BAR > width {
        parts -= 1;
    }
    let room = width.saturating_sub(columns(parts)).max(1);
    let lines = ranks.iter().zip(&told).enumerate().map(|(index, (rank, told))| {
        let columns = |seconds: f64| (seconds / longest * room as f64).round() as usize;
        let busy = columns(rank.busy_seconds).min(room);
        let waiting = columns(rank.waiting_seconds).min(room - busy);
        Line::from(vec![
            Span::styled(format!("{:<NAME$}", format!("rank {index}")), palette.label()),
            Span::styled("█".repeat(busy), palette.train()),
            Span::styled("░".repeat(waiting), palette.label()),
            Span::raw(" ".repeat(room - busy - waiting)),
            Span::raw(told[..parts].concat()),
        ])
    });
    scrolled(frame, inner, view, Panel::Ranks, lines.collect());
}

/// What went between the ranks of a node, and between nodes.
fn exchanged(step: &StepLine) -> Option<String> {
    let (fast, slow) = (step.exchange_fast_bytes?, step.exchange_slow_bytes?);
    Some(format!("experts' rows: {} in nodes, {} between", bytes(fast), bytes(slow)))
}
