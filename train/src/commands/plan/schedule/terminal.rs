//! The timeline as text: a line a rank, an action as wide as it is long.

use std::iter::repeat_n;

use super::shortest;
use crate::commands::svg::Axis;
use crate::dualpipe::{Action, Chunk, Simulation, Timed};

/// Columns before the timeline.
const MARGIN: usize = 9;
const IDLE: char = '.';

/// Draws all ranks, the time below them, and what the letters mean.
pub(super) fn draw(simulation: &Simulation, width: usize, colours: bool) -> String {
    let makespan = simulation.makespan();
    if makespan == 0.0 {
        return "nothing takes any time\n".into();
    }
    let scale = scale(simulation, width.saturating_sub(MARGIN));
    let columns = column(makespan, scale);
    let mut text = String::new();
    let mut hidden = 0;
    for (rank, timed) in simulation.ranks.iter().enumerate() {
        text += &format!("{:<MARGIN$}", format!("rank {rank}"));
        let mut drawn = 0;
        for Timed { planned, start, end } in timed {
            let (from, to) = (column(*start, scale), column(*end, scale));
            if from < to {
                text.extend(repeat_n(IDLE, from - drawn));
                text += &cell(&planned.action, to - from, colours);
                drawn = to;
            } else {
                hidden += usize::from(start < end);
            }
        }
        text.extend(repeat_n(IDLE, columns - drawn));
        text.push('\n');
    }
    text += &time_axis(makespan, scale, columns);
    text += &legend(colours);
    if hidden > 0 {
        text += &format!(
            "{hidden} actions are too short to be seen in this --width; --svg and --trace have \
             all\n"
        );
    }
    text
}

/// Columns a unit of time: a whole number of them for the shortest action, where there is room.
fn scale(simulation: &Simulation, columns: usize) -> f64 {
    let widest = columns as f64 / simulation.makespan();
    let shortest = shortest(simulation);
    let whole = (shortest * widest + 1e-9).floor();
    if whole >= 1.0 { whole / shortest } else { widest }
}

fn column(time: f64, scale: f64) -> usize {
    (time * scale).round() as usize
}

/// An action in so many columns: its letter and its chunk where they fit.
fn cell(action: &Action, columns: usize, colours: bool) -> String {
    let letter = |letter: char, chunk: &Chunk| {
        if chunk.direction == 0 { letter } else { letter.to_ascii_lowercase() }
    };
    let (labels, colour): (Vec<String>, u8) = match action {
        Action::Forward(chunk) => (labels(letter('F', chunk), chunk), 214),
        Action::Backward { chunk, defer_weights: true } => (labels(letter('I', chunk), chunk), 79),
        Action::Backward { chunk, .. } => (labels(letter('B', chunk), chunk), 71),
        Action::Weights(chunk) => (labels(letter('W', chunk), chunk), 75),
        Action::Overlapped { forward, backward } => {
            let (f, b) = (letter('F', forward), letter('B', backward));
            (
                vec![
                    format!("{f}{}{b}{}", forward.index, backward.index),
                    format!("{f}{b}"),
                    "&".into(),
                ],
                180,
            )
        }
        Action::Exchange(_) => return String::new(),
    };
    let label = labels.into_iter().find(|label| label.len() <= columns).unwrap_or_default();
    paint(&format!("{label:-<columns$}"), colour, colours)
}

fn labels(letter: char, chunk: &Chunk) -> Vec<String> {
    vec![format!("{letter}{}", chunk.index), letter.to_string()]
}

/// Black on one of a terminal's 256 colours.
fn paint(text: &str, colour: u8, colours: bool) -> String {
    if colours { format!("\x1b[30;48;5;{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

fn time_axis(makespan: f64, scale: f64, columns: usize) -> String {
    let mut line = format!("{:<MARGIN$}", "time");
    for (value, mark) in Axis::new((0.0, makespan), "time", (columns / 12).max(1)).marks {
        let at = MARGIN + column(value, scale);
        if at >= line.len() {
            line = format!("{line:<at$}{mark} ");
        }
    }
    format!("{}\n", line.trim_end())
}

fn legend(colours: bool) -> String {
    let key =
        |label: &str, colour, meaning: &str| format!("{} {meaning}", paint(label, colour, colours));
    let keys = [
        key("F", 214, "forward"),
        key("B", 71, "backward"),
        key("I", 79, "backward, input's gradient only"),
        key("W", 75, "weight gradients"),
        key("FB", 180, "F and B overlapped"),
    ];
    let [f, b, i, w, both] = keys;
    format!(
        "{0:<MARGIN$}{f}, {b}, {i},\n{0:<MARGIN$}{w}, {both}, {IDLE} idle,\n\
         {0:<MARGIN$}small letters: direction 1\n",
        ""
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dualpipe::{Costs, PipelineSchedule, Waiting, simulate};
    use crate::parallel::PipelineScheduleKind;

    fn simulation(kind: PipelineScheduleKind, ranks: usize, chunks: usize) -> Simulation {
        simulate(
            &PipelineSchedule::new(kind, ranks, chunks).unwrap(),
            &Costs::UNIT,
            Waiting::AtExchanges,
        )
        .unwrap()
    }

    #[test]
    fn a_line_a_rank() {
        let text = draw(&simulation(PipelineScheduleKind::DualPipe, 2, 4), 46, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "rank 0   F0-f0-F1-b0----f1B0-----b1----I1-W1-");
        assert_eq!(lines[1], "rank 1   f0-F0-f1-B0----F1b0-----B1----i1-w1-");
        assert!(lines[2].starts_with("time     0") && lines.len() == 6, "{text}");
        let text = draw(&simulation(PipelineScheduleKind::OneFOneB, 2, 2), 40, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "rank 0   F0-F1-......B0----...B1----");
        assert_eq!(lines[1], "rank 1   ...F0-B0----F1-B1----......");
    }

    /// With less than a column for each action some are left out, which is said; no line is too
    /// long.
    #[test]
    fn many_chunks_in_a_narrow_terminal() {
        let text = draw(&simulation(PipelineScheduleKind::DualPipe, 8, 200), 60, false);
        assert!(text.lines().take(8).all(|line| line.len() == 60), "{text}");
        assert!(text.contains("too short to be seen"), "{text}");
    }

    #[test]
    fn colours_are_switched_on_and_off_again() {
        let simulation = simulation(PipelineScheduleKind::Zb1p, 2, 4);
        let plain = draw(&simulation, 80, false);
        let mut coloured = draw(&simulation, 80, true);
        assert!(!plain.contains('\x1b') && coloured.contains("\x1b[30;48;5;214mF0"), "{coloured}");
        while let Some(start) = coloured.find('\x1b') {
            let end = start + coloured[start..].find('m').unwrap();
            coloured.replace_range(start..=end, "");
        }
        assert_eq!(coloured, plain);
    }
}
