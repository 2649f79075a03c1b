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
use crate::definition::ExpertGroups;
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
    for operation in [
        FusedOp::Permute,
        FusedOp::GroupedLinear,
        FusedOp::Combine,
        FusedOp::Embedding,
        FusedOp::Route,
    ] {
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
