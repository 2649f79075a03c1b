//! The last step: its gradients, its settings, and what its seconds went into.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::numbers::{count, seconds, short};
use super::super::palette::{Palette, sparkline};
use super::super::series::Series;
use super::super::view::{Panel, View};
use super::{framed, nothing, scrolled};
use crate::digits::grouped;
use crate::record::{GradNorms, StepLine};

/// A share of the passes that is told though it is neither forward nor backward.
const REST: f64 = 0.02;
/// Columns of a name and of a value.
const NAME: usize = 14;
const VALUE: usize = 11;

pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let (history, palette) = (&view.history, view.palette);
    let said = history.step.as_ref().map_or_else(Line::default, |step| {
        Line::styled(format!("step {}", grouped(step.stamp.step)), palette.label())
    });
    let inner = framed(frame, area, view, Panel::Step, said);
    let Some(step) = &history.step else {
        return nothing(frame, inner, view, "no step has been made");
    };
    let width = usize::from(inner.width);
    let row = |name: &str, value: String, series: &Series, style: Style| {
        let mut spans = vec![
            Span::styled(format!("{name:<NAME$}"), palette.label()),
            Span::raw(format!("{value:<VALUE$}")),
        ];
        let room = width.saturating_sub(NAME + VALUE).min(40);
        spans.push(Span::styled(sparkline(series.recent(room)), style));
        Line::from(spans)
    };
    let mut lines = vec![
        row("seconds", seconds(step.step_seconds), &history.step_seconds, palette.train()),
        parts_bar(step, palette, width),
    ];
    lines.extend(parts_text(step, palette, width));
    lines.push(row("gradient norm", short(step.grad_norm), &history.grad_norm, palette.train()));
    if let Some(norm) = history.param_norm.last() {
        lines.push(row("weights norm", short(norm), &history.param_norm, palette.train()));
    }
    lines.push(row("learning rate", short(step.lr), &history.lr, palette.train()));
    let batch = match step.global_batch {
        0 => "-".into(),
        sequences => format!("{} x {}", count(sequences), step.batch_tokens / sequences),
    };
    lines.push(row("batch", batch, &Series::default(), Style::new()));
    if view.facts.has_experts {
        let balance = short(step.balance_loss);
        lines.push(row("balance loss", balance, &history.balance, palette.train()));
        let settings =
            [("γ", step.bias_update_speed), ("α", step.seq_aux_alpha), ("λ", step.mtp_lambda)];
        let said = settings.map(|(name, value)| format!("{name} {}", plain(value)));
        lines.push(Line::styled(said.join("  "), palette.label()));
    }
    lines.extend(history.grad_norms.iter().flat_map(|norms| norms_text(norms, palette, width)));
    scrolled(frame, inner, view, Panel::Step, lines);
}

/// The norms of the gradients by part of the model.
fn norms_text(norms: &GradNorms, palette: Palette, width: usize) -> Vec<Line<'static>> {
    let parts = [
        ("embedding", norms.grad_norm_embedding),
        ("attention", norms.grad_norm_attention),
        ("router", norms.grad_norm_router),
        ("experts", norms.grad_norm_experts),
        ("MLP", norms.grad_norm_mlp),
        ("norms", norms.grad_norm_norms),
        ("MTP", norms.grad_norm_mtp),
        ("head", norms.grad_norm_head),
    ];
    let told = parts.into_iter().filter_map(|(name, norm)| {
        let value = short(norm?);
        Some([Span::styled(format!("{name} "), palette.label()), Span::raw(format!("{value}  "))])
    });
    let mut lines = vec![Line::styled("gradient norms by part", palette.label())];
    lines.extend(filled(told, width));
    if lines.len() > 1 { lines } else { Vec::new() }
}

/// Pairs of a name and a value in as few lines as they fit into.
fn filled<const N: usize>(
    told: impl Iterator<Item = [Span<'static>; N]>,
    width: usize,
) -> Vec<Line<'static>> {
    let (mut lines, mut used) = (vec![Line::default()], 0);
    for spans in told {
        let columns: usize = spans.iter().map(Span::width).sum();
        if used > 0 && used + columns > width + 2 {
            lines.push(Line::default());
            used = 0;
        }
        used += columns;
        if let Some(line) = lines.last_mut() {
            line.spans.extend(spans);
        }
    }
    lines.retain(|line| !line.spans.is_empty());
    lines
}

/// A share in few columns.
fn rounded(share: f64) -> String {
    match 100.0 * share {
        value if value < 0.95 => format!("{value:.1}%"),
        value => format!("{value:.0}%"),
    }
}

/// A setting as it was written, about.
fn plain(value: f64) -> String {
    if value == 0.0 || (1e-4..1e4).contains(&value.abs()) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

/// What the seconds went into, saving too.
fn parts(step: &StepLine) -> Vec<(&'static str, f64)> {
    // What of the passes is neither, as where ranks wait for each other.
    let rest = step.compute_seconds - step.forward_seconds - step.backward_seconds;
    let rest = if rest > REST * step.compute_seconds { rest } else { 0.0 };
    let mut parts = vec![
        ("data", step.data_seconds),
        ("forward", step.forward_seconds),
        ("backward", step.backward_seconds),
        ("rest", rest),
        ("update", step.update_seconds),
        ("average", step.average_seconds),
        ("saving", step.saving_seconds),
    ];
    parts.retain(|(_, seconds)| *seconds > 0.0);
    parts
}

fn parts_bar(step: &StepLine, palette: Palette, width: usize) -> Line<'static> {
    let parts = parts(step);
    let all: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    let (mut before, mut drawn) = (0.0, 0);
    let mut spans = Vec::new();
    for (index, (_, seconds)) in parts.iter().enumerate() {
        before += seconds;
        let to = (before / all * width as f64).round() as usize;
        let (style, glyph) = palette.part(index);
        spans.push(Span::styled(glyph.repeat(to.saturating_sub(drawn)), style));
        drawn = drawn.max(to);
    }
    Line::from(spans)
}

/// The parts by name with their shares, in as many lines as it takes.
fn parts_text(step: &StepLine, palette: Palette, width: usize) -> Vec<Line<'static>> {
    let parts = parts(step);
    let all: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    let told = parts.into_iter().enumerate().map(|(index, (name, seconds))| {
        let (style, glyph) = palette.part(index);
        let said = format!(" {name} {}  ", rounded(seconds / all));
        [Span::styled(glyph, style), Span::styled(said, palette.label())]
    });
    filled(told, width)
}
