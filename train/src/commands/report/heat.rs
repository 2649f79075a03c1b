//! A heat map: the loads of the experts of each layer over an even load.

use super::chart::heading;
use crate::commands::svg::{Anchor, Svg};
use crate::record::Experts;

/// Pixels.
const WIDTH: i64 = 640;
const LEFT: i64 = 76;
const RIGHT: i64 = 612;
const TOP: i64 = 66;
/// Height of a layer's row: the most and the least.
const ROWS: (i64, i64) = (34, 8);
/// Pixels that the rows of many layers may have together.
const TALLEST: i64 = 560;
/// Colours that are told apart.
const LEVELS: usize = 32;
/// From dark to bright, so that it reads in grey, too (viridis).
const COLORS: [(u8, u8, u8); 9] = [
    (0x44, 0x01, 0x54),
    (0x47, 0x2d, 0x7b),
    (0x3b, 0x52, 0x8b),
    (0x2c, 0x72, 0x8e),
    (0x21, 0x91, 0x8c),
    (0x28, 0xae, 0x80),
    (0x5e, 0xc9, 0x62),
    (0xad, 0xdc, 0x30),
    (0xfd, 0xe7, 0x25),
];

/// The SVG file; none without loads.
pub(super) fn draw(step: u64, experts: &Experts) -> Option<String> {
    let loads = &experts.expert_loads;
    let count = loads.iter().map(Vec::len).max().filter(|&count| count > 0)? as i64;
    let even: Vec<Vec<f64>> = loads.iter().map(|row| over_even(row)).collect();
    let most = even.iter().flatten().copied().fold(2.0, f64::max);
    let height = (TALLEST / loads.len() as i64).clamp(ROWS.1, ROWS.0);
    let bottom = TOP + height * loads.len() as i64;
    let title = format!("Loads of the experts after step {step}");
    let mut svg = Svg::new(WIDTH as f64, (bottom + 58) as f64).named("loads");
    heading(&mut svg, &title);
    scale(&mut svg, most);

    // Cells of a colour are drawn at once, and cells that touch leave no seam.
    let across = |expert: i64| LEFT + (RIGHT - LEFT) * expert / count;
    let mut cells = vec![Vec::new(); LEVELS];
    for (layer, row) in even.iter().enumerate() {
        let y = TOP + height * layer as i64;
        for (expert, load) in row.iter().enumerate() {
            let (from, to) = (across(expert as i64), across(expert as i64 + 1));
            cells[level(*load, most)].push([from, y, to - from, height - 1]);
        }
    }
    for (level, cells) in cells.into_iter().enumerate() {
        svg.boxes(cells.into_iter(), &color(level));
    }
    let each = (14 + height - 1) / height; // rows that a text is as high as
    for (index, layer) in experts.layers.iter().take(loads.len()).enumerate() {
        if (index as i64) % each == 0 {
            let y = (TOP + height * index as i64) as f64 + height as f64 / 2.0 + 4.5;
            svg.text(((LEFT - 8) as f64, y), Anchor::End, "", &layer.to_string());
        }
    }
    let marks = (count as usize).div_ceil(16).next_power_of_two();
    for expert in (0..count).step_by(marks) {
        let x = (across(expert) + across(expert + 1)) as f64 / 2.0;
        svg.text((x, (bottom + 17) as f64), Anchor::Middle, "", &expert.to_string());
    }
    let middle = (LEFT + RIGHT) as f64 / 2.0;
    svg.text((middle, (bottom + 38) as f64), Anchor::Middle, "", "expert");
    let y = (TOP + bottom) as f64 / 2.0;
    let turned = format!("transform=\"rotate(-90 24 {y:.1})\"");
    svg.text((24.0, y), Anchor::Middle, &turned, "layer");
    Some(svg.finish(&title))
}

/// Loads over the mean load of their layer.
fn over_even(loads: &[u64]) -> Vec<f64> {
    let mean = loads.iter().sum::<u64>() as f64 / loads.len().max(1) as f64;
    loads.iter().map(|&load| if mean > 0.0 { load as f64 / mean } else { 0.0 }).collect()
}

fn level(load: f64, most: f64) -> usize {
    ((load / most * LEVELS as f64) as usize).min(LEVELS - 1)
}

/// What the colours stand for.
fn scale(svg: &mut Svg, most: f64) {
    let (left, width, top) = (LEFT, 192, 38);
    for level in 0..LEVELS as i64 {
        let [from, to] = [level, level + 1].map(|level| left + width * level / LEVELS as i64);
        svg.boxes([[from, top, to - from, 12]].into_iter(), &color(level as usize));
    }
    let text = format!("0 to {most:.1} times an even load");
    let at = ((left + width + 10) as f64, (top + 11) as f64);
    svg.text(at, Anchor::Start, "fill=\"#555555\"", &text);
}

fn color(level: usize) -> String {
    let at = level as f64 / (LEVELS - 1) as f64 * (COLORS.len() - 1) as f64;
    let (from, part) = ((at as usize).min(COLORS.len() - 2), at - at.floor());
    let part = if at as usize > from { 1.0 } else { part };
    let (one, two) = (COLORS[from], COLORS[from + 1]);
    let mixed =
        |one: u8, two: u8| (f64::from(one) + part * (f64::from(two) - f64::from(one))) as u8;
    format!("#{:02x}{:02x}{:02x}", mixed(one.0, two.0), mixed(one.1, two.1), mixed(one.2, two.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_the_colours_of_their_loads() {
        let experts = Experts {
            layers: vec![1, 2],
            expert_loads: vec![vec![0, 4], vec![2, 2]],
            ..Experts::default()
        };
        let drawn = draw(9, &experts).unwrap();
        assert!(drawn.contains("after step 9") && drawn.contains("0 to 2.0 times"));
        let cells = |color: &str| {
            let paths = drawn.lines().filter(|line| line.contains(color));
            paths.map(|line| line.matches('M').count()).sum::<usize>()
        };
        // One of each in the scale.
        assert_eq!(cells("#440154"), 2, "dead");
        assert_eq!(cells("#fde725"), 2, "twice an even load");
        assert_eq!(cells(&color(16)), 3, "even");
        assert_eq!(draw(1, &Experts::default()), None);
    }

    #[test]
    fn a_layer_without_tokens_is_dark() {
        let experts =
            Experts { layers: vec![1], expert_loads: vec![vec![0, 0]], ..Experts::default() };
        assert!(!draw(1, &experts).unwrap().contains("NaN"));
    }
}
