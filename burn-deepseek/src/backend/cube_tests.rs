//! The fused operations of CubeCL's devices against Flex's, values and gradients, and what they
//! keep with a routing decision.

#![allow(clippy::unwrap_used)] // these are tests; clippy does not see that of their helpers

use std::sync::Arc;

use burn::backend::DispatchDevice;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Device, Int, Tensor, TensorData, read_sync};
use burn_cubecl::CubeBackend;
use cubecl_kernels::metric::calc_diff;

use super::fp8::RowGroups;
use super::kernels::FusedKernels;
use super::operations::Supported;
use super::{FusedOp, supports, test_gpu};
use crate::definition::ExpertGroups;
use crate::precision::ProductFormat;
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

/// Values and gradients of permute, combine and the embedding on a device.
fn rows(device: &Device) -> Vec<(&'static str, Vec<f32>)> {
    let device = &device.clone().autodiff();
    let groups = groups();
    let x = random(1, [TOKENS, D], device).require_grad();
    let weights = random(2, [TOKENS, TOP_K], device).require_grad();
    let table = random(3, [11, D], device).require_grad();
    let tokens: Vec<i64> = (0..TOKENS as i64).map(|i| i * i % 7).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [1, TOKENS]), device);
    let y = ops::permute(x.clone(), &groups);
    let out = ops::combine(y.clone() * 0.5, weights.clone(), &groups);
    let looked_up = ops::embedding(table.clone(), tokens).reshape([TOKENS, D]);
    let loss = (out.clone() * looked_up.clone() + looked_up.clone()).sum();
    let grads = loss.backward();
    vec![
        ("permute", floats(y)),
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
    for operation in [FusedOp::Permute, FusedOp::Combine, FusedOp::Embedding] {
        assert!(supports(operation, &random(1, [1, 1], &gpu)), "{operation:?}");
    }
    let (ours, flex) = (rows(&gpu), rows(&Device::flex()));
    for ((name, ours), (_, flex)) in ours.iter().zip(&flex) {
        let diff = calc_diff(ours, flex);
        assert!(diff < 1e-13, "{name}: calc_diff {diff:e}");
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

/// A layer's casts and products share one table on the device.
#[test]
fn a_routing_decision_s_tables_are_made_once() {
    let gpu = test_gpu();
    let DispatchDevice::Cube(device) = gpu.as_dispatch() else { panic!("not a device of CubeCL") };
    let place = super::cube_tensor::Place::of_device(device);
    let groups = groups();
    let (first, second) = (RowGroups::from(&groups), RowGroups::from(&groups.clone()));
    let of = |groups: &RowGroups| super::fp8::groups_on(&place, groups);
    assert!(Arc::ptr_eq(&of(&first), &of(&second)));
    assert!(Arc::ptr_eq(&of(&first), &of(&first.clone())));
    let other = RowGroups::from(&self::groups());
    assert!(!Arc::ptr_eq(&of(&first), &of(&other)));
}
