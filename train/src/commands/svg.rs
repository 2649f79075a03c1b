//! As much of SVG as charts need: panels with axes, curves, areas and dots cut at the panel's frame,
//! boxes, text.

use std::fmt::Write;

use crate::visible::visible;

const FONT: &str = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";
const INK: &str = "#222222";
const GRID: &str = "#e4e4e4";

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands) struct Stroke {
    /// A colour as SVG writes it.
    pub color: &'static str,
    /// Pixels.
    pub width: f64,
    /// Lengths of strokes and gaps in pixels; empty for a solid line.
    pub dash: &'static str,
}

/// A drawing on a white ground.
#[derive(Debug)]
pub(in crate::commands) struct Svg {
    name: String,
    width: f64,
    height: f64,
    panels: usize,
    body: String,
}

impl Svg {
    pub fn new(width: f64, height: f64) -> Self {
        Self { name: String::new(), width, height, panels: 0, body: String::new() }
    }

    /// The drawing with a name that it has alone among those of a page.
    pub fn named(self, name: &str) -> Self {
        Self { name: format!("{name}-"), ..self }
    }

    /// The file.
    pub fn finish(self, title: &str) -> String {
        let Self { width, height, body, .. } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" \
             font-family=\"{FONT}\" font-size=\"13\" fill=\"{INK}\">\n<title>{}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n{body}</svg>\n",
            escape(title)
        )
    }

    /// Text with its baseline at a point.
    pub fn text(&mut self, at: (f64, f64), anchor: Anchor, attributes: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" {attributes}>{}</text>",
            at.0,
            at.1,
            escape(text)
        ));
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        self.path([from, to].into_iter(), stroke, "");
    }

    /// A filled box from its upper left corner.
    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        self.push(format_args!(
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" \
                                height=\"{height:.2}\" fill=\"{fill}\"/>"
        ));
    }

    /// Boxes of one colour, each from its upper left corner with width and height, in whole pixels.
    pub fn boxes(&mut self, boxes: impl Iterator<Item = [i64; 4]>, fill: &str) {
        let boxes: String = boxes
            .map(|[x, y, width, height]| format!("M{x} {y}h{width}v{height}h-{width}z"))
            .collect();
        if !boxes.is_empty() {
            self.push(format_args!("<path fill=\"{fill}\" d=\"{boxes}\"/>"));
        }
    }

    fn path(&mut self, points: impl Iterator<Item = (f64, f64)>, stroke: Stroke, attributes: &str) {
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let Stroke { color, width, dash } = stroke;
        let dash =
            if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        self.push(format_args!(
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\"{dash}{attributes} points=\"{}\"/>",
            points.join(" ")
        ));
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }
}

/// The marks of an axis, and what is written beside it.
#[derive(Debug)]
pub(in crate::commands) struct Axis {
    /// Values at both ends.
    pub range: (f64, f64),
    /// What it shows, with the unit.
    pub label: &'static str,
    /// Value and text of each mark.
    pub marks: Vec<(f64, String)>,
}

impl Axis {
    /// About so many marks at round numbers.
    pub fn new(range: (f64, f64), label: &'static str, about: usize) -> Self {
        let step = round_step((range.1 - range.0) / about as f64);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) =
            ((range.0 / step - 1e-9).ceil() as i64, (range.1 / step + 1e-9).floor() as i64);
        let marks = (first..=last)
            .map(|mark| (mark as f64 * step, format!("{:.decimals$}", mark as f64 * step)))
            .collect();
        Self { range, label, marks }
    }

    /// The marks with a plus before what is above 0.
    pub fn signed(mut self) -> Self {
        for (value, text) in &mut self.marks {
            if *value > 0.0 {
                text.insert(0, '+');
            }
        }
        self
    }
}

/// 1, 2 or 5 times a power of ten, nearest above `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// A frame in a drawing, and what its two axes show.
#[derive(Debug)]
pub(in crate::commands) struct Panel {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Axis,
    y: Axis,
    clip: String,
}

