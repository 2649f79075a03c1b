//! What the model said last, after the prompt that it is always given.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Wrap};

use super::super::view::{Panel, View};
use super::{framed, nothing};
use crate::digits::grouped;
use crate::record::SampleLine;
use crate::visible::visible;

pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let (history, palette) = (&view.history, view.palette);
    let said = history.sample.as_ref().map_or_else(Line::default, |sample| {
        let drafts = sample.mtp_acceptance.map_or_else(String::new, |share| {
            format!("{:.0}% of the MTP drafts taken, ", 100.0 * share)
        });
        Line::styled(format!("{drafts}step {}", grouped(sample.stamp.step)), palette.label())
    });
    let inner = framed(frame, area, view, Panel::Sample, said);
    let Some(sample) = &history.sample else {
        return nothing(frame, inner, view, "one comes with each evaluation");
    };
    let text = text(sample);
    let width = usize::from(inner.width).max(1);
    let rows: usize = text.lines.iter().map(|line| line.width().div_ceil(width).max(1)).sum();
    let most = rows.saturating_sub(usize::from(inner.height));
    let scroll = if view.choices.focus == Panel::Sample { view.choices.scroll } else { 0 };
    let scroll = u16::try_from(scroll.min(most)).unwrap_or(u16::MAX);
    let paragraph = Paragraph::new(text).wrap(Wrap { trim: false });
    frame.render_widget(paragraph.scroll((scroll, 0)), inner);
}

/// The prompt in bold and what follows it, as a terminal may have them.
fn text(sample: &SampleLine) -> Text<'static> {
    let bold = Modifier::BOLD;
    let shown = |text: &str| visible(text).replace('\t', "    ");
    let (prompt, rest) = match sample.text.strip_prefix(&sample.prompt) {
        Some(rest) => (shown(&sample.prompt), shown(rest)),
        None => (String::new(), shown(&sample.text)),
    };
    let mut lines: Vec<Line<'static>> =
        prompt.split('\n').map(|line| Line::from(Span::raw(line.to_owned()).style(bold))).collect();
    for (index, line) in rest.split('\n').enumerate() {
        let span = Span::raw(line.to_owned());
        match lines.last_mut() {
            Some(last) if index == 0 => last.push_span(span),
            _ => lines.push(Line::from(span)),
        }
    }
    Text::from(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_says_commands_no_terminal() {
        let sample = SampleLine {
            prompt: "one\ntwo".into(),
            text: "one\ntwo three\n\x1b[2J\u{202e}four\tfive".into(),
            ..SampleLine::default()
        };
        let lines: Vec<String> = text(&sample).lines.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["one", "two three", "\\u{1b}[2J\\u{202e}four    five"]);
    }
}
