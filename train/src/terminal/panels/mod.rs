//! The panels of the view, a file each, and the frame that all have.

mod alerts;
mod balance;
mod experts;
mod fp8;
mod losses;
mod machine;
mod ranks;
mod sample;
mod step;

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Paragraph};

use super::view::{Panel, View};

/// Draws a panel.
pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View, panel: Panel) {
    match panel {
        Panel::Losses => losses::draw(frame, area, view),
        Panel::Experts => experts::draw(frame, area, view),
        Panel::Balance => balance::draw(frame, area, view),
        Panel::Step => step::draw(frame, area, view),
        Panel::Machine => machine::draw(frame, area, view),
        Panel::Fp8 => fp8::draw(frame, area, view),
        Panel::Ranks => ranks::draw(frame, area, view),
        Panel::Alerts => alerts::draw(frame, area, view),
        Panel::Sample => sample::draw(frame, area, view),
    }
}

/// Draws the frame of a panel with what is said at its right, and gives the room inside.
fn framed(frame: &mut Frame, area: Rect, view: &View, panel: Panel, said: Line<'_>) -> Rect {
    let (chosen, palette) = (view.choices.focus == panel, view.palette);
    let style = if chosen { palette.accent() } else { palette.frame() };
    let mut block = Block::bordered()
        .border_type(palette.border(chosen))
        .border_style(style)
        .title(Line::from(Span::styled(
            format!(" {} ", panel.name()),
            if chosen { palette.accent() } else { palette.label() },
        )));
    // Beside the title, or not at all.
    let room = usize::from(area.width).saturating_sub(panel.name().len() + 6);
    if !said.spans.is_empty() && said.width() + 2 <= room {
        let mut spans = vec![Span::raw(" ")];
        // The style of the line is not that of the frame.
        let style = said.style;
        spans
            .extend(said.spans.into_iter().map(|span| span.clone().style(style.patch(span.style))));
        spans.push(Span::raw(" "));
        block = block.title(Line::from(spans).alignment(Alignment::Right));
    }
    let inner = block.inner(area);
    frame.render_widget(block, area);
    // A column of air at both sides.
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
        .intersection(frame.area())
}

/// Says in the middle of a panel why it has nothing.
fn nothing(frame: &mut Frame, area: Rect, view: &View, why: &str) {
    let y = area.y + area.height / 2;
    let row = Rect { y, height: u16::from(area.height > 0), ..area };
    let said = Line::from(Span::styled(why.to_owned(), view.palette.label())).centered();
    frame.render_widget(Paragraph::new(said), row);
}

/// Lines of which the first ones can be scrolled away, if the panel has the focus.
fn scrolled(frame: &mut Frame, area: Rect, view: &View, panel: Panel, lines: Vec<Line<'_>>) {
    let most = lines.len().saturating_sub(usize::from(area.height));
    let from = if view.choices.focus == panel { view.choices.scroll.min(most) } else { 0 };
    let lines: Vec<Line<'_>> = lines.into_iter().skip(from).collect();
    frame.render_widget(Paragraph::new(Text::from(lines)), area);
}
