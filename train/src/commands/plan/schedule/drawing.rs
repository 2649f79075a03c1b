//! The timeline as an SVG file: a row a rank, a box an action, and a legend.

use super::{Planned, number, shortest};
use crate::commands::svg::{Anchor, Axis, Stroke, Svg};
use crate::dualpipe::{Action, Chunk, Timed};

const LEFT: f64 = 70.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 76.0;
const ROW: f64 = 30.0;
const BOX: f64 = 26.0;
/// Pixels that the shortest action is given, while the drawing stays in its limits.
const SHORTEST: f64 = 20.0;
const WIDTHS: (f64, f64) = (760.0, 6000.0);
/// Pixels that a digit takes.
const DIGIT: f64 = 6.5;
const GREY: &str = "#555555";
const IDLE: &str = "#f1f1f1";

/// What a box stands for; the pair of colours is for chunks of direction 0 and 1.
struct Key {
    colours: [&'static str; 2],
    meaning: &'static str,
}

const FORWARD: Key = Key { colours: ["#f6c65b", "#d98f1f"], meaning: "F: forward" };
const BACKWARD: Key = Key { colours: ["#8fd19a", "#2f9e58"], meaning: "B: backward" };
const INPUT: Key = Key { colours: ["#8fd6d8", "#2a9aa0"], meaning: "B, input's gradient only" };
const WEIGHTS: Key = Key { colours: ["#9dbdf0", "#4a78c9"], meaning: "W: weight gradients" };

pub(super) fn draw(planned: &Planned) -> String {
    let simulation = &planned.simulation;
    let makespan = simulation.makespan();
    let shortest = shortest(simulation);
    let plot = if makespan > 0.0 {
        (makespan / shortest * SHORTEST).clamp(WIDTHS.0, WIDTHS.1)
    } else {
        WIDTHS.0
    };
    let scale = if makespan > 0.0 { plot / makespan } else { 0.0 };
    let bottom = TOP + ROW * simulation.ranks.len() as f64;
    let mut svg = Svg::new(LEFT + plot + RIGHT, bottom + 96.0);

    svg.text(
        (LEFT, 28.0),
        Anchor::Start,
        "font-size=\"17\" font-weight=\"bold\"",
        &planned.title(),
    );
    let (bubble, formula) = (number(simulation.bubble()), number(planned.formula()));
    let totals = format!(
        "{}; makespan {}, bubble {bubble} (formula {} = {formula})",
        planned.costs_text(),
        number(makespan),
        planned.schedule.kind.bubble_text()
    );
    svg.text((LEFT, 48.0), Anchor::Start, &format!("fill=\"{GREY}\""), &totals);
    for (rank, timed) in simulation.ranks.iter().enumerate() {
        let top = TOP + ROW * rank as f64;
        svg.text((LEFT - 10.0, top + 18.0), Anchor::End, "", &format!("rank {rank}"));
        svg.rect((LEFT, top), (plot, BOX), IDLE);
        for timed in timed {
            action(&mut svg, timed, top, scale);
        }
    }
    if makespan > 0.0 {
        for (value, mark) in Axis::new((0.0, makespan), "time", (plot / 90.0) as usize).marks {
            let x = LEFT + value * scale;
            svg.line((x, bottom), (x, bottom + 5.0), Stroke { color: GREY, width: 1.0, dash: "" });
            svg.text((x, bottom + 19.0), Anchor::Middle, "font-size=\"11\"", &mark);
        }
    }
    legend(&mut svg, bottom + 46.0);
    svg.finish(&planned.title())
}

fn action(svg: &mut Svg, timed: &Timed, top: f64, scale: f64) {
    let (x, width) = (LEFT + timed.start * scale, (timed.end - timed.start) * scale);
    if width <= 0.0 {
        return;
    }
    match &timed.planned.action {
        Action::Forward(chunk) => piece(svg, &FORWARD, chunk, (x, top), (width, BOX)),
        Action::Backward { chunk, defer_weights: true } => {
            piece(svg, &INPUT, chunk, (x, top), (width, BOX))
        }
        Action::Backward { chunk, .. } => piece(svg, &BACKWARD, chunk, (x, top), (width, BOX)),
        Action::Weights(chunk) => piece(svg, &WEIGHTS, chunk, (x, top), (width, BOX)),
        Action::Overlapped { forward, backward } => {
            piece(svg, &FORWARD, forward, (x, top), (width, BOX / 2.0));
            piece(svg, &BACKWARD, backward, (x, top + BOX / 2.0), (width, BOX / 2.0));
        }
        Action::Exchange(_) => {}
    }
}

/// A box, a hairline narrower than it is long, with the chunk's number where it fits.
fn piece(svg: &mut Svg, key: &Key, chunk: &Chunk, (x, y): (f64, f64), (width, height): (f64, f64)) {
    svg.rect((x, y), ((width - 0.8).max(width * 0.6), height - 0.8), key.colours[chunk.direction]);
    let text = chunk.index.to_string();
    if DIGIT * text.len() as f64 + 2.0 <= width {
        let size = if height < BOX { 10 } else { 12 };
        let ink = if chunk.direction == 0 { "#222222" } else { "#ffffff" };
        let attributes = format!("font-size=\"{size}\" fill=\"{ink}\"");
        svg.text(
            (x + width / 2.0, y + height / 2.0 + f64::from(size) * 0.35),
            Anchor::Middle,
            &attributes,
            &text,
        );
    }
}

fn legend(svg: &mut Svg, y: f64) {
    let mut x = LEFT;
    for key in [&FORWARD, &BACKWARD, &INPUT, &WEIGHTS] {
        svg.rect((x, y), (14.0, 14.0), key.colours[0]);
        svg.rect((x + 15.0, y), (14.0, 14.0), key.colours[1]);
        svg.text((x + 35.0, y + 11.5), Anchor::Start, "", key.meaning);
        x += 52.0 + DIGIT * key.meaning.len() as f64;
    }
    let note = "numbers: chunks of a direction; light: direction 0, dark: direction 1; one box \
                above the other: F and B overlapped; grey: idle";
    svg.text((LEFT, y + 36.0), Anchor::Start, &format!("font-size=\"12\" fill=\"{GREY}\""), note);
}
