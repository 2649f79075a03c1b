//! Which charts a report has, of one run or of several.

use super::chart::{COLORS, Chart, Curve, Drawn, Look, PALE, stroke};
use super::gathered::{Gathered, PARTS, Step};
use super::heat;
use super::series::{Series, loss_range, range};
use crate::commands::svg::Stroke;

/// Places along the axis at which the parts of a step are averaged.
const PLACES: usize = 200;
/// Layers that have a curve of their own; of more, the highest has one.
const LAYERS: usize = 6;

/// A picture of a report.
pub(super) struct Figure {
    /// Its file, without `.svg`.
    pub name: &'static str,
    pub title: String,
    /// What is to be seen, in a sentence.
    pub caption: &'static str,
    pub svg: String,
}

/// The pictures of a run over its steps; nothing that was not measured.
pub(super) fn of_run(run: &Gathered) -> Vec<Figure> {
    let over = Over::steps(run);
    let charts = [
        Some((
            losses(run, &over),
            "Nats a token, of the next token; an MTP module's of a later one.",
        )),
        Some((one(run, &over, "lr", "Learning rate", "learning rate", |step| step.lr), "")),
        Some((
            one(run, &over, "gradients", "Norm of the gradients", "global norm", |step| {
                step.grad_norm
            }),
            "Before clipping. Spikes may be cut off.",
        )),
        Some((one(run, &over, "speed", "Speed", "tokens/s", |step| step.tokens_per_second), "")),
        seconds(run, &over).map(|chart| (Some(chart), "Saving and evaluations are not in it.")),
        Some((
            violations(run, &over),
            "Tokens of a layer's busiest expert over the mean, less 1: 0 is even.",
        )),
    ];
    let drawn = charts.into_iter().flatten().filter_map(|(chart, caption)| {
        let chart = chart?;
        Some(Figure { name: chart.name, svg: chart.svg(), title: chart.title, caption })
    });
    let loads = run.loads.as_ref().and_then(|(step, experts)| {
        let title = format!("Loads of the experts after step {step}");
        let caption = "Tokens of each expert over those of an even load.";
        Some(Figure { name: "loads", title, caption, svg: heat::draw(*step, experts)? })
    });
    drawn.chain(loads).collect()
}

/// The pictures of several runs, laid over each other by the tokens that each has seen.
pub(super) fn of_runs(runs: &[Gathered], names: &[String]) -> Vec<Figure> {
    let over = Over::tokens(runs);
    let steps = |of: fn(&Step) -> f64| -> Vec<Series> {
        runs.iter().map(|run| over.series(run, of)).collect()
    };
    let smoothed = |of| -> Vec<Series> { steps(of).iter().map(Series::smoothed).collect() };
    let valid: Vec<Series> = runs.iter().map(|run| over.valid(run)).collect();
    let losses = |series: &[Series]| loss_range(&series.iter().collect::<Vec<_>>());
    let plain = |series: &[Series]| range(series.iter());
    let of = |name, title: &str, down, series: Vec<Series>, range: Option<(f64, f64)>, dotted| {
        let curves = series.into_iter().zip(names).enumerate().map(|(index, (series, name))| {
            let (stroke, name) = (stroke(index), Some(name.clone()));
            let look = if dotted { Look::Dotted(stroke) } else { Look::Line(stroke) };
            Curve { name, look, series }
        });
        let drawn = Drawn::Curves(curves.filter(|curve| !curve.series.points.is_empty()).collect());
        over.chart(name, title, (down, range?), drawn)
    };
    let train = smoothed(|step| step.loss);
    let (rates, norms) = (steps(|step| step.lr), smoothed(|step| step.grad_norm));
    let speeds = smoothed(|step| step.tokens_per_second);
    let violations = smoothed(|step| step.max_violation.unwrap_or(f64::NAN));
    let ranges = [
        losses(&train),
        losses(&valid),
        plain(&rates),
        plain(&norms),
        plain(&speeds),
        plain(&violations),
    ];
    let [train_range, valid_range, rate_range, norm_range, speed_range, violation_range] = ranges;
    let nats = "loss (nats a token)";
    let smooth = "Smoothed.";
    [
        (of("loss", "Training loss", nats, train, train_range, false), smooth),
        (of("valid", "Validation loss", nats, valid, valid_range, true), ""),
        (of("lr", "Learning rate", "learning rate", rates, rate_range, false), ""),
        (of("gradients", "Norm of the gradients", "global norm", norms, norm_range, false), smooth),
        (of("speed", "Speed", "tokens/s", speeds, speed_range, false), smooth),
        (
            of(
                "violation",
                "Balance of the experts",
                "violation",
                violations,
                violation_range,
                false,
            ),
            "The largest of any layer, smoothed; 0 is even.",
        ),
    ]
    .into_iter()
    .filter_map(|(chart, caption)| {
        let chart: Chart = chart?;
        Some(Figure { name: chart.name, svg: chart.svg(), title: chart.title, caption })
    })
    .collect()
}

