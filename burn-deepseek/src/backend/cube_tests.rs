//! The fused operations of CubeCL's devices against Flex's, values and gradients, and the choice of
//! experts against the host's.

#![allow(clippy::unwrap_used)] // these are tests; clippy does not see that of their helpers

use burn::backend::DispatchDevice;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Device, Int, Tensor, TensorData, read_sync};
use burn_cubecl::CubeBackend;
use cubecl_kernels::definition::{GroupScore, RouteShape};
use cubecl_kernels::metric::calc_diff;

use super::kernels::FusedKernels;
use super::operations::Supported;
use super::{FusedOp, supports, test_gpu};
use crate::config::TopkMethod;
use crate::definition::{AdamWScalars, ExpertGroups, RopeTable};
use crate::moe::{ExpertSelection, Router, sequence_balance_loss};
use crate::precision::ProductFormat;
use crate::routing::RoutingControl;
use crate::{WeightInit, ops};

const TOKENS: usize = 37;
const TOP_K: usize = 3;
const EXPERTS: usize = 5;
const D: usize = 70;

fn groups() -> ExpertGroups {
    // One expert without a token.
    let choices: Vec<u32> = (0..TOKENS as u32)
        .flat_map(|token| if token % 2 == 0 { [0, 1, 4] } else { [0, 1, 2] })
        .collect();
    ExpertGroups::new(&choices, TOP_K, EXPERTS)
}

fn random<const N: usize>(seed: u64, shape: [usize; N], device: &Device) -> Tensor<N> {
    let values: Tensor<1> =
        WeightInit::normal(seed, 1.0, &Device::flex()).weight([shape.iter().product()]).val();
    Tensor::from_data(
        TensorData::new(values.into_data().try_to_vec::<f32>().unwrap(), shape),
        device,
    )
}

fn floats<const N: usize>(x: Tensor<N>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

/// Values and gradients of permute, the experts' linear, combine and the embedding on a device.
fn rows(device: &Device) -> Vec<(&'static str, Vec<f32>)> {
    let device = &device.clone().autodiff();
    let groups = groups();
    let x = random(1, [TOKENS, D], device).require_grad();
    let weights = random(2, [TOKENS, TOP_K], device).require_grad();
    let table = random(3, [11, D], device).require_grad();
    let tokens: Vec<i64> = (0..TOKENS as i64).map(|i| i * i % 7).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [1, TOKENS]), device);
    let y = ops::permute(x.clone(), &groups);
    let w = random(4, [EXPERTS, D, D], device).require_grad();
    let linear = ops::grouped_linear(y.clone(), w.clone(), &groups, ProductFormat::F32);
    let out = ops::combine(linear.clone() * 0.5, weights.clone(), &groups);
    let looked_up = ops::embedding(table.clone(), tokens).reshape([TOKENS, D]);
    let loss = (out.clone() * looked_up.clone() + looked_up.clone()).sum();
    let grads = loss.backward();
    vec![
        ("permute", floats(y)),
        ("grouped linear", floats(linear)),
        ("dw", floats(w.grad(&grads).unwrap())),
        ("combine", floats(out)),
        ("embedding", floats(looked_up)),
        ("dx", floats(x.grad(&grads).unwrap())),
        ("dweights", floats(weights.grad(&grads).unwrap())),
        ("dtable", floats(table.grad(&grads).unwrap())),
    ]
}

#[test]
fn rows_and_their_gradients_are_flex_s() {
    let gpu = test_gpu();
    for &operation in FusedOp::ALL {
        // A software renderer, as the tests have, has all of them.
        assert!(supports(operation, &random(1, [1, 1], &gpu)), "{operation:?}");
    }
    let (ours, flex) = (rows(&gpu), rows(&Device::flex()));
    for ((name, ours), (_, flex)) in ours.iter().zip(&flex) {
        let diff = calc_diff(ours, flex);
        assert!(diff < 1e-12, "{name}: calc_diff {diff:e}");
    }
    let again = rows(&gpu);
    assert_eq!(again, ours, "the same bits twice");
}

