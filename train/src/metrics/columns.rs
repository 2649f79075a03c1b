//! Columns of the record from what was measured.

use burn_deepseek::backend::fp8::Casts;
use burn_deepseek::precision::CastCounts;

use crate::learner::{LayerLoad, Part, PartNorms};
use crate::record::{Experts, Fp8Casts, GradNorms, ParamNorms};

/// Of each layer the mean over experts of how far its bias has moved; nothing without biases from
/// before.
pub(super) fn drift(before: &[Vec<f32>], now: &[Vec<f32>]) -> Vec<f64> {
    let of_layer = |(before, now): (&Vec<f32>, &Vec<f32>)| {
        let moved = before.iter().zip(now).map(|(a, b)| f64::from((b - a).abs()));
        moved.sum::<f64>() / now.len().max(1) as f64
    };
    before.iter().zip(now).map(of_layer).collect()
}

pub(super) fn grad_norms(norms: &PartNorms) -> GradNorms {
    GradNorms {
        grad_norm_embedding: norms.part(Part::Embedding),
        grad_norm_attention: norms.part(Part::Attention),
        grad_norm_router: norms.part(Part::Router),
        grad_norm_experts: norms.part(Part::Experts),
        grad_norm_mlp: norms.part(Part::Mlp),
        grad_norm_norms: norms.part(Part::Norms),
        grad_norm_mtp: norms.part(Part::Mtp),
        grad_norm_head: norms.part(Part::Head),
    }
}

pub(super) fn param_norms(norms: &PartNorms) -> ParamNorms {
    ParamNorms {
        param_norm_embedding: norms.part(Part::Embedding),
        param_norm_attention: norms.part(Part::Attention),
        param_norm_router: norms.part(Part::Router),
        param_norm_experts: norms.part(Part::Experts),
        param_norm_mlp: norms.part(Part::Mlp),
        param_norm_norms: norms.part(Part::Norms),
        param_norm_mtp: norms.part(Part::Mtp),
        param_norm_head: norms.part(Part::Head),
    }
}

pub(super) fn fp8_casts(casts: &Casts) -> Fp8Casts {
    let Casts { activations, weights, gradients } = casts;
    let share =
        |of: &CastCounts, count: u64| (of.values > 0).then(|| count as f64 / of.values as f64);
    let scale = |of: &CastCounts, scale: f32| (of.values > 0).then(|| f64::from(scale));
    Fp8Casts {
        fp8_activations_saturated: share(activations, activations.saturated),
        fp8_activations_underflowed: share(activations, activations.underflowed),
        fp8_activations_scale_min: scale(activations, activations.scale_min),
        fp8_activations_scale_max: scale(activations, activations.scale_max),
        fp8_weights_saturated: share(weights, weights.saturated),
        fp8_weights_underflowed: share(weights, weights.underflowed),
        fp8_weights_scale_min: scale(weights, weights.scale_min),
        fp8_weights_scale_max: scale(weights, weights.scale_max),
        fp8_gradients_saturated: share(gradients, gradients.saturated),
        fp8_gradients_underflowed: share(gradients, gradients.underflowed),
        fp8_gradients_scale_min: scale(gradients, gradients.scale_min),
        fp8_gradients_scale_max: scale(gradients, gradients.scale_max),
    }
}

pub(super) fn experts(loads: &[LayerLoad]) -> Experts {
    let violations: Vec<f64> = loads.iter().map(LayerLoad::violation).collect();
    Experts {
        layers: loads.iter().map(|load| load.layer).collect(),
        max_violation: violations.iter().copied().reduce(f64::max),
        layer_violation: violations,
        dead_experts: loads.iter().flat_map(|load| &load.loads).filter(|&&n| n == 0).count() as u64,
        expert_loads: loads.iter().map(|load| load.loads.clone()).collect(),
    }
}
