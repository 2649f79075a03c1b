//! FP8 linears through autodiff on Flex: deferred gradients, recomputation, experts, what is kept.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use super::{CastCounter, Casts, ROWS_A_COUNTED_ONE};
use crate::backend::WeightGradientQueue;
use crate::definition::ExpertGroups;
use crate::precision::{Fp8Recipe, KeptActivation, Precision};
use crate::{Compute, Linear, Mlp, Weight, WeightInit, recomputing};
use cubecl_kernels::metric::calc_diff;

/// A linear and an MLP behind it, with a mixture between them: each kind of FP8 call.
#[derive(Module, Debug)]
struct Network {
    first: Linear,
    gate_up: Weight<3>,
    down: Weight<3>,
    mlp: Mlp,
}

const ROWS: usize = 150;
const D: usize = 140;

impl Network {
    fn new(device: &Device) -> Self {
        let init = &mut WeightInit::normal(5, 0.1, device);
        let first = Linear::new(D, D, true, init);
        Self {
            first,
            gate_up: init.weight([3, 2 * 36, D]).into(),
            down: init.weight([3, D, 36]).into(),
            mlp: Mlp::new(D, 70, init),
        }
    }

    fn forward(&self, x: Tensor<2>, compute: &Compute) -> Tensor<2> {
        use crate::precision::Operation::{AttentionOutput, QueryUp};
        // The same layer twice: its gradients add up. One of the calls is recomputed where that is
        // on.
        let h = compute.linear(QueryUp, x, &self.first);
        let h = compute.linear(AttentionOutput, h, &self.first);
        let h = self.mlp.forward(h, compute);
        // Expert 1 has no row.
        let choices: Vec<u32> = (0..ROWS as u32).map(|i| if i % 3 == 0 { 0 } else { 2 }).collect();
        let groups = ExpertGroups::new(&choices, 1, 3);
        compute.experts(crate::ops::permute(h, &groups), &self.gate_up, &self.down, &groups)
    }
}

fn inputs(device: &Device) -> (Tensor<2>, Tensor<2>) {
    // Not the device's generator: every test of the process draws from that one.
    let mut normal = WeightInit::normal(3, 1.0, device);
    (normal.weight([ROWS, D]).val(), normal.weight([ROWS, D]).val())
}

fn parameter<const D: usize>(weight: &Weight<D>) -> &Param<Tensor<D>> {
    weight.parameter().expect("a weight that is trained")
}

/// Gradients by parameter, in the module's order, and the input's last.
fn gradients(
    network: &Network,
    compute: &Compute,
    queue: Option<&WeightGradientQueue>,
    device: &Device,
) -> Vec<Vec<f32>> {
    let (x, dy) = inputs(&device.clone().without_autodiff());
    let x = if network.first.weight.val().gradient_checkpointing_strategy()
        == Some(burn::tensor::GradientCheckpointingStrategy::Balanced)
    {
        Tensor::from_inner(x).with_gradient_checkpointing_strategy(
            burn::tensor::GradientCheckpointingStrategy::Balanced,
        )
    } else {
        Tensor::from_inner(x)
    }
    .require_grad();
    let y = network.forward(x.clone(), compute);
    let dy = Tensor::from_inner(dy);
    let dy = match y.gradient_checkpointing_strategy() {
        Some(strategy) => dy.with_gradient_checkpointing_strategy(strategy),
        None => dy,
    };
    let mut grads = (y * dy).sum().backward();
    let dx = x.grad_remove(&mut grads).expect("the input requires a gradient");
    let mut grads = GradientsParams::from_grads(grads, network);
    if let Some(queue) = queue {
        assert_eq!(queue.len(), 6, "every weight waits");
        queue.compute(&mut grads);
        assert!(queue.is_empty());
    }
    let floats2 = |id| {
        grads.get::<2>(id).map(|g| g.into_data().try_to_vec::<f32>().unwrap()).expect("a gradient")
    };
    let floats3 = |id| {
        grads.get::<3>(id).map(|g| g.into_data().try_to_vec::<f32>().unwrap()).expect("a gradient")
    };
    vec![
        floats2(parameter(&network.first.weight).id),
        floats2(parameter(&network.mlp.gate_up).id),
        floats2(parameter(&network.mlp.down).id),
        floats3(parameter(&network.gate_up).id),
        floats3(parameter(&network.down).id),
        dx.into_data().try_to_vec().unwrap(),
    ]
}

