//! A chart of a report: a title, a legend, and one panel.

use super::series::Series;
use crate::commands::svg::{Anchor, Axis, Panel, Stroke, Svg};

/// Pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 612.0;
const TOP: f64 = 66.0;
const BOTTOM: f64 = 278.0;
/// Width of a letter of the legend, about.
const LETTER: f64 = 6.7;
/// Width of a stroke of the legend, and height of its lines.
const KEY: f64 = 20.0;
const LINE: f64 = 18.0;
/// What a note of the legend is written in.
const MUTED: &str = "fill=\"#555555\"";
/// Longest text of the legend, in letters.
const LONGEST: usize = 36;

/// Colours that colour-blind readers can tell apart (Okabe and Ito).
pub(super) const COLORS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
/// The first of them, for what lies behind a curve of that colour.
pub(super) const PALE: &str = "#a9cfe6";

/// The n-th colour, dashed once they are used up.
pub(super) fn stroke(index: usize) -> Stroke {
    let dash = ["", "6 4", "2 3"][(index / COLORS.len()).min(2)];
    Stroke { color: COLORS[index % COLORS.len()], width: 1.8, dash }
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    Line(Stroke),
    /// A line with a dot at each point.
    Dotted(Stroke),
}

/// A curve, with its text in the legend; one without a text has none.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub name: Option<String>,
    pub look: Look,
    pub series: Series,
}

impl Curve {
    pub fn line(name: impl Into<String>, stroke: Stroke, series: Series) -> Self {
        Self { name: Some(name.into()), look: Look::Line(stroke), series }
    }
}

/// What is drawn in a panel.
pub(super) enum Drawn {
    Curves(Vec<Curve>),
    /// Areas upon one another, the lowest first: name and colour, and their heights at each place.
    Stack {
        names: Vec<(&'static str, &'static str)>,
        at: Vec<(f64, Vec<f64>)>,
    },
}

/// What a chart shows.
pub(super) struct Chart {
    /// What its file is called, without `.svg`.
    pub name: &'static str,
    pub title: String,
    /// What the horizontal axis has, and its values at both ends.
    pub across: (&'static str, (f64, f64)),
    /// What the vertical axis has, and its values at both ends.
    pub down: (&'static str, (f64, f64)),
    pub drawn: Drawn,
}

impl Chart {
    /// The SVG file.
    pub fn svg(&self) -> String {
        let legend = Legend::of(self.names());
        let mut svg = Svg::new(WIDTH, HEIGHT + legend.height()).named(self.name);
        heading(&mut svg, &self.title);
        legend.draw(&mut svg);
        let ((across, x), (down, y)) = (self.across, self.down);
        let (x, y) = (Axis::new(x, across, 6), Axis::new(y, down, 5));
        let (top, bottom) = (TOP + legend.height(), BOTTOM + legend.height());
        let panel = Panel::draw(&mut svg, (LEFT, top), (RIGHT, bottom), x, y);
        match &self.drawn {
            Drawn::Curves(curves) => curves.iter().for_each(|curve| curve.draw(&mut svg, &panel)),
            Drawn::Stack { names, at } => {
                let mut base = vec![0.0; at.len()];
                for (index, &(_, color)) in names.iter().enumerate() {
                    let edges = at.iter().zip(&mut base).map(|((x, heights), base)| {
                        let low = *base;
                        *base += heights[index];
                        (*x, low, *base)
                    });
                    panel.area(&mut svg, &edges.collect::<Vec<_>>(), color);
                }
            }
        }
        svg.finish(&self.title)
    }

    /// What the legend says, and with which stroke.
    fn names(&self) -> Vec<(String, Stroke)> {
        match &self.drawn {
            Drawn::Curves(curves) => {
                let named = curves.iter().filter_map(|curve| {
                    let (Look::Line(stroke) | Look::Dotted(stroke)) = curve.look;
                    let width = stroke.width.max(2.4);
                    Some((curve.name.clone()?, Stroke { width, ..stroke }))
                });
                named.collect()
            }
            Drawn::Stack { names, .. } => {
                let thick = |color| Stroke { color, width: 9.0, dash: "" };
                names.iter().map(|&(name, color)| (name.into(), thick(color))).collect()
            }
        }
    }
}

impl Curve {
    fn draw(&self, svg: &mut Svg, panel: &Panel) {
        let points = self.series.thinned();
        match self.look {
            Look::Line(stroke) if points.len() > 1 => {
                panel.curve(svg, points.into_iter(), stroke);
            }
            Look::Line(stroke) => panel.dots(svg, points.into_iter(), stroke.color),
            Look::Dotted(stroke) => {
                panel.curve(svg, points.iter().copied(), stroke);
                // Many dots are a line.
                if points.len() <= 40 {
                    panel.dots(svg, points.into_iter(), stroke.color);
                }
            }
        }
    }
}

/// The title of a chart.
pub(super) fn heading(svg: &mut Svg, title: &str) {
    svg.text((LEFT, 24.0), Anchor::Start, "font-size=\"15\" font-weight=\"bold\"", title);
}

/// Names beside one another below the title, in as many lines as they need.
struct Legend {
    names: Vec<(String, Stroke, (f64, f64))>,
    lines: usize,
}

impl Legend {
    fn of(names: Vec<(String, Stroke)>) -> Self {
        let (mut at, mut lines) = (LEFT, 1);
        let place = |(mut name, stroke): (String, Stroke)| {
            if name.chars().count() > LONGEST {
                name = name.chars().take(LONGEST - 1).chain(['\u{2026}']).collect();
            }
            let width = KEY + 6.0 + LETTER * name.chars().count() as f64;
            if at > LEFT && at + width > RIGHT {
                (at, lines) = (LEFT, lines + 1);
            }
            let place = (at, 45.0 + LINE * (lines - 1) as f64);
            at += width + 16.0;
            (name, stroke, place)
        };
        let names = names.into_iter().map(place).collect();
        Self { names, lines }
    }

    /// Pixels of the lines after the first.
    fn height(&self) -> f64 {
        LINE * (self.lines - 1) as f64
    }

    fn draw(&self, svg: &mut Svg) {
        for (name, stroke, (x, y)) in &self.names {
            svg.line((*x, *y), (x + KEY, *y), *stroke);
            svg.text((x + KEY + 6.0, y + 4.5), Anchor::Start, MUTED, name);
        }
    }
}
