//! The plot of a comparison: smoothed losses over tokens, and below them the relative errors with
//! the report's band.

use super::curves::{relative_errors_percent, smoothed};
use super::report::{BAR_PERCENT, Comparison};
use super::tables::signed;
use crate::commands::svg::{Anchor, Axis, Panel, Stroke, Svg};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 720.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 716.0;
/// A curve has no more points than can be seen.
const POINTS: usize = 600;
/// Colours of the baseline, then of the others, that colour-blind readers can tell apart (Okabe and
/// Ito), then again in dashes.
const BASELINE: Stroke = Stroke { color: "#000000", width: 2.2, dash: "" };
const COLORS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// The SVG file; nothing can be drawn before the baseline has made two steps.
pub(super) fn draw(comparison: &Comparison) -> Option<String> {
    let baseline = comparison.runs.first()?;
    if baseline.losses.len() < 2 {
        return None;
    }
    let tokens = comparison.steps as f64 * comparison.tokens_per_step as f64;
    let (unit, x_label) = match tokens {
        1e6.. => (1e6, "training tokens (millions)"),
        1e4.. => (1e3, "training tokens (thousands)"),
        _ => (1.0, "training tokens"),
    };
    let x_axis = || Axis::new((0.0, tokens / unit), x_label, 8);
    let at = |step: usize| (step + 1) as f64 * comparison.tokens_per_step as f64 / unit;
    let curves: Vec<Curves> = comparison
        .runs
        .iter()
        .map(|run| Curves {
            losses: smoothed(&run.losses),
            errors: relative_errors_percent(&run.losses, &baseline.losses),
        })
        .collect();

    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.text(
        (LEFT, 30.0),
        Anchor::Start,
        "font-size=\"17\" font-weight=\"bold\"",
        &format!("Loss by precision: {}", comparison.name),
    );
    svg.text(
        (LEFT, 49.0),
        Anchor::Start,
        "fill=\"#555555\"",
        "training loss, smoothed with an exponential moving average (0.9)",
    );

    let losses = Axis::new(loss_range(&curves), "loss (nats a token)", 5);
    let upper = Panel::draw(&mut svg, (LEFT, 62.0), (RIGHT, 356.0), x_axis(), losses);
    let errors = Axis::new(error_range(&curves), "relative error (%)", 6).signed();
    let lower = Panel::draw(&mut svg, (LEFT, 424.0), (RIGHT, 670.0), x_axis(), errors);
    lower.band(&mut svg, (-BAR_PERCENT, BAR_PERCENT), COLORS[0], 0.1);
    let note = format!("\u{b1}{BAR_PERCENT}%: the report's bar");
    svg.text(
        (RIGHT + 14.0, lower.down(0.0) + 4.5),
        Anchor::Start,
        &format!("fill=\"{}\"", COLORS[0]),
        &note,
    );

    // The baseline is drawn last, over the others, in the upper panel; in the lower one it is a
    // thin line at 0.
    for (index, curve) in curves.iter().enumerate().rev() {
        let points = curve.losses.iter().enumerate().map(|(step, &loss)| (at(step), loss));
        upper.curve(&mut svg, thinned(points, curve.losses.len()), stroke(index));
        let points = curve.errors.iter().enumerate().map(|(step, &error)| (at(step), error));
        let stroke = if index == 0 { Stroke { width: 1.0, ..BASELINE } } else { stroke(index) };
        lower.curve(&mut svg, thinned(points, curve.errors.len()), stroke);
    }
    legend(&mut svg, comparison);
    Some(svg.finish(&format!("Losses and relative errors of {} by precision", comparison.name)))
}

struct Curves {
    losses: Vec<f64>,
    errors: Vec<f64>,
}

fn legend(svg: &mut Svg, comparison: &Comparison) {
    let mut y = 76.0;
    for (index, run) in comparison.runs.iter().enumerate() {
        svg.line((RIGHT + 14.0, y), (RIGHT + 44.0, y), Stroke { width: 2.6, ..stroke(index) });
        svg.text((RIGHT + 52.0, y + 4.5), Anchor::Start, "", &run.name);
        let note = match (index, run.errors) {
            (0, _) => "the baseline".to_string(),
            (_, Some(errors)) => format!("{}% at the end", signed(errors.end_percent, 2)),
            (_, None) => run.ended.name().to_string(),
        };
        svg.text(
            (RIGHT + 52.0, y + 19.0),
            Anchor::Start,
            "font-size=\"11\" fill=\"#555555\"",
            &note,
        );
        y += 40.0;
    }
}

fn stroke(index: usize) -> Stroke {
    match index.checked_sub(1) {
        None => BASELINE,
        Some(other) => {
            let dash = if other < COLORS.len() { "" } else { "7 4" };
            Stroke { color: COLORS[other % COLORS.len()], width: 1.6, dash }
        }
    }
}

/// From the lowest loss to where the baseline is after a fiftieth of its steps: the first ones
/// would leave no room for the rest.
fn loss_range(curves: &[Curves]) -> (f64, f64) {
    let baseline = &curves[0].losses;
    let high = baseline[baseline.len() / 50];
    let all =
        curves.iter().flat_map(|curve| &curve.losses).copied().filter(|loss| loss.is_finite());
    let low = all.fold(high, f64::min);
    let margin = 0.04 * (high - low).max(1e-3);
    (low - margin, high + margin)
}

/// Even about 0, at least twice the bar; of the last four fifths of each run all but the farthest
/// hundredth is inside.
fn error_range(curves: &[Curves]) -> (f64, f64) {
    let late = curves.iter().flat_map(|curve| &curve.errors[curve.errors.len() / 5..]);
    let mut sizes: Vec<f64> =
        late.map(|error| error.abs()).filter(|error| error.is_finite()).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let most = sizes
        .get((sizes.len() * 99 / 100).min(sizes.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0);
    let limit = (1.25 * most).clamp(2.0 * BAR_PERCENT, 20.0);
    (-limit, limit)
}

/// Every n-th of so many points, and the last.
fn thinned(
    points: impl Iterator<Item = (f64, f64)>,
    count: usize,
) -> impl Iterator<Item = (f64, f64)> {
    let every = count.div_ceil(POINTS).max(1);
    points
        .enumerate()
        .filter(move |(index, _)| index.is_multiple_of(every) || index + 1 == count)
        .map(|(_, point)| point)
}
