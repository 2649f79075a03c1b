//! Text and tables that fit the terminal, or 80 columns where there is none.

use std::fmt::Write;

/// Columns where there is no terminal.
const COLUMNS: usize = 80;
/// Columns that are always taken for granted.
const LEAST: usize = 40;
/// No label of a line is longer: what follows later on it is no text of its own.
const LONGEST_LABEL: usize = 24;
/// Columns between two columns of a table.
const GAP: usize = 2;

/// Columns of the terminal behind standard output; 80 where that is none.
pub fn width() -> usize {
    terminal().unwrap_or(COLUMNS)
}

/// Lines of text, folded where there is a terminal; elsewhere a line stays whole, for whoever looks
/// for it.
pub fn fold_on_terminal(text: String) -> String {
    match terminal() {
        Some(width) => fold(&text, width),
        None => text,
    }
}

fn terminal() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout())
        .map(|(columns, _)| usize::from(columns.0).max(LEAST))
}

/// `text` with its lines folded between words. What is left of a line begins under its text, where
/// it has a label (`speed       ...`), and is indented otherwise; what is left of a comment is one.
pub fn fold(text: &str, width: usize) -> String {
    let mut folded = String::new();
    for line in text.split_inclusive('\n') {
        let bare = line.strip_suffix('\n').unwrap_or(line);
        if bare.chars().count() <= width {
            folded += line;
            continue;
        }
        let start = text_start(bare);
        let (label, rest) = bare.split_at(start);
        folded += &hang(label, rest, width);
        if line.len() > bare.len() {
            folded.push('\n');
        }
    }
    folded
}

/// `text` after `label`, folded between words with each line beginning where the first one did; a
/// label that comments its line out does so with all of them. A word that is too long stays whole.
pub fn hang(label: &str, text: &str, width: usize) -> String {
    let columns = label.chars().count();
    let again = if label.starts_with('#') {
        format!("#{}", " ".repeat(columns.saturating_sub(1)))
    } else {
        " ".repeat(columns)
    };
    let room = width.saturating_sub(columns).max(1);
    let mut lines = vec![String::new()];
    for (index, word) in text.split(' ').enumerate() {
        let line = lines.last_mut().expect("invariant: there is a line");
        let (used, more) = (line.chars().count(), word.chars().count());
        if index == 0 {
            *line += word;
        } else if used + 1 + more <= room || used == 0 {
            line.push(' ');
            *line += word;
        } else {
            lines.push(word.to_string());
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    format!("{label}{}", lines.join(&format!("\n{again}")))
}

/// Bytes before the text of a line: its label and the spaces after it, or an indentation.
fn text_start(line: &str) -> usize {
    let body = line.trim_start_matches(['#', ' ']);
    let indented = line.len() - body.len();
    let label = body.find("  ").map(|at| {
        let spaces = body[at..].len() - body[at..].trim_start_matches(' ').len();
        indented + at + spaces
    });
    label.filter(|start| line[..*start].chars().count() <= LONGEST_LABEL).unwrap_or(indented)
}

/// A table: the columns that do not fit beside the others go below, after the first one again.
#[derive(Clone, Debug)]
pub struct Columns {
    /// Whether each is aligned to the left.
    left: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// A table with these names over its columns; a name after `<` is over a column that is aligned
    /// to the left.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let (left, names) = names
            .into_iter()
            .map(|name| match name.strip_prefix('<') {
                Some(name) => (true, name.to_string()),
                None => (false, name.to_string()),
            })
            .unzip();
        Self { left, rows: vec![names] }
    }

    /// Adds a row, a cell a column; what is missing at its end is empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.left.len(), String::new());
        self.rows.push(cells);
    }

    /// The table without columns that have nothing under their names.
    pub fn without_empty_columns(mut self) -> Self {
        let filled: Vec<bool> = (0..self.left.len())
            .map(|column| self.rows.iter().skip(1).any(|row| !row[column].is_empty()))
            .collect();
        let mut kept = filled.iter();
        self.left.retain(|_| *kept.next().unwrap_or(&true));
        for row in &mut self.rows {
            let mut kept = filled.iter();
            row.retain(|_| *kept.next().unwrap_or(&true));
        }
        self
    }

    /// The table in so many columns of a terminal.
    pub fn text(&self, width: usize) -> String {
        let count = self.left.len();
        let widths: Vec<usize> = (0..count)
            .map(|column| {
                self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        let mut from = 1;
        loop {
            let mut used = widths.first().copied().unwrap_or(0);
            let mut to = from;
            while to < count && (to == from || used + GAP + widths[to] <= width) {
                used += GAP + widths[to];
                to += 1;
            }
            for row in &self.rows {
                let cells: Vec<String> = std::iter::once(0)
                    .chain(from..to)
                    .filter(|&column| column < count)
                    .map(|column| {
                        let (cell, width) = (&row[column], widths[column]);
                        if self.left[column] {
                            format!("{cell:<width$}")
                        } else {
                            format!("{cell:>width$}")
                        }
                    })
                    .collect();
                let line = cells.join(&" ".repeat(GAP));
                // Writing to a string does not fail.
                let _ = writeln!(text, "{}", line.trim_end());
            }
            from = to;
            if from >= count {
                return text;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_goes_on_under_its_text() {
        let text = "speed       one two three four\nshort  line\n";
        assert_eq!(fold(text, 22), "speed       one two\n            three four\nshort  line\n");
        assert_eq!(fold("one two three", 8), "one two\nthree");
        assert_eq!(fold("  one two three", 10), "  one two\n  three");
        assert_eq!(
            fold("#   name   one two three\n", 19),
            "#   name   one two\n#          three\n"
        );
        assert_eq!(fold("a word-that-is-too-long b", 10), "a\nword-that-is-too-long\nb");
    }

    #[test]
    fn columns_that_do_not_fit_go_below() {
        let mut table = Columns::new(["<rank", "weights", "total", "<"]);
        table.row(["0".into(), "1.25".into(), "20".into(), "does not fit".into()]);
        table.row(["1..7".into(), "3".into(), "4".into()]);
        let wide =
            "rank  weights  total\n0        1.25     20  does not fit\n1..7        3      4\n";
        assert_eq!(table.text(80), wide);
        let narrow = "rank  weights\n0        1.25\n1..7        3\nrank  total\n0        20\n\
                      1..7      4\nrank\n0     does not fit\n1..7\n";
        assert_eq!(table.text(18), narrow);
    }

    #[test]
    fn columns_of_nothing_are_left_out() {
        let mut table = Columns::new(["<run", "left", "<tags"]);
        table.row(["a".into(), String::new(), "good".into()]);
        assert_eq!(table.without_empty_columns().text(80), "run  tags\na    good\n");
    }

    proptest! {
        /// Nothing is lost.
        #[test]
        fn folding_keeps_every_word(text in "[a-z #]{0,90}(\n[a-z ]{0,90})?", width in 8usize..60) {
            let folded = fold(&text, width);
            let words = |text: &str| -> Vec<String> {
                text.split([' ', '\n', '#'])
                    .filter(|word| !word.is_empty())
                    .map(str::to_string)
                    .collect()
            };
            prop_assert_eq!(words(&folded), words(&text));
        }
    }
}
