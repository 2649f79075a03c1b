//! Colours and glyphs of the view. Whatever a colour says a glyph says too, for whoever sees or has
//! none.

use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::BorderType;

use crate::record::AlertLevel;

/// Eighths of a cell from below.
const EIGHTHS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// What the view is drawn in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    colours: bool,
}

impl Palette {
    /// Colours, unless the environment asks for none.
    pub fn of_environment() -> Self {
        Self::new(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    /// With colours, or with bold and dim alone.
    pub const fn new(colours: bool) -> Self {
        Self { colours }
    }

    const fn of(self, colour: u8, without: Modifier) -> Style {
        if self.colours {
            Style::new().fg(Color::Indexed(colour))
        } else {
            Style::new().add_modifier(without)
        }
    }

    /// The loss of training, and what is live.
    pub const fn train(self) -> Style {
        self.of(75, Modifier::empty())
    }

    /// The values of single steps behind a smoothed curve.
    pub const fn faint(self) -> Style {
        self.of(238, Modifier::DIM)
    }

    /// The loss of validation.
    pub const fn valid(self) -> Style {
        self.of(215, Modifier::BOLD)
    }

    /// The loss of the MTP modules.
    pub const fn mtp(self) -> Style {
        self.of(176, Modifier::DIM)
    }

    /// What is said of a value.
    pub const fn label(self) -> Style {
        self.of(246, Modifier::DIM)
    }

    /// Frames of panels.
    pub const fn frame(self) -> Style {
        self.of(240, Modifier::DIM)
    }

    /// The chosen panel's frame, and keys.
    pub const fn accent(self) -> Style {
        self.of(80, Modifier::BOLD)
    }

    /// The frame's form: the chosen panel is seen without colours too.
    pub const fn border(self, chosen: bool) -> BorderType {
        if chosen && !self.colours { BorderType::Thick } else { BorderType::Rounded }
    }

    /// A tab that is chosen.
    pub const fn chosen(self) -> Style {
        self.accent().add_modifier(Modifier::BOLD).add_modifier(Modifier::REVERSED)
    }

    /// What went well.
    pub const fn good(self) -> Style {
        self.of(114, Modifier::BOLD)
    }

    /// What somebody should look at.
    pub const fn warning(self) -> Style {
        self.of(214, Modifier::BOLD)
    }

    /// What is wrong.
    pub const fn error(self) -> Style {
        self.of(203, Modifier::BOLD).add_modifier(Modifier::BOLD)
    }

    /// What must be seen at once.
    pub const fn banner(self) -> Style {
        self.warning().add_modifier(Modifier::REVERSED)
    }

    /// How bad an alert is.
    pub const fn level(self, level: AlertLevel) -> Style {
        match level {
            AlertLevel::Info => self.of(110, Modifier::empty()),
            AlertLevel::Warning => self.warning(),
            AlertLevel::Error => self.error(),
        }
    }

    /// An expert's load, 1 where all are even: too little is blue, too much orange, none at all and
    /// more than twice are red.
    pub fn load(self, load: f64) -> Style {
        if !self.colours {
            return Style::new();
        }
        let colour = match load {
            0.0 => 203,
            load if load < 0.5 => 68,
            load if load < 0.8 => 110,
            load if load <= 1.25 => 250,
            load if load <= 2.0 => 215,
            _ => 203,
        };
        Style::new().fg(Color::Indexed(colour))
    }

    /// A part of a bar of several, by its place in it.
    pub const fn part(self, index: usize) -> (Style, &'static str) {
        const COLOURS: [u8; 7] = [246, 75, 68, 215, 176, 114, 203];
        const GLYPHS: [&str; 7] = ["█", "▓", "▒", "░", "=", "-", "+"];
        let index = if index < COLOURS.len() { index } else { COLOURS.len() - 1 };
        let glyph = if self.colours { "█" } else { GLYPHS[index] };
        (self.of(COLOURS[index], Modifier::empty()), glyph)
    }
}

/// The glyphs of a column of so many rows, from below, that is filled to a share of it; what is not
/// empty shows.
pub(super) fn column(share: f64, rows: usize) -> Vec<&'static str> {
    let all = 8 * rows;
    let filled = (share.clamp(0.0, 1.0) * all as f64).round() as usize;
    let filled = if share > 0.0 { filled.max(1) } else { 0 };
    (0..rows)
        .map(|row| match filled.saturating_sub(8 * row) {
            0 => " ",
            eighths => EIGHTHS[eighths.min(8) - 1],
        })
        .collect()
}

/// Values as a line of small columns between the least and the largest of them.
pub(super) fn sparkline(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<f64> = values.collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let range = values.iter().copied().fold(f64::NEG_INFINITY, f64::max) - least;
    let level = |value: f64| match range > 0.0 {
        true => (7.0 * (value - least) / range).round() as usize,
        false => 3,
    };
    values.iter().map(|&value| EIGHTHS[level(value).min(7)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fill_from_below() {
        assert_eq!(column(0.0, 2), [" ", " "]);
        assert_eq!(column(1e-9, 1), ["▁"]);
        assert_eq!(column(0.5, 1), ["▄"]);
        assert_eq!(column(0.75, 2), ["█", "▄"]);
        assert_eq!(column(7.0, 3), ["█", "█", "█"]);
    }

    #[test]
    fn a_sparkline_spans_its_values() {
        assert_eq!(sparkline([1.0, 2.0, 3.0, 1.5].into_iter()), "▁▅█▃");
        assert_eq!(sparkline([5.0; 3].into_iter()), "▄▄▄");
        assert_eq!(sparkline(std::iter::empty()), "");
    }

    #[test]
    fn without_colours_there_are_none() {
        let palette = Palette::new(false);
        let styles = [palette.train(), palette.valid(), palette.banner(), palette.load(9.0)];
        assert!(styles.iter().all(|style| style.fg.is_none() && style.bg.is_none()));
        assert_ne!(palette.part(0).1, palette.part(1).1);
    }
}
