//! What the machine has to give: memory, processors, disk.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::numbers::bytes;
use super::super::palette::sparkline;
use super::super::series::Series;
use super::super::view::{Panel, View};
use super::{framed, nothing, scrolled};

/// Columns of a name and of a value.
const NAME: usize = 10;
const VALUE: usize = 21;

pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let (history, palette) = (&view.history, view.palette);
    let inner = framed(frame, area, view, Panel::Machine, Line::default());
    let Some(system) = &history.system else {
        return nothing(frame, inner, view, "looked at every metrics.every steps");
    };
    let width = usize::from(inner.width);
    let row = |name: &str, value: Option<String>, series: Option<&Series>| {
        let mut spans = vec![
            Span::styled(format!("{name:<NAME$}"), palette.label()),
            Span::raw(format!("{:<VALUE$}", value?)),
        ];
        if let Some(series) = series {
            let room = width.saturating_sub(NAME + VALUE).min(40);
            spans.push(Span::styled(sparkline(series.recent(room)), palette.train()));
        }
        Some(Line::from(spans))
    };
    let size = |value: Option<u64>, of: &str| value.map(|value| format!("{} {of}", bytes(value)));
    let cores = system.cpu_cores.map(|cores| format!("{cores:.2} cores busy"));
    let lines = [
        row("memory", size(system.resident_bytes, "taken"), Some(&history.resident)),
        row("", size(system.available_bytes, "left"), None),
        row("device", size(system.device_bytes, "taken"), None),
        row("processor", cores, Some(&history.cpu)),
        row("disk", size(system.disk_free_bytes, "left"), None),
    ];
    scrolled(frame, inner, view, Panel::Machine, lines.into_iter().flatten().collect());
}