/// What the horizontal axis of the charts has.
struct Over {
    label: &'static str,
    range: (f64, f64),
    at: fn(&Step) -> f64,
    at_evaluation: fn((u64, u64)) -> f64,
    unit: f64,
}

impl Over {
    fn steps(run: &Gathered) -> Self {
        let last = run.steps.last().map_or(0, |step| step.step);
        let first = run.steps.first().map_or(0, |step| step.step).min(1);
        Self {
            label: "step",
            range: (first as f64, last.max(first + 1) as f64),
            at: |step| step.step as f64,
            at_evaluation: |(step, _)| step as f64,
            unit: 1.0,
        }
    }

    fn tokens(runs: &[Gathered]) -> Self {
        let last = runs.iter().filter_map(|run| run.steps.last().map(|step| step.tokens)).max();
        let last = last.unwrap_or(0).max(1) as f64;
        let (unit, label) = match last {
            1e9.. => (1e9, "tokens (billions)"),
            1e6.. => (1e6, "tokens (millions)"),
            1e4.. => (1e3, "tokens (thousands)"),
            _ => (1.0, "tokens"),
        };
        Self {
            label,
            range: (0.0, last / unit),
            at: |step| step.tokens as f64,
            at_evaluation: |(_, tokens)| tokens as f64,
            unit,
        }
    }

    fn series(&self, run: &Gathered, of: impl Fn(&Step) -> f64) -> Series {
        Series::new(run.steps.iter().map(|step| ((self.at)(step) / self.unit, of(step))))
    }

    fn valid(&self, run: &Gathered) -> Series {
        Series::new(run.evaluations.iter().map(|line| {
            let place = (line.stamp.step, line.stamp.tokens);
            ((self.at_evaluation)(place) / self.unit, line.valid_loss)
        }))
    }

