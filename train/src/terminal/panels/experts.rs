//! How many tokens chose each expert: layers as rows, experts as columns that fill with their load.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::super::palette::{Palette, column};
use super::super::view::{Panel, View};
use super::{framed, nothing};
use crate::digits::grouped;

/// Columns of a layer's name.
const LABEL: u16 = 4;
/// Columns of an expert and rows of a layer at most.
const WIDEST: usize = 7;
const HIGHEST: usize = 5;
/// The load of a full column, 1 where all are even.
const FULL: f64 = 2.0;
/// What stands for an expert that no token chose.
const DEAD: &str = "×";

pub(super) fn draw(frame: &mut Frame, area: Rect, view: &View) {
    let palette = view.palette;
    let said = match &view.history.loads {
        Some((step, experts)) => {
            let dead = match experts.dead_experts {
                0 => String::new(),
                dead => format!("{dead} dead, "),
            };
            Line::styled(format!("{dead}step {}", grouped(step)), palette.label())
        }
        None => Line::default(),
    };
    let inner = framed(frame, area, view, Panel::Experts, said);
    let Some((_, experts)) = &view.history.loads else {
        return nothing(frame, inner, view, "loads come every metrics.every steps");
    };
    if inner.height < 2 || inner.width < LABEL + 4 {
        return;
    }
    let map = Map::new(&experts.expert_loads, inner.width - LABEL, inner.height - 1);
    let mut lines = map.lines(&experts.layers, palette);
    lines.truncate(usize::from(inner.height - 1));
    frame.render_widget(Paragraph::new(lines), Rect { height: inner.height - 1, ..inner });
    let bottom = Rect { y: inner.bottom() - 1, height: 1, ..inner };
    frame.render_widget(Paragraph::new(legend(palette, &map, inner.width)), bottom);
}

/// What the glyphs say, and what a cell stands for where it is more than one expert.
fn legend(palette: Palette, map: &Map, width: u16) -> Line<'static> {
    let mut spans = Vec::new();
    for (load, says) in [(0.0, "none"), (0.4, "few"), (1.0, "even"), (2.5, "twice or more")] {
        let glyph = if load == 0.0 { DEAD } else { column(load / FULL, 1)[0] };
        spans.push(Span::styled(glyph, palette.load(load)));
        spans.push(Span::styled(format!(" {says}  "), palette.label()));
    }
    let merged = match (map.experts, map.layers) {
        (1, 1) => String::new(),
        (experts, 1) => format!("a column: the oddest of {experts} experts"),
        (1, layers) => format!("a row: the oddest of {layers} layers"),
        (experts, layers) => format!("a cell: the oddest of {layers} layers x {experts} experts"),
    };
    let line = Line::from(spans);
    if line.width() + merged.len() <= usize::from(width) || merged.is_empty() {
        let mut spans = line.spans;
        spans.push(Span::styled(merged, palette.label()));
        return Line::from(spans);
    }
    Line::styled(merged, palette.label())
}

/// Loads as they fit the room.
#[derive(Debug, PartialEq)]
struct Map {
    /// Of each row and column the load, 1 where all of a layer are even.
    cells: Vec<Vec<f64>>,
    /// Experts and layers of a cell.
    experts: usize,
    layers: usize,
    /// Columns and rows of a cell.
    width: usize,
    height: usize,
}

impl Map {
    fn new(loads: &[Vec<u64>], columns: u16, rows: u16) -> Self {
        let (columns, rows) = (usize::from(columns.max(1)), usize::from(rows.max(1)));
        let count = loads.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let (experts, layers) = (count.div_ceil(columns), loads.len().div_ceil(rows).max(1));
        let shares: Vec<Vec<f64>> = loads
            .iter()
            .map(|layer| {
                let even = layer.iter().sum::<u64>() as f64 / layer.len().max(1) as f64;
                layer.iter().map(|&load| load as f64 / even.max(f64::MIN_POSITIVE)).collect()
            })
            .collect();
        let cells: Vec<Vec<f64>> =
            shares
                .chunks(layers)
                .map(|rows| {
                    (0..count.div_ceil(experts))
                        .map(|cell| {
                            let range = cell * experts..(cell + 1) * experts;
                            oddest(rows.iter().flat_map(|row| {
                                row.iter().skip(range.start).take(experts).copied()
                            }))
                        })
                        .collect()
                })
                .collect();
        let width = (columns / count.div_ceil(experts)).clamp(1, WIDEST);
        let height = (rows / cells.len().max(1)).clamp(1, HIGHEST);
        Self { cells, experts, layers, width, height }
    }

    fn lines(&self, layers: &[usize], palette: Palette) -> Vec<Line<'static>> {
        // Between wide columns and high rows there is air.
        let glyphs = (self.width - usize::from(self.width > 1)).max(1);
        let rows = (self.height - usize::from(self.height > 2)).max(1);
        let mut lines = Vec::new();
        for (index, cells) in self.cells.iter().enumerate() {
            let name =
                layers.get(index * self.layers).map_or_else(String::new, ToString::to_string);
            let columns: Vec<Vec<&str>> = cells
                .iter()
                .map(|&load| {
                    let mut column = column(load / FULL, rows);
                    if load == 0.0 {
                        column[0] = DEAD;
                    }
                    column
                })
                .collect();
            for row in (0..rows).rev() {
                let label = if row == 0 { format!("{name:>3} ") } else { "    ".into() };
                let mut spans = vec![Span::styled(label, palette.label())];
                for (column, &load) in columns.iter().zip(cells) {
                    let mut text = column[row].repeat(glyphs);
                    text += &" ".repeat(self.width - glyphs);
                    spans.push(Span::styled(text, palette.load(load)));
                }
                lines.push(Line::from(spans));
            }
            if rows < self.height {
                lines.push(Line::default());
            }
        }
        lines
    }
}

/// The load that is the farthest from an even one, in either direction.
fn oddest(loads: impl Iterator<Item = f64>) -> f64 {
    let distance = |load: f64| if load == 0.0 { f64::INFINITY } else { load.ln().abs() };
    loads.reduce(|a, b| if distance(b) > distance(a) { b } else { a }).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_shows_its_oddest() {
        let loads = vec![vec![10, 10, 10, 10], vec![30, 10, 0, 0], vec![1, 1, 1, 5]];
        let map = Map::new(&loads, 40, 12);
        assert_eq!((map.experts, map.layers, map.width, map.height), (1, 1, 7, 4));
        assert_eq!(map.cells[1], [3.0, 1.0, 0.0, 0.0]);
        let map = Map::new(&loads, 2, 2);
        assert_eq!((map.experts, map.layers, map.width, map.height), (2, 2, 1, 1));
        assert_eq!(map.cells, [vec![3.0, 0.0], vec![0.5, 2.5]]);
        assert_eq!(Map::new(&[], 0, 0).cells, Vec::<Vec<f64>>::new());
    }

    #[test]
    fn it_reads_without_colours() {
        let map = Map::new(&[vec![0, 1, 2, 5]], 8, 1);
        let text = map.lines(&[3], Palette::new(false))[0].to_string();
        assert_eq!(text, "  3 × ▂ ▄ █ ");
    }
}