/// Values and gradients of the operations of a block and the head on a device, composed of Burn's
/// own or as the device has them.
fn block(device: &Device, interleaved: bool, composed: bool) -> Vec<(&'static str, Vec<f32>)> {
    const HEADS: usize = 3;
    const SEQ: usize = 19;
    let (nope, rope, v) = (7, 6, 9);
    let device = &device.clone().autodiff();
    let groups = &groups();
    let x = random(1, [TOKENS, D], device).require_grad();
    let gamma = random(2, [D], device).require_grad();
    let w = random(3, [2 * 20, D], device).require_grad();
    let down = random(4, [EXPERTS, D, 20], device).require_grad();
    let head = random(5, [43, D], device).require_grad();
    let q = random(6, [2, SEQ, HEADS, nope + rope], device).require_grad();
    let kv = random(7, [2, SEQ, HEADS, nope + v], device).require_grad();
    let k_rope = random(8, [2, SEQ, rope], device).require_grad();
    let angles = random(9, [SEQ, rope / 2], &device.clone().inner());
    let table = RopeTable::new(angles.clone().cos(), angles.sin(), interleaved);
    let targets: Vec<i32> = (0..TOKENS as i32).map(|i| i * i % 44 - 1).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [TOKENS]), device);
    let weights = Tensor::ones([TOKENS, TOP_K], device) * 0.1;
    let f32 = ProductFormat::F32;
    let (y, loss, turned, out);
    if composed {
        use ops::composed;
        let normed = composed::rms_norm(x.clone(), gamma.clone(), 1e-6);
        let hidden = composed::swiglu(composed::linear(normed.clone(), w.clone(), None));
        let rows = composed::permute(hidden, groups);
        let fed = composed::grouped_linear(rows, down.clone(), groups);
        y = composed::combine(fed, weights, groups) + normed;
        loss = composed::linear_cross_entropy(y.clone(), head.clone(), targets);
        turned = composed::rope(q.clone(), &table);
        out = composed::mla_attention(turned.clone(), kv.clone(), k_rope.clone(), 0.3);
    } else {
        let normed = ops::rms_norm(x.clone(), gamma.clone(), 1e-6);
        let hidden = ops::swiglu(ops::linear(normed.clone(), w.clone(), None, f32));
        let rows = ops::permute(hidden, groups);
        let fed = ops::grouped_linear(rows, down.clone(), groups, f32);
        y = ops::residual(ops::combine(fed, weights, groups), normed);
        loss = ops::linear_cross_entropy(y.clone(), head.clone(), targets, f32);
        turned = ops::rope(q.clone(), &table);
        out = ops::mla_attention(turned.clone(), kv.clone(), k_rope.clone(), 0.3, f32);
    }
    let again = out.clone().slice([0..2, 0..SEQ, 0..HEADS, 0..1]);
    let total = loss.clone() * 3.0 + (out.clone() * again).sum();
    let grads = total.backward();
    vec![
        ("y", floats(y)),
        ("loss", floats(loss)),
        ("turned", floats(turned)),
        ("out", floats(out)),
        ("dx", floats(x.grad(&grads).unwrap())),
        ("dgamma", floats(gamma.grad(&grads).unwrap())),
        ("dw", floats(w.grad(&grads).unwrap())),
        ("ddown", floats(down.grad(&grads).unwrap())),
        ("dhead", floats(head.grad(&grads).unwrap())),
        ("dq", floats(q.grad(&grads).unwrap())),
        ("dkv", floats(kv.grad(&grads).unwrap())),
        ("dk_rope", floats(k_rope.grad(&grads).unwrap())),
    ]
}

#[test]
fn a_block_s_operations_and_their_gradients_are_flex_s_and_the_composed_ones() {
    let (gpu, flex) = (test_gpu(), Device::flex());
    for interleaved in [false, true] {
        let ours = block(&gpu, interleaved, false);
        for (device, composed) in [(&flex, false), (&flex, true), (&gpu, true)] {
            let others = block(device, interleaved, composed);
            for ((name, ours), (_, other)) in ours.iter().zip(&others) {
                let diff = calc_diff(ours, other);
                assert!(diff < 1e-11, "{name}, composed {composed}: calc_diff {diff:e}");
            }
        }
        assert_eq!(block(&gpu, interleaved, false), ours, "the same bits twice");
    }
}

/// Decoding over latents: a prefix, and rows of a prompt that see each their own keys.
#[test]
fn absorbed_attention_is_flex_s_and_the_composed_one() {
    let run = |device: &Device, composed: bool| {
        let (heads, nope, rope, v, rank) = (3, 8, 4, 5, 12);
        [(1, 200), (3, 9)].map(|(queries, keys)| {
            let q = random(1, [2, queries, heads, nope + rope], device);
            let latents = random(2, [2, keys, rank], device);
            let k_rope = random(3, [2, keys, rope], device);
            let kv_b = random(4, [heads * (nope + v), rank], device);
            let attend = if composed {
                ops::composed::mla_absorbed_attention
            } else {
                ops::mla_absorbed_attention
            };
            floats(attend(q, latents, k_rope, kv_b, 0.3))
        })
    };
    let ours = run(&test_gpu(), false);
    for (device, composed) in [(Device::flex(), false), (Device::flex(), true), (test_gpu(), true)]
    {
        for (ours, other) in ours.iter().zip(run(&device, composed)) {
            let diff = calc_diff(ours, &other);
            assert!(diff < 1e-11, "composed {composed}: calc_diff {diff:e}");
        }
    }
    assert_eq!(run(&test_gpu(), false), ours, "the same bits twice");
}