    /// A chart; none where there is nothing to draw.
    fn chart(
        &self,
        name: &'static str,
        title: &str,
        down: (&'static str, (f64, f64)),
        drawn: Drawn,
    ) -> Option<Chart> {
        let empty = matches!(&drawn, Drawn::Curves(curves) if curves.is_empty());
        let across = (self.label, self.range);
        (!empty).then(|| Chart { name, title: title.into(), across, down, drawn })
    }
}

/// Training loss as it is and smoothed, validation, MTP modules.
fn losses(run: &Gathered, over: &Over) -> Option<Chart> {
    let train = over.series(run, |step| step.loss);
    let (smooth, valid) = (train.smoothed(), over.valid(run));
    let depths = run.steps.iter().map(|step| step.mtp_losses.len()).max().unwrap_or(0);
    let mtp = |depth: usize| {
        let of = |step: &Step| step.mtp_losses.get(depth).copied().unwrap_or(f64::NAN);
        over.series(run, of).smoothed()
    };
    let mtp: Vec<Series> = (0..depths).map(mtp).collect();
    let range = loss_range(&[&smooth].into_iter().chain(&mtp).chain([&valid]).collect::<Vec<_>>())?;
    let behind = Stroke { color: PALE, width: 1.0, dash: "" };
    let mut curves = vec![
        Curve { name: None, look: Look::Line(behind), series: train },
        Curve::line("training, smoothed", stroke(0), smooth),
    ];
    for (depth, series) in mtp.into_iter().enumerate() {
        let stroke = Stroke { width: 1.4, ..stroke(2 + depth) };
        curves.push(Curve::line(format!("MTP {}", depth + 1), stroke, series));
    }
    if !valid.points.is_empty() {
        let look = Look::Dotted(stroke(1));
        curves.push(Curve { name: Some("validation".into()), look, series: valid });
    }
    over.chart("loss", "Loss", ("loss (nats a token)", range), Drawn::Curves(curves))
}

/// A number of each step, pale as it is where that is rough, and smoothed.
fn one(
    run: &Gathered,
    over: &Over,
    name: &'static str,
    title: &str,
    down: &'static str,
    of: fn(&Step) -> f64,
) -> Option<Chart> {
    let series = over.series(run, of);
    let range = range([&series].into_iter())?;
    let curves = if name == "lr" {
        vec![Curve { name: None, look: Look::Line(stroke(0)), series }]
    } else {
        let behind = Stroke { color: PALE, width: 1.0, dash: "" };
        let smooth = series.smoothed();
        vec![
            Curve { name: None, look: Look::Line(behind), series },
            Curve::line("smoothed", stroke(0), smooth),
        ]
    };
    over.chart(name, title, (down, range), Drawn::Curves(curves))
}

/// Where the time of a step goes.
fn seconds(run: &Gathered, over: &Over) -> Option<Chart> {
    let (spent, chunk) = (run.spent(), run.steps.len().div_ceil(PLACES).max(1));
    let at: Vec<(f64, Vec<f64>)> = run
        .steps
        .chunks(chunk)
        .map(|steps| {
            let mean = |part: usize| {
                steps.iter().map(|step| step.seconds[part]).sum::<f64>() / steps.len() as f64
            };
            let last = &steps[steps.len() - 1];
            ((over.at)(last) / over.unit, spent.iter().map(|&(part, _)| mean(part)).collect())
        })
        .collect();
    if at.len() < 2 {
        return None;
    }
    let whole = Series::new(at.iter().map(|(at, parts)| (*at, parts.iter().sum())));
    let (_, high) = range([&whole].into_iter())?;
    let names = spent.iter().map(|&(part, _)| (PARTS[part], COLORS[part]));
    let drawn = Drawn::Stack { names: names.collect(), at };
    over.chart("seconds", "Time of a step", ("seconds", (0.0, high)), drawn)
}

/// How uneven the experts are: of each layer, or where there are many of the worst at each step and
/// of the middle one.
fn violations(run: &Gathered, over: &Over) -> Option<Chart> {
    let layers: &[usize] = run.loads.as_ref().map_or(&[], |(_, experts)| &experts.layers);
    let of_layer = |index: usize| {
        let of = |step: &Step| step.layer_violation.get(index).copied().unwrap_or(f64::NAN);
        over.series(run, of).smoothed()
    };
    let curves: Vec<Curve> = if layers.len() <= LAYERS {
        let named = layers.iter().enumerate();
        named
            .map(|(index, layer)| {
                Curve::line(format!("layer {layer}"), stroke(index), of_layer(index))
            })
            .collect()
    } else {
        let median = |step: &Step| {
            let mut of_layers = step.layer_violation.clone();
            of_layers.sort_unstable_by(f64::total_cmp);
            of_layers.get(of_layers.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let worst = |step: &Step| step.max_violation.unwrap_or(f64::NAN);
        vec![
            Curve::line("worst layer", stroke(1), over.series(run, worst).smoothed()),
            Curve::line("median layer", stroke(0), over.series(run, median).smoothed()),
        ]
    };
    let (_, high) = range(curves.iter().map(|curve| &curve.series))?;
    let down = ("violation", (0.0, high));
    over.chart("violation", "Balance of the experts", down, Drawn::Curves(curves))
}