fn compute(recipe: Fp8Recipe) -> Compute {
    Compute::unchecked(Precision::Fp8(recipe))
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn assert_near(got: &[Vec<f32>], want: &[Vec<f32>], most: f64) {
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let diff = calc_diff(&widen(got), &widen(want));
        assert!(diff > 0.0 && diff < most, "gradient {index}: {diff}");
    }
}

#[test]
fn gradients_are_those_of_fp32_up_to_the_formats() {
    let device = Device::flex().autodiff();
    let network = Network::new(&Device::flex()).train();
    let exact = gradients(&network, &Compute::f32(), None, &device);
    let fp8 = gradients(&network, &compute(Fp8Recipe::default()), None, &device);
    // Eight products and three SwiGLUs deep: the errors of single products (under 1e-3 each) add
    // up.
    assert_near(&fp8, &exact, 3e-2);
    let bf16 = gradients(&network, &Compute::unchecked(Precision::Bf16), None, &device);
    assert_near(&bf16, &exact, 1e-4);
    // The expert without rows has a gradient of zero.
    assert!(fp8[3][72 * D..2 * 72 * D].iter().all(|&g| g == 0.0));
}

#[test]
fn deferred_weight_gradients_are_the_same_bits() {
    let device = Device::flex().autodiff();
    let network = Network::new(&Device::flex()).train();
    for kept in [KeptActivation::Columns, KeptActivation::Rows, KeptActivation::E5m6] {
        let recipe = Fp8Recipe { kept, ..Fp8Recipe::default() };
        let now = gradients(&network, &compute(recipe), None, &device);
        let queue = WeightGradientQueue::default();
        let later = gradients(
            &network,
            &compute(recipe).deferring_to(queue.clone()),
            Some(&queue),
            &device,
        );
        assert_eq!(now, later, "{kept:?}");
    }
}

#[test]
fn what_is_recomputed_is_the_same_bits() {
    let device = Device::flex().autodiff();
    let network = Network::new(&Device::flex()).train();
    let kept = gradients(&network, &compute(Fp8Recipe::default()), None, &device);
    let again = recomputing(network);
    let queue = WeightGradientQueue::default();
    let recomputed = gradients(
        &again,
        &compute(Fp8Recipe::default()),
        None,
        &device.clone().gradient_checkpointing(),
    );
    assert_eq!(kept, recomputed);
    let deferred = compute(Fp8Recipe::default()).deferring_to(queue.clone());
    assert_eq!(kept, gradients(&again, &deferred, Some(&queue), &device.gradient_checkpointing()));
}

/// The second rounding (3.5.2) costs the weight gradient, and nothing else.
#[test]
fn requantized_rows_cost_accuracy_in_the_weight_gradient_alone() {
    let layer = Linear::new(D, D, false, &mut WeightInit::normal(5, 0.1, &Device::flex())).train();
    let (x, dy) = inputs(&Device::flex());
    let run = |compute: &Compute| {
        let x = Tensor::from_inner(x.clone()).require_grad();
        let y = compute.linear(crate::precision::Operation::GateUp, x.clone(), &layer);
        let mut grads = (y * Tensor::from_inner(dy.clone())).sum().backward();
        let dx = x.grad_remove(&mut grads).expect("a gradient").into_data();
        let dw = GradientsParams::from_grads(grads, &layer)
            .get::<2>(parameter(&layer.weight).id)
            .expect("a gradient");
        (dx, widen(&dw.into_data().try_to_vec::<f32>().unwrap()))
    };
    let (_, exact) = run(&Compute::f32());
    let (dx, columns) = run(&compute(Fp8Recipe::default()));
    let (dx_rows, rows) =
        run(&compute(Fp8Recipe { kept: KeptActivation::Rows, ..Fp8Recipe::default() }));
    assert_eq!(dx, dx_rows);
    let (columns, rows) = (calc_diff(&columns, &exact), calc_diff(&rows, &exact));
    assert!(columns < 1e-3 && rows > 1.2 * columns, "columns {columns}, rows {rows}");
}