/// Three steps, the last with a value that somebody else holds and must not see changed.
#[test]
fn adamw_and_sums_of_squares_are_flex_s() {
    let run = |device: &Device| {
        let (mut value, mut first, mut second) =
            (random(1, [300], device), Tensor::zeros([300], device), Tensor::zeros([300], device));
        let mut kept = value.clone();
        for step in 1..=3 {
            let scalars = AdamWScalars {
                lr: 1e-2,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                step,
                grad_scale: 0.5,
            };
            kept = value.clone();
            let before = floats(kept.clone());
            let grad = random(10 + step, [300], device);
            (value, first, second) = ops::adamw(value, grad, first, second, &scalars);
            assert_eq!(floats(kept.clone()), before, "a value that is held elsewhere");
        }
        let sums = ops::sums_of_squares(vec![value.clone(), first.clone(), kept]);
        let sums = sums.into_iter().map(|x| x as f32).collect();
        vec![floats(value), floats(first), floats(second), sums]
    };
    for (ours, flex) in run(&test_gpu()).iter().zip(run(&Device::flex())) {
        let diff = calc_diff(ours, &flex);
        assert!(diff < 1e-12, "calc_diff {diff:e}");
    }
}

/// Where CUDA takes them: products that are FP32 in truth, and no others' weights.
#[test]
fn linears_in_fp32_are_flex_s() {
    assert!(Supported::CUDA.has(FusedOp::Linear, burn::tensor::DType::F32));
    assert!(!Supported::CUBE.has(FusedOp::Linear, burn::tensor::DType::F32));
    let gpu = test_gpu();
    let DispatchDevice::Cube(device) = gpu.as_dispatch() else { panic!("not a device of CubeCL") };
    let on = |seed, shape: [usize; 2]| random(seed, shape, &Device::flex());
    let primitive = |x: &Tensor<2>| CubeBackend::float_from_data(x.to_data(), device);
    let value = |x| {
        let data: TensorData = read_sync(CubeBackend::float_into_data(x)).unwrap();
        data.try_to_vec::<f32>().unwrap()
    };
    let (x, w, dy) = (on(1, [19, D]), on(2, [6, D]), on(3, [19, 6]));
    let expected = [
        x.clone().matmul(w.clone().transpose()),
        dy.clone().matmul(w.clone()),
        dy.clone().transpose().matmul(x.clone()),
    ]
    .map(floats);
    for format in [ProductFormat::F32, ProductFormat::Bf16] {
        let [x, w, dy] = [&x, &w, &dy].map(primitive);
        let ours = [
            CubeBackend::linear_forward(x.clone(), w.clone(), format),
            CubeBackend::linear_input_gradient(dy.clone(), w, format),
            CubeBackend::linear_weight_gradient(dy, x, format),
        ]
        .map(value);
        for (ours, expected) in ours.iter().zip(&expected) {
            let diff = calc_diff(ours, expected);
            assert!(diff < 1e-12, "{format:?}: calc_diff {diff:e}");
        }
    }
}

/// What a router gives for logits below 0, so many times as large, and the gradients of its input
/// through gates and balance loss.
fn routed(asked: bool, large: f64, device: &Device) -> (Vec<u32>, Vec<u32>, [Vec<f32>; 3], u64) {
    let config = serde_json::json!({
        "vocab_size": 8, "hidden_size": D, "intermediate_size": 4, "moe_intermediate_size": 4,
        "num_hidden_layers": 2, "num_attention_heads": 1, "n_shared_experts": 1,
        "n_routed_experts": 8, "num_experts_per_tok": 3, "first_k_dense_replace": 1,
        "n_group": 4, "topk_group": 2, "norm_topk_prob": true, "routed_scaling_factor": 2.5,
        "kv_lora_rank": 4, "qk_nope_head_dim": 2, "qk_rope_head_dim": 2, "v_head_dim": 2,
        "max_position_embeddings": 8
    });
    let config = serde_json::from_value(config).unwrap();
    let device = &device.clone().autodiff();
    let mut router = Router::new(&config, 1, &mut WeightInit::normal(3, 0.3, device));
    router.weight = router.weight.map(|w| Tensor::from_inner(w.inner().abs().neg()));
    router.set_bias(&[0.0, 0.02, -0.01, 0.0, 0.03, 0.0, 0.0, -0.02]);
    let x = random(9, [2 * 18, D], device).require_grad();
    let control = asked.then(RoutingControl::default);
    let before = ops::host_reads();
    let routing = router.forward(x.clone().abs() * large, [2, 18], false, control.as_ref());
    let loss = sequence_balance_loss(&routing, &routing.unbiased_counts);
    let weights = routing.weights.clone();
    let gates = (weights.clone() * weights.clone().narrow(1, 0, 1)).sum();
    let grads = (loss.clone() + gates).backward();
    let reads = ops::host_reads() - before;
    let experts: Vec<u32> = routing.experts.into_data().iter::<u32>().collect();
    (
        experts,
        routing.unbiased_counts.on_host(),
        [floats(weights), floats(loss), floats(x.grad(&grads).unwrap())],
        reads,
    )
}

