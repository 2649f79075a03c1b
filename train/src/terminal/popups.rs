//! What stands over the panels: the question before a run is stopped, the help, and what is said
//! while a run stops.

use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::view::{Role, View};
use crate::digits::grouped;

/// Keys and what they do.
const KEYS: [(&str, &str); 9] = [
    ("Tab, right", "the next panel; Shift-Tab, left: the one before; 1 to 9: that one"),
    ("Enter", "the chosen panel alone, and all of them again"),
    ("up, down", "scroll the chosen panel; PgUp and PgDn by ten lines"),
    ("l", "losses on a logarithmic axis"),
    ("s", "smooth the training loss: not, lightly, strongly"),
    ("w", "the whole run, its last half, its last tenth"),
    ("a", "all values on the scale, those of the first steps too"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "suspend; `fg` in the shell goes on"),
];

/// What `q` and Ctrl-C do to a run that is trained here, and to one that is watched.
const STOPS: [(&str, &str); 2] = [
    ("q", "stop after this step and save; it asks first"),
    ("Ctrl-C", "the same without asking; once more: end at once, unsaved"),
];
const LEAVES: [(&str, &str); 2] =
    [("q, Esc", "leave; the run goes on"), ("Ctrl-C", "the same, with exit code 130")];

/// What is said while a run stops: nothing where it does not.
pub(super) fn banner(view: &View) -> Option<String> {
    let live = &view.live;
    if view.role == Role::Watching || !live.stopping {
        return None;
    }
    let (after, made) = (live.stops_after?, view.steps());
    let loses = match live.saved_step {
        Some(step) if step >= after => String::new(),
        Some(step) => format!(" and loses what was after step {}", grouped(step)),
        None => " and loses all of it: nothing has been saved".into(),
    };
    let now = if made >= after {
        format!("step {} was the last; the run is being saved.", grouped(made))
    } else {
        format!("stopping after step {}; the run will be saved.", grouped(after))
    };
    Some(format!("{now} Ctrl-C again ends it at once{loses}."))
}

/// Asks whether the run is to be stopped.
pub(super) fn draw_question(frame: &mut Frame, area: Rect, view: &View) {
    let palette = view.palette;
    let (question, what) = if view.live.guarded {
        let step = grouped(view.steps() + 1);
        let said = format!(
            "It stops after step {step} and saves a checkpoint that `deepseek train --resume` goes \
             on from."
        );
        ("Stop this run?", said)
    } else {
        ("End this run?", "No step has been made yet: nothing is lost, and nothing saved.".into())
    };
    let lines = vec![
        Line::from(what),
        Line::default(),
        Line::from(vec![
            Span::styled("y", palette.accent()),
            Span::raw(" yes     "),
            Span::styled("n", palette.accent()),
            Span::raw(" no, go on"),
        ])
        .centered(),
    ];
    let place = middle(area, 58, 7);
    let block = Block::bordered()
        .border_type(palette.border(true))
        .border_style(palette.warning())
        .title(Span::styled(format!(" {question} "), palette.warning()))
        .padding(ratatui::widgets::Padding::horizontal(2));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }).block(block), place);
}

/// Says what the keys do and what there is to see.
pub(super) fn draw_help(frame: &mut Frame, area: Rect, view: &View) {
    let palette = view.palette;
    let ends = if view.role == Role::Training { STOPS } else { LEAVES };
    let keys = KEYS.into_iter().chain(ends);
    let mut lines: Vec<Line<'_>> = keys
        .map(|(key, does)| {
            Line::from(vec![Span::styled(format!("{key:<12}"), palette.accent()), Span::raw(does)])
        })
        .collect();
    lines.push(Line::default());
    if let Some(address) = &view.facts.browser {
        lines.push(Line::raw(format!("in a browser: {address}")).centered());
    }
    lines.push(Line::styled("any key closes this", palette.label()).centered());
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let place = middle(area, 78, height);
    let block = Block::bordered()
        .border_type(palette.border(true))
        .border_style(palette.accent())
        .title(Span::styled(" Keys ", palette.accent()))
        .padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

/// A place in the middle, as large as that where there is room.
fn middle(area: Rect, width: u16, height: u16) -> Rect {
    let [column] = area.layout(&Layout::horizontal([Constraint::Max(width)]).flex(Flex::Center));
    let [place] = column.layout(&Layout::vertical([Constraint::Max(height)]).flex(Flex::Center));
    place
}
