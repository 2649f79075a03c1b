//! The view drawn: which panels stand where in a terminal of a size, and what stands around them.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::header;
use super::panels;
use super::popups;
use super::view::{Panel, Role, View};

/// The smallest terminal that anything can be seen in.
const LEAST: (u16, u16) = (60, 16);
/// From this size on several panels are seen at once, and from that on all of them.
const SEVERAL: (u16, u16) = (110, 32);
const ALL: (u16, u16) = (150, 44);

/// Draws the view.
pub(super) fn draw(frame: &mut Frame, view: &View) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return too_small(frame, area, view);
    }
    let banner = popups::banner(view);
    let rows = banner.as_ref().map_or(0, |text| {
        let (width, room) = (text.chars().count(), usize::from(area.width - 2));
        u16::try_from(width.div_ceil(room).max(1)).unwrap_or(1)
    });
    let is_large = |size: (u16, u16)| area.width >= size.0 && area.height >= size.1;
    let all = is_large(ALL) && !view.choices.enlarged;
    let [head, tabs, body, said, foot] = area.layout(&Layout::vertical([
        Constraint::Length(header::ROWS),
        Constraint::Length(u16::from(!all)),
        Constraint::Fill(1),
        Constraint::Length(rows),
        Constraint::Length(1),
    ]));
    header::draw(frame, head, view);
    if !all {
        draw_tabs(frame, tabs, view);
    }
    match () {
        () if all => draw_all(frame, body, view),
        () if is_large(SEVERAL) && !view.choices.enlarged => draw_several(frame, body, view),
        () => panels::draw(frame, body, view, view.choices.focus),
    }
    if let Some(text) = banner {
        let paragraph = Paragraph::new(text).style(view.palette.banner()).centered();
        frame.render_widget(paragraph.wrap(Wrap { trim: true }), said);
    }
    draw_keys(frame, foot, view);
    if view.choices.asking {
        popups::draw_question(frame, area, view);
    } else if view.choices.help {
        popups::draw_help(frame, area, view);
    }
}

