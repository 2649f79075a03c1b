//! Rows that are cast on the way to their experts: the bits of their copies, cast afterwards.

#![allow(clippy::unwrap_used)] // these are tests; clippy does not see that of their helpers

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use super::Compute;
use crate::backend::WeightGradientQueue;
use crate::backend::fp8::CastCounter;
use crate::definition::ExpertGroups;
use crate::moe::Experts;
use crate::ops::LocalExperts;
use crate::precision::{Fp8Recipe, Granularity, KeptActivation, Precision, QuantizeOptions};
use crate::{Weight, WeightInit};

const EXPERTS: usize = 4;
const TOP_K: usize = 2;
const INTER: usize = 36;
/// No whole number of tiles, nor of words.
const D: usize = 139;

fn compute(recipe: Fp8Recipe) -> Compute {
    Compute::unchecked(Precision::Fp8(recipe))
}

fn values<const N: usize>(seed: u64, shape: [usize; N]) -> Vec<f32> {
    let count = shape.iter().product();
    let normal: Tensor<1> = WeightInit::normal(seed, 1.0, &Device::flex()).weight([count]).val();
    normal.into_data().try_to_vec().unwrap()
}

fn bits<const N: usize>(x: Tensor<N>) -> Vec<u32> {
    x.into_data().iter::<f32>().map(f32::to_bits).collect()
}

/// Bits of the result and of all gradients: of the tokens, the gate values and both weights.
fn results(device: &Device, compute: &Compute, tokens: usize, hard: bool) -> Vec<Vec<u32>> {
    let mut init = WeightInit::normal(5, 0.1, device);
    let experts = Experts {
        gate_up: init.weight([EXPERTS, 2 * INTER, D]).into(),
        down: init.weight([EXPERTS, D, INTER]).into(),
    };
    let experts = experts.train();
    // Expert 3 has no token.
    let choices: Vec<u32> =
        (0..tokens as u32).flat_map(|token| [token % 2, 1 + token % 2]).collect();
    let groups = ExpertGroups::new(&choices, TOP_K, EXPERTS);
    let mut x = values(1, [tokens, D]);
    if hard {
        x[3 * D..4 * D].fill(0.0);
        (x[7 * D], x[8 * D + 2], x[9 * D]) = (f32::NAN, 1e30, f32::INFINITY);
    }
    let device = &device.clone().autodiff();
    let on_device = |values: Vec<f32>, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(values, shape), device)
    };
    let x = on_device(x, [tokens, D]).require_grad();
    let gates = on_device(values(2, [tokens, TOP_K]), [tokens, TOP_K]).require_grad();
    let Experts { gate_up, down } = &experts;
    let queue = WeightGradientQueue::default();
    let y = compute.deferring_to(queue.clone()).routed_experts(
        x.clone(),
        gates.clone(),
        [gate_up, down],
        &groups,
        0,
    );
    let mut grads = (y.clone() * on_device(values(3, [tokens, D]), [tokens, D])).sum().backward();
    let of_inputs = [&x, &gates].map(|input| bits(input.grad_remove(&mut grads).unwrap()));
    let mut grads = GradientsParams::from_grads(grads, &experts);
    assert_eq!(queue.len(), 2, "both weights wait");
    queue.compute(&mut grads);
    let of = |weight: &Weight<3>| {
        let parameter: &Param<Tensor<3>> = weight.parameter().unwrap();
        bits(grads.get::<3>(parameter.id).unwrap())
    };
    let [dx, dgates] = of_inputs;
    vec![bits(y), dx, dgates, of(gate_up), of(down)]
}

/// The two operations: what carries rows to experts copies them, in whatever form.
fn apart(compute: &Compute) -> Compute {
    compute.with_expert_dispatch(Arc::new(LocalExperts))
}

fn check(device: &Device, recipes: &[Fp8Recipe]) {
    for &recipe in recipes {
        let compute = compute(recipe);
        for (tokens, hard) in [(1, false), (40, true), (150, false)] {
            let (ours, expected) = (
                results(device, &compute, tokens, hard),
                results(device, &apart(&compute), tokens, hard),
            );
            for (place, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
                assert_eq!(ours, expected, "{tokens} tokens, {recipe:?}, result {place}");
            }
            assert!(hard || ours[1].iter().any(|&bits| bits != 0));
        }
    }
}

#[test]
fn the_bits_are_those_of_a_copy_and_its_cast() {
    let blocks = QuantizeOptions { granularity: Granularity::Block, ..QuantizeOptions::default() };
    let recipes = [
        Fp8Recipe::default(),
        Fp8Recipe { activations: blocks, ..Fp8Recipe::default() },
        Fp8Recipe { kept: KeptActivation::Rows, ..Fp8Recipe::default() },
    ];
    check(&Device::flex(), &recipes);
}

#[cfg(feature = "wgpu")]
#[test]
fn the_bits_are_those_of_a_copy_and_its_cast_on_a_gpu() {
    check(&crate::backend::test_gpu(), &[Fp8Recipe::default()]);
}

#[test]
fn no_token_at_all_is_no_problem() {
    let device = Device::flex();
    let compute = compute(Fp8Recipe::default());
    let ours = results(&device, &compute, 0, false);
    assert_eq!(ours, results(&device, &apart(&compute), 0, false));
    assert!(ours[0].is_empty() && ours[4].iter().all(|&bits| bits == 0));
}

/// Where somebody counts what casts do, the rows are there to be counted.
#[test]
fn casts_on_the_way_are_counted_where_somebody_asks() {
    let (device, compute) = (Device::flex(), compute(Fp8Recipe::default()));
    let count = |compute: &Compute| {
        let counter = CastCounter::default();
        let results = results(&device, &compute.detailed(counter.clone()), 40, true);
        (counter.take(), results)
    };
    let ((casts, ours), (expected, _)) = (count(&compute), count(&apart(&compute)));
    assert_eq!(format!("{casts:?}"), format!("{expected:?}"), "NaN is no obstacle to text");
    assert!(casts.activations.values > 0);
    assert_eq!(ours, results(&device, &compute, 40, true));
}