/// A device that chooses reads nothing; a router that is asked for something chooses on the host and
/// gives the same bits, of scores that do not underflow, that do, and that are 0.
#[test]
fn a_router_that_is_asked_gives_the_bits_of_the_device_s_own_choice() {
    let gpu = test_gpu();
    for large in [0.1, 4.0, 40.0] {
        let (experts, counts, values, reads) = routed(false, large, &gpu);
        let (asked_experts, asked_counts, asked, asked_reads) = routed(true, large, &gpu);
        assert_eq!((reads, asked_reads), (0, 1));
        assert_eq!((&experts, &counts), (&asked_experts, &asked_counts));
        assert_eq!(values, asked, "logits {large} times as large");
        assert!(values.iter().flatten().all(|value| value.is_finite()));
    }
    let ((experts, counts, values, _), (flex_experts, flex_counts, flex, _)) =
        (routed(false, 0.1, &gpu), routed(false, 0.1, &Device::flex()));
    assert_eq!((experts, counts), (flex_experts, flex_counts));
    for (values, flex) in values.iter().zip(&flex) {
        let diff = calc_diff(values, flex);
        assert!(diff < 1e-9, "calc_diff {diff:e}");
    }
}

/// The choice, its tables and what is computed by them, all without a read, are those of the host.
#[test]
fn a_device_s_choice_is_the_host_s() {
    let gpu = test_gpu();
    let shape = RouteShape {
        tokens: TOKENS,
        experts: 8,
        top_k: TOP_K,
        groups: 4,
        kept_groups: 2,
        group_score: GroupScore::BestTwo,
    };
    let scores = burn::tensor::activation::sigmoid(random(7, [TOKENS, 8], &Device::flex()));
    let bias = random(8, [8], &Device::flex()) * 0.1;
    let selection = ExpertSelection {
        experts: 8,
        top_k: TOP_K,
        groups: 4,
        kept_groups: 2,
        method: TopkMethod::NoauxTc,
    };
    let choices = selection.choose(&floats(scores.clone()), &floats(bias.clone()));
    let expected = ExpertGroups::new(&choices, TOP_K, 8);
    let on = |x: TensorData| Tensor::from_data(x, &gpu);
    let scores = on(scores.into_data());
    let bias = Tensor::<1>::from_data(bias.into_data(), &gpu);
    let before = ops::host_reads();
    let groups = ops::routing::route(scores.clone(), bias, shape);
    assert_eq!((groups.tokens(), groups.rows(), groups.experts()), (TOKENS, TOKENS * TOP_K, 8));
    let (here, there) = (groups.tables(&gpu), expected.tables(&gpu));
    let x = random(1, [TOKENS, D], &gpu);
    let permuted = [&groups, &expected].map(|groups| ops::permute(x.clone(), groups));
    assert_eq!(ops::host_reads(), before, "nothing is read");
    assert_eq!(here.bounds.into_data(), there.bounds.into_data());
    assert_eq!(here.row_of_slot.into_data(), there.row_of_slot.into_data());
    assert_eq!(here.token_of_row.into_data(), there.token_of_row.into_data());
    assert_eq!(here.slot_of_row.into_data(), there.slot_of_row.into_data());
    let [here, there] = permuted.map(floats);
    assert_eq!(here, there);
    let loads = groups.chosen().unwrap().loads.clone().into_data();
    assert_eq!(loads.iter::<u64>().collect::<Vec<_>>(), expected.loads());
    assert_eq!(groups, expected);
    assert_eq!(ops::host_reads(), before + 1, "the host's view is one read");
    assert_eq!(groups.offsets(), expected.offsets());
    assert_eq!(ops::host_reads(), before + 1);
}