fn too_small(frame: &mut Frame, area: Rect, view: &View) {
    let leave = match view.role {
        Role::Training => "Ctrl-C stops and saves",
        Role::Watching => "q leaves",
    };
    let text = popups::banner(view).unwrap_or_else(|| {
        format!(
            "the terminal is too small: it has {} x {}, the view takes {} x {}; {leave}",
            area.width, area.height, LEAST.0, LEAST.1
        )
    });
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

/// One panel large, another beside it, and below them one that takes turns, alerts and the sample.
fn draw_several(frame: &mut Frame, area: Rect, view: &View) {
    let [above, below] =
        area.layout(&Layout::vertical([Constraint::Percentage(56), Constraint::Fill(1)]));
    let (second, turn) = match (view.facts.has_experts, view.choices.turn) {
        (true, turn) => (Panel::Experts, turn),
        (false, Panel::Step) => (Panel::Step, Panel::Machine),
        (false, turn) => (Panel::Step, turn),
    };
    let sides = Layout::horizontal([Constraint::Percentage(57), Constraint::Fill(1)]);
    let [left, right] = above.layout(&sides);
    panels::draw(frame, left, view, Panel::Losses);
    panels::draw(frame, right, view, second);
    let [left, right] = below.layout(&sides);
    panels::draw(frame, left, view, turn);
    let [top, bottom] =
        right.layout(&Layout::vertical([Constraint::Percentage(40), Constraint::Fill(1)]));
    panels::draw(frame, top, view, Panel::Alerts);
    panels::draw(frame, bottom, view, Panel::Sample);
}

/// All panels that the run has.
fn draw_all(frame: &mut Frame, area: Rect, view: &View) {
    let [above, middle, below] = area.layout(&Layout::vertical([
        Constraint::Fill(5),
        Constraint::Length((area.height / 4).clamp(12, 18)),
        Constraint::Fill(2),
    ]));
    if view.facts.has_experts {
        let [left, right] =
            above.layout(&Layout::horizontal([Constraint::Percentage(58), Constraint::Fill(1)]));
        panels::draw(frame, left, view, Panel::Losses);
        panels::draw(frame, right, view, Panel::Experts);
    } else {
        panels::draw(frame, above, view, Panel::Losses);
    }
    let others = view.panels();
    let has = |panel: &Panel| others.contains(panel);
    let mut columns: Vec<Vec<Panel>> =
        [Panel::Balance, Panel::Step].into_iter().filter(has).map(|panel| vec![panel]).collect();
    let measured: Vec<Panel> = [Panel::Fp8, Panel::Ranks].into_iter().filter(has).collect();
    match measured[..] {
        [] => columns.push(vec![Panel::Machine]),
        [one] => columns.push(vec![Panel::Machine, one]),
        _ => columns.extend([vec![Panel::Machine, Panel::Fp8], vec![Panel::Ranks]]),
    }
    let widths = columns.iter().map(|panels| if panels.len() > 1 { 12 } else { 11 });
    let cells = Layout::horizontal(widths.map(Constraint::Fill)).split(middle);
    for (panels_of, cell) in columns.iter().zip(cells.iter()) {
        let rows = Layout::vertical(panels_of.iter().map(|_| Constraint::Fill(1))).split(*cell);
        for (&panel, &row) in panels_of.iter().zip(rows.iter()) {
            panels::draw(frame, row, view, panel);
        }
    }
    let [left, right] =
        below.layout(&Layout::horizontal([Constraint::Percentage(45), Constraint::Fill(1)]));
    panels::draw(frame, left, view, Panel::Alerts);
    panels::draw(frame, right, view, Panel::Sample);
}

/// The names of the panels, the chosen one among them wherever it stands.
fn draw_tabs(frame: &mut Frame, area: Rect, view: &View) {
    let (panels, palette) = (view.panels(), view.palette);
    let width = |panel: &Panel| panel.name().len() + 2;
    let here = panels.iter().position(|&panel| panel == view.choices.focus).unwrap_or(0);
    let mut first = 0;
    while panels[first..=here].iter().map(width).sum::<usize>() > usize::from(area.width)
        && first < here
    {
        first += 1;
    }
    let spans = panels[first..].iter().map(|&panel| {
        let [_, warnings, errors] = view.history.counts;
        let style = match panel {
            panel if panel == view.choices.focus => palette.chosen(),
            Panel::Alerts if errors > 0 => palette.error(),
            Panel::Alerts if warnings > 0 => palette.warning(),
            _ => palette.label(),
        };
        Span::styled(format!(" {} ", panel.name()), style)
    });
    frame.render_widget(Paragraph::new(Line::from_iter(spans)), area);
}

/// What keys do, and at the right what is wrong with the record.
fn draw_keys(frame: &mut Frame, area: Rect, view: &View) {
    let palette = view.palette;
    let leave = match view.role {
        Role::Training if view.live.stopping => "",
        Role::Training => "stop",
        Role::Watching => "leave",
    };
    let keys = [
        ("q", leave),
        ("Tab", "panel"),
        ("Enter", if view.choices.enlarged { "smaller" } else { "larger" }),
        ("l", "log axis"),
        ("s", "smooth"),
        ("w", "window"),
        ("?", "help"),
    ];
    let mut spans = Vec::new();
    for (key, does) in keys.into_iter().filter(|(_, does)| !does.is_empty()) {
        spans.push(Span::styled(format!(" {key}"), palette.accent()));
        spans.push(Span::styled(format!(" {does} "), palette.label()));
    }
    let line = Line::from(spans);
    let room = usize::from(area.width).saturating_sub(line.width());
    frame.render_widget(Paragraph::new(line), area);
    let line = match (&view.live.problem, view.history.unreadable, &view.facts.browser) {
        (Some(problem), ..) => Line::styled(problem.clone(), palette.warning()),
        _ if !view.live.read => Line::styled("reading the record", palette.label()),
        (None, 1, _) => Line::styled("1 line not read", palette.warning()),
        (None, 2.., _) => {
            let lines = view.history.unreadable;
            Line::styled(format!("{lines} lines not read"), palette.warning())
        }
        (None, 0, Some(address)) => {
            Line::styled(format!("in a browser: {address} "), palette.label())
        }
        (None, 0, None) => return,
    };
    let line = line.right_aligned();
    if line.width() > room && view.live.problem.is_none() {
        return;
    }
    let width = u16::try_from(line.width().min(room)).unwrap_or(0);
    let right = Rect { x: area.right() - width, width, ..area };
    frame.render_widget(Paragraph::new(line), right);
}