impl Panel {
    /// Draws the grid and the axes of a panel from its upper left to its lower right corner.
    pub fn draw(
        svg: &mut Svg,
        (left, top): (f64, f64),
        (right, bottom): (f64, f64),
        x: Axis,
        y: Axis,
    ) -> Self {
        svg.panels += 1;
        let number = format!("{}panel{}", svg.name, svg.panels);
        let panel =
            Self { left, right, top, bottom, x, y, clip: format!(" clip-path=\"url(#{number})\"") };
        let (width, height) = (right - left, bottom - top);
        svg.push(format_args!(
            "<clipPath id=\"{number}\"><rect x=\"{left}\" y=\"{top}\" width=\"{width}\" \
             height=\"{height}\"/></clipPath>"
        ));
        let grid = Stroke { color: GRID, width: 1.0, dash: "" };
        for (value, text) in &panel.x.marks {
            let at = panel.across(*value);
            svg.line((at, top), (at, bottom), grid);
            svg.text((at, bottom + 18.0), Anchor::Middle, "", text);
        }
        for (value, text) in &panel.y.marks {
            let at = panel.down(*value);
            svg.line((left, at), (right, at), grid);
            svg.text((left - 8.0, at + 4.5), Anchor::End, "", text);
        }
        svg.text(((left + right) / 2.0, bottom + 38.0), Anchor::Middle, "", panel.x.label);
        let (x, y) = (left - 52.0, (top + bottom) / 2.0);
        svg.text(
            (x, y),
            Anchor::Middle,
            &format!("transform=\"rotate(-90 {x:.1} {y:.1})\""),
            panel.y.label,
        );
        svg.push(format_args!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" \
             stroke=\"{INK}\" stroke-width=\"1\"/>"
        ));
        panel
    }

    /// A curve through points given as values of the two axes; what lies outside of the frame is
    /// cut off.
    pub fn curve(&self, svg: &mut Svg, points: impl Iterator<Item = (f64, f64)>, stroke: Stroke) {
        svg.path(self.placed(points), stroke, &self.clip);
    }

    /// Dots at points given as values of the two axes.
    pub fn dots(&self, svg: &mut Svg, points: impl Iterator<Item = (f64, f64)>, fill: &str) {
        for (x, y) in self.placed(points) {
            svg.push(format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.8\" fill=\"{fill}\"{}/>",
                self.clip
            ));
        }
    }

    /// What lies between two curves, given as a value of the horizontal axis and two of the vertical
    /// one.
    pub fn area(&self, svg: &mut Svg, edges: &[(f64, f64, f64)], fill: &str) {
        let upper = edges.iter().map(|&(x, _, high)| (x, high));
        let lower = edges.iter().rev().map(|&(x, low, _)| (x, low));
        let points: Vec<String> =
            self.placed(upper.chain(lower)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        svg.push(format_args!(
            "<polygon fill=\"{fill}\" fill-opacity=\"0.85\"{} points=\"{}\"/>",
            self.clip,
            points.join(" ")
        ));
    }

    /// Where points are, those that have a place.
    fn placed(&self, points: impl Iterator<Item = (f64, f64)>) -> impl Iterator<Item = (f64, f64)> {
        // A far outlier is drawn as one just outside: coordinates stay small.
        let (low, high) = self.y.range;
        let limit = move |y: f64| y.clamp(low - 2.0 * (high - low), high + 2.0 * (high - low));
        let points = points.filter(|(x, y)| x.is_finite() && y.is_finite());
        points.map(move |(x, y)| (self.across(x), self.down(limit(y))))
    }

    /// A band between two values of the vertical axis.
    pub fn band(&self, svg: &mut Svg, (low, high): (f64, f64), color: &str, opacity: f64) {
        let (top, bottom) = (self.down(high), self.down(low));
        svg.push(format_args!(
            "<rect x=\"{}\" y=\"{top:.1}\" width=\"{}\" height=\"{:.1}\" fill=\"{color}\" \
             fill-opacity=\"{opacity}\"{}/>",
            self.left,
            self.right - self.left,
            bottom - top,
            self.clip
        ));
    }

    fn across(&self, value: f64) -> f64 {
        self.left
            + (value - self.x.range.0) / (self.x.range.1 - self.x.range.0)
                * (self.right - self.left)
    }

    /// Where a value of the vertical axis is.
    pub fn down(&self, value: f64) -> f64 {
        self.bottom
            - (value - self.y.range.0) / (self.y.range.1 - self.y.range.0)
                * (self.bottom - self.top)
    }
}

fn escape(text: &str) -> String {
    visible(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_numbers_inside_the_range() {
        let texts = |axis: Axis| axis.marks.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(Axis::new((0.0, 2.0), "", 5)), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
        assert_eq!(texts(Axis::new((-0.5, 0.5), "", 4).signed()), ["-0.5", "0.0", "+0.5"]);
        assert_eq!(texts(Axis::new((1.37, 61.0), "", 6)), ["10", "20", "30", "40", "50", "60"]);
        assert_eq!(texts(Axis::new((0.0, 384.0), "", 4)), ["0", "100", "200", "300"]);
    }

    #[test]
    fn curves_are_mapped_and_cut() {
        let mut svg = Svg::new(100.0, 100.0);
        let axes = || (Axis::new((0.0, 10.0), "x", 2), Axis::new((0.0, 1.0), "y <&>", 2));
        let (x, y) = axes();
        let panel = Panel::draw(&mut svg, (10.0, 10.0), (90.0, 90.0), x, y);
        let stroke = Stroke { color: "red", width: 1.0, dash: "2 2" };
        panel.curve(
            &mut svg,
            [(0.0, 0.0), (5.0, f64::NAN), (10.0, 1.0), (10.0, 1e30)].into_iter(),
            stroke,
        );
        let text = svg.finish("a & b\u{1b}");
        assert!(text.contains("points=\"10.0,90.0 90.0,10.0 90.0,-150.0\""), "{text}");
        assert!(
            text.contains("y &lt;&amp;&gt;") && text.contains("<title>a &amp; b\\u{1b}</title>"),
            "{text}"
        );
        assert!(
            text.contains("clip-path=\"url(#panel1)\" points")
                && text.contains("stroke-dasharray=\"2 2\""),
            "{text}"
        );
    }
}
