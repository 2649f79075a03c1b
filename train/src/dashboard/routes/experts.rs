//! The experts of a run over time, as its heat maps show them.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::dashboard::asked::{Asked, OfRun};
use crate::dashboard::configured::Configured;
use crate::dashboard::decimate::evenly;
use crate::dashboard::house::{House, blocking};
use crate::dashboard::index::{Index, Lines, Spot};
use crate::dashboard::numbers::Numbers;
use crate::dashboard::refusal::Refusal;
use crate::dashboard::run::Run;

/// Steps that a page asks for if it says nothing, and at most.
const POINTS: usize = 200;
const MOST_POINTS: usize = 2000;
/// Numbers of loads that are given at most; a large model gets fewer steps.
const MOST_LOADS: usize = 2_000_000;

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new().route("/api/runs/{id}/experts", get(experts))
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Wanted {
    points: Option<usize>,
}

#[derive(Debug, Default, Serialize)]
struct Experts {
    layers: Vec<usize>,
    experts: usize,
    steps: Vec<u64>,
    /// Of each step and layer each expert's share of the choices, times their number: 1 is even.
    loads: Vec<Vec<Numbers>>,
    violation: Vec<Numbers>,
    evaluations: Evaluations,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate_entropy: Option<Entropy>,
}

#[derive(Debug, Default, Serialize)]
struct Evaluations {
    steps: Vec<u64>,
    bias_min: Vec<Numbers>,
    bias_max: Vec<Numbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bias_drift: Option<Vec<Numbers>>,
    /// Of each evaluation and layer each expert's bias.
    #[serde(skip_serializing_if = "Option::is_none")]
    biases: Option<Vec<Vec<Numbers>>>,
}

#[derive(Debug, Default, Serialize)]
struct Entropy {
    steps: Vec<u64>,
    values: Vec<Numbers>,
}

/// What of a line is about experts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OfLine {
    layers: Vec<usize>,
    layer_violation: Vec<Option<f64>>,
    expert_loads: Vec<Vec<f64>>,
    gate_entropy: Vec<Option<f64>>,
    bias_min: Vec<Option<f64>>,
    bias_max: Vec<Option<f64>>,
    bias_drift: Vec<Option<f64>>,
    expert_biases: Vec<Vec<Option<f64>>>,
}

async fn experts(
    OfRun(run): OfRun,
    Asked(wanted): Asked<Wanted>,
) -> Result<Json<Experts>, Refusal> {
    blocking(move || experts_of(&run, wanted).map(Json)).await
}

fn experts_of(run: &Run, wanted: Wanted) -> Result<Experts, Refusal> {
    let configured = run.configured()?;
    let layers = configured.layers.clone();
    let mut experts = Experts {
        experts: if layers.is_empty() { 0 } else { configured.config.model.n_routed_experts },
        layers,
        ..Experts::default()
    };
    let numbers = experts.layers.len().saturating_mul(experts.experts).max(1);
    let most = MOST_POINTS.min(MOST_LOADS / numbers).max(2);
    let points = wanted.points.unwrap_or(POINTS).clamp(2, most);
    let ((steps, evaluations), lines) = run.read(|index| {
        let evaluations = evenly(index.evaluations.len(), points);
        let evaluations: Vec<Spot> =
            evaluations.into_iter().map(|at| index.evaluations[at].spot).collect();
        (detailed(index, &configured, points), evaluations)
    })?;
    let Some(mut lines) = lines.filter(|_| !experts.layers.is_empty()) else { return Ok(experts) };
    let mut entropy = Entropy::default();
    for spot in steps {
        let Some(line) = of_line(&mut lines, spot, &experts.layers)? else { continue };
        if line.gate_entropy.len() == experts.layers.len() {
            entropy.steps.push(spot.step);
            entropy.values.push(numbers_of(line.gate_entropy));
        }
        if !fits(&line.expert_loads, experts.layers.len(), experts.experts) {
            continue; // a line without them, or of another model
        }
        experts.steps.push(spot.step);
        experts.loads.push(line.expert_loads.into_iter().map(shares).collect());
        experts.violation.push(numbers_of(line.layer_violation));
    }
    experts.gate_entropy = (!entropy.steps.is_empty()).then_some(entropy);
    let (mut drifts, mut biases) = (Vec::new(), Vec::new());
    for spot in evaluations {
        let Some(line) = of_line(&mut lines, spot, &experts.layers)? else { continue };
        let of = &mut experts.evaluations;
        of.steps.push(spot.step);
        of.bias_min.push(numbers_of(line.bias_min));
        of.bias_max.push(numbers_of(line.bias_max));
        drifts.push(line.bias_drift);
        biases.push(line.expert_biases);
    }
    if biases.iter().any(|layers| !layers.is_empty()) {
        let of_all = |layers: Vec<_>| layers.into_iter().map(numbers_of).collect();
        experts.evaluations.biases = Some(biases.into_iter().map(of_all).collect());
    }
    if drifts.iter().any(|drift| !drift.is_empty()) {
        experts.evaluations.bias_drift = Some(drifts.into_iter().map(numbers_of).collect());
    }
    Ok(experts)
}

/// The steps whose lines have the loads of every expert, at most so many.
fn detailed(index: &Index, configured: &Configured, points: usize) -> Vec<Spot> {
    let every = configured.config.metrics.every.max(1);
    let all = index.steps.iter().map(|line| line.spot);
    let all: Vec<Spot> = all.filter(|spot| spot.step.is_multiple_of(every)).collect();
    evenly(all.len(), points).into_iter().map(|at| all[at]).collect()
}

/// What a line says of experts; none where it is of other layers.
fn of_line(lines: &mut Lines, spot: Spot, layers: &[usize]) -> Result<Option<OfLine>, Refusal> {
    let line: Option<OfLine> = serde_json::from_slice(lines.line(spot)?).ok();
    Ok(line.filter(|line| line.layers == layers))
}

fn fits(loads: &[Vec<f64>], layers: usize, experts: usize) -> bool {
    loads.len() == layers && loads.iter().all(|layer| layer.len() == experts)
}

/// What each has of the sum, times their number.
fn shares(loads: Vec<f64>) -> Numbers {
    let mean = loads.iter().sum::<f64>() / loads.len() as f64;
    // Four digits show on no picture, and make the answer a third as long.
    Numbers(loads.into_iter().map(|load| (load / mean * 1e4).round() / 1e4).collect())
}

fn numbers_of(values: Vec<Option<f64>>) -> Numbers {
    Numbers(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}