#[test]
fn weights_are_quantized_once_for_all_micro_batches_of_a_step() {
    let network = Network::new(&Device::flex());
    let compute = compute(Fp8Recipe::default());
    let (x, _) = inputs(&Device::flex());
    let before = network.forward(x.clone(), &compute);
    // A change that the context is not told of is not seen; the next step sees it.
    let changed = Network {
        first: Linear {
            weight: parameter(&network.first.weight).clone().map(|w| w * 2.0).into(),
            ..network.first.clone()
        },
        ..network
    };
    assert_eq!(before.clone().into_data(), changed.forward(x.clone(), &compute).into_data());
    assert_ne!(before.into_data(), changed.forward(x, &compute.next_step()).into_data());
}

/// Each cast is counted once, whatever is deferred or recomputed, and changes no bit of the result.
#[test]
fn casts_are_counted_by_what_is_cast() {
    let device = Device::flex().autodiff();
    let network = Network::new(&Device::flex()).train();
    let plain = gradients(&network, &compute(Fp8Recipe::default()), None, &device);
    let count = |network: &Network, compute: &Compute, queue, device: &Device| {
        let counter = CastCounter::default();
        let detailed = compute.detailed(counter.clone());
        assert_eq!(gradients(network, &detailed, queue, device), plain);
        counter.take()
    };
    let casts = count(&network, &compute(Fp8Recipe::default()), None, &device);
    // Inputs of the linear's two calls, of the MLP's two linears, of the experts' two.
    let rows = ROWS.div_ceil(ROWS_A_COUNTED_ONE);
    assert_eq!(casts.activations.values, (rows * (4 * D + 70 + 36)) as u64);
    let weights = D * D + 2 * 70 * D + 70 * D + 3 * (2 * 36 * D + 36 * D);
    assert_eq!(casts.weights.values, weights as u64);
    let outputs = 2 * D + 2 * 70 + D + 2 * 36 + D;
    assert_eq!(casts.gradients.values, (rows * outputs) as u64);
    for counts in [casts.activations, casts.weights, casts.gradients] {
        assert!(counts.saturated == 0 && counts.underflowed < counts.values / 10, "{counts:?}");
        assert!(0.0 < counts.scale_min && counts.scale_min < counts.scale_max, "{counts:?}");
    }
    assert!(casts.gradients.underflowed > 0, "{casts:?}");
    let queue = WeightGradientQueue::default();
    let deferring = compute(Fp8Recipe::default()).deferring_to(queue.clone());
    assert_eq!(count(&network, &deferring, Some(&queue), &device), casts);
    let again = recomputing(network.clone());
    let checkpointing = device.clone().gradient_checkpointing();
    assert_eq!(count(&again, &compute(Fp8Recipe::default()), None, &checkpointing), casts);

    // A weight that was quantized before is counted too; the next step counts nothing.
    let used = compute(Fp8Recipe::default());
    let (x, _) = inputs(&Device::flex());
    network.clone().no_grad().valid().forward(x.clone(), &used);
    assert_eq!(count(&network, &used, None, &device).weights, casts.weights);
    let counter = CastCounter::default();
    let next = used.detailed(counter.clone()).next_step();
    network.no_grad().valid().forward(x, &next);
    assert_eq!((counter.take(), next.is_detailed()), (Casts::default(), false));
}
