//! Operations behind the fusion decorator: the bits of the backend inside, from a queue that has
//! Burn's own operations in it too.

#![allow(clippy::unwrap_used)] // these are tests; clippy does not see that of their helpers

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Cube, DispatchDevice, TensorMetadata};
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Shape, Tensor, TensorData, read_sync};
use burn_cubecl::{CubeBackend, CubeDevice};
use burn_fusion::custom::OperationIr;
use burn_fusion::observer::{BlockOperations, FusionObservation, FusionObserver};
use cubecl_kernels::definition::{GroupedColumns, QuantizeOptions, RowSums, WireFormat};
use cubecl_kernels::metric::calc_diff;

use super::fp8::{
    Fp8Kernels, Fp8Matrix, Fp8Weight, GroupedLinearShape, RowGroups, Side, SwigluColumns,
};
use super::{RowTables, WireKernels, bf16_products, fp8_products, test_gpu};
use crate::definition::ExpertGroups;
use crate::precision::{Fp8Recipe, Fp8Rule, KeptActivation, Operation, Precision, Rule};
use crate::{Compute, Linear, WeightInit};

const ROWS: usize = 150;
const D: usize = 140;
const INTER: usize = 36;
const TOKENS: usize = 80;

fn cube_device() -> CubeDevice {
    match test_gpu().as_dispatch() {
        DispatchDevice::Cube(device) => device.clone(),
        other => panic!("{other:?} is not a device of CubeCL"),
    }
}

/// A device without E4M3 tensor cores says of each path why it does not take it.
#[test]
fn a_device_says_how_it_multiplies_in_fp8() {
    let gpu = test_gpu();
    let said = fp8_products(&gpu).unwrap();
    assert_eq!(fp8_products(&gpu.autodiff()), Some(said.clone()));
    assert!(said.starts_with("portable (wgmma") || said.starts_with("tensor cores by "), "{said}");
    assert_eq!(fp8_products(&Device::flex()), None);
}

/// And one without BF16 matrix instructions that FP32 stands in for them.
#[test]
fn a_device_says_how_it_multiplies_in_bf16() {
    let gpu = test_gpu();
    let said = bf16_products(&gpu).unwrap();
    assert_eq!(bf16_products(&gpu.autodiff()), Some(said.clone()));
    assert!(
        said.starts_with("FP32 in its place (the device") || said.starts_with("tensor cores"),
        "{said}"
    );
    assert_eq!(bf16_products(&Device::flex()), None);
}

/// What the decorator has been given, and in how large pieces it went on.
#[derive(Default)]
struct Log {
    custom: Mutex<BTreeSet<String>>,
    /// The most operations of Burn's that one kernel was made of, of those that give a tensor of a
    /// shape which only one test has.
    fused: Mutex<usize>,
}

/// A shape that no other test has.
const OURS: [usize; 2] = [ROWS + 1, D];

impl FusionObserver for Log {
    fn registered(&self, operation: &OperationIr) {
        if let OperationIr::Custom(operation) = operation {
            self.custom.lock().unwrap().insert(operation.id.clone());
        }
    }

    fn block_starts(&self, block: BlockOperations<'_>) {
        let ours = |operation: &&OperationIr| {
            operation.outputs().any(|output| output.shape == Shape::from(OURS))
        };
        let count = block.iter().filter(ours).count();
        let mut most = self.fused.lock().unwrap();
        *most = count.max(*most);
    }

    fn block_ran(&self) {}
}

/// The operations on one backend, and what they gave.
struct Results<'a, B: Backend> {
    device: &'a B::Device,
    data: Vec<TensorData>,
}

impl<B: Fp8Kernels + WireKernels> Results<'_, B> {
    fn tensor(&self, seed: u64, shape: impl Into<Shape>) -> FloatTensor<B> {
        let shape = shape.into();
        let values: Tensor<1> =
            WeightInit::normal(seed, 1.0, &Device::flex()).weight([shape.num_elements()]).val();
        B::float_from_data(
            TensorData::new(values.into_data().try_to_vec::<f32>().unwrap(), shape),
            self.device,
        )
    }

    fn ints<const N: usize>(&self, words: Tensor<N, Int>) -> IntTensor<B> {
        let shape = words.shape();
        let words: Vec<u32> = words.into_data().iter().collect();
        B::int_from_data(TensorData::new(words, shape), self.device)
    }

    /// The shape and the type are known before the values are.
    fn floats(&mut self, x: FloatTensor<B>) {
        let (shape, dtype) = (x.shape(), x.dtype());
        let data = read_sync(B::float_into_data(x)).unwrap();
        assert_eq!((data.shape(), data.dtype()), (&shape, dtype));
        assert_eq!(dtype, DType::F32);
        self.data.push(data);
    }

    fn words(&mut self, x: IntTensor<B>) {
        let (shape, dtype) = (x.shape(), x.dtype());
        let data = read_sync(B::int_into_data(x)).unwrap();
        assert_eq!((data.shape(), data.dtype()), (&shape, dtype));
        assert_eq!(dtype, DType::U32);
        self.data.push(data);
    }

    fn matrix(&mut self, x: &Fp8Matrix<B>) {
        self.words(x.codes.clone());
        self.floats(x.scales.clone());
    }

    fn weight(&mut self, w: &Fp8Weight<B>) {
        self.words(w.codes.clone());
        self.words(w.transposed.clone());
        self.floats(w.scales.clone());
    }

    fn fp8(&mut self, rule: Fp8Rule) {
        // Expert 1 has no row.
        let choices: Vec<u32> = (0..ROWS as u32).map(|i| if i % 3 == 0 { 0 } else { 2 }).collect();
        let on_host = ExpertGroups::new(&choices, 1, 3);
        let layout = GroupedColumns::new("test", on_host.offsets(), ROWS).unwrap();
        let bounds = [on_host.offsets(), &layout.words, &layout.tiles].into_iter().flatten();
        let bounds: Vec<u32> = bounds.map(|&bound| bound as u32).collect();
        let table = B::int_from_data(TensorData::new(bounds, [3, 4]), self.device);
        let (options, t) = (QuantizeOptions::default(), || table.clone());
        let g = RowGroups::most(ROWS, 3);
        let shape = GroupedLinearShape { rows: ROWS, inputs: D, outputs: 2 * INTER, experts: 3 };
        let (x, dy) = (self.tensor(3, [ROWS, D]), self.tensor(4, [ROWS, 2 * INTER]));

        let rows = B::fp8_quantize_rows(x.clone(), options);
        let columns = B::fp8_quantize_columns(x.clone(), t(), g, options);
        let both = B::fp8_quantize_both(dy.clone(), t(), g, options);
        let flat = B::fp8_quantize_weight(self.tensor(6, [70, D]), options);
        let weight = B::fp8_quantize_weight(self.tensor(5, [3, 2 * INTER, D]), options);
        let kept = B::e5m6_quantize(x);
        for matrix in [&rows, &both.rows, &kept] {
            self.matrix(matrix);
        }
        // Rows of transposed codes have words behind the last group's, which are not written: of
        // these their values are compared.
        self.floats(B::fp8_dequantize_columns(both.columns.clone(), t(), g, options));
        self.weight(&flat);
        self.weight(&weight);
        self.floats(B::fp8_dequantize_rows(rows.clone(), D, options));
        self.floats(B::fp8_dequantize_columns(columns.clone(), t(), g, options));
        self.floats(B::fp8_dequantize_weight(weight.clone(), shape, options));
        self.floats(B::e5m6_dequantize(kept.clone(), D));
        for (x, how) in [
            (&columns, KeptActivation::Columns),
            (&rows, KeptActivation::Rows),
            (&kept, KeptActivation::E5m6),
        ] {
            let columns = B::fp8_requantize(x.clone(), t(), D, g, how, options);
            self.floats(B::fp8_dequantize_columns(columns, t(), g, options));
        }
        self.floats(B::fp8_gemm(rows, weight.clone(), t(), g, shape, Side::Fprop, rule));
        self.floats(B::fp8_gemm(both.rows.clone(), weight, t(), g, shape, Side::Dgrad, rule));
        self.floats(B::fp8_weight_gradient(both.columns, columns, t(), g, shape, rule));
        // Two rows of each token.
        let choices: Vec<u32> = (0..TOKENS).flat_map(|i| [u32::from(i % 3 == 0), 2]).collect();
        let chosen = ExpertGroups::new(&choices, 2, 3).tables(&Device::flex());
        let rows = RowTables::<B> {
            bounds: self.ints(chosen.bounds),
            row_of_slot: self.ints(chosen.row_of_slot),
            token_of_row: self.ints(chosen.token_of_row),
            slot_of_row: self.ints(chosen.slot_of_row),
        };
        let (x, of) = (self.tensor(13, [TOKENS, D]), RowGroups::most(2 * TOKENS, 3));
        self.matrix(&B::fp8_permute_rows(x.clone(), rows.clone(), options));
        let both = B::fp8_permute_both(x, rows.clone(), of, options);
        self.matrix(&both.rows);
        self.floats(B::fp8_dequantize_columns(both.columns, rows.bounds, of, options));
        self.matrix(&B::fp8_swiglu_rows(dy.clone(), options));
        let hidden = B::fp8_swiglu_rows_and_input(dy, options);
        self.matrix(&hidden.rows);
        self.matrix(&hidden.gate_up);
        let call = SwigluColumns { columns: INTER, groups: g, kept: options, options };
        let columns = B::fp8_swiglu_columns(both.rows.clone(), t(), call);
        self.floats(B::fp8_dequantize_columns(columns, t(), g, options));
        self.floats(B::fp8_swiglu_backward(both.rows, self.tensor(7, [ROWS, INTER]), options));
    }

    fn wire(&mut self) {
        let index: Arc<[u32]> = [1, 0, 2, 0, 1].into();
        let sums = Arc::new(RowSums::of_gather(&index, 3).unwrap());
        for format in [WireFormat::F32, WireFormat::Bf16, WireFormat::Fp8] {
            let wire = B::wire_pack(self.tensor(8, [3, 130]), index.clone(), format);
            self.words(wire.clone());
            self.floats(B::wire_unpack(wire.clone(), [4, 0].into(), 130, format));
            self.floats(B::wire_sum(wire.clone(), sums.clone(), 130, format));
            self.floats(B::wire_combine(wire, self.tensor(9, [5]), sums.clone(), 130, format));
        }
        self.floats(B::wire_sum_values(self.tensor(10, [5, 130]), sums));
    }
}

fn results<B: Fp8Kernels + WireKernels>(device: &B::Device) -> Vec<TensorData> {
    let Rule::Fp8(rule) = Precision::Fp8(Fp8Recipe::default()).rule(Operation::GateUp) else {
        unreachable!("linears are in FP8")
    };
    let mut results = Results::<B> { device, data: Vec::new() };
    results.fp8(rule);
    results.wire();
    results.data
}

#[test]
fn every_operation_gives_the_bits_of_the_backend_inside() {
    let (device, log) = (cube_device(), Arc::new(Log::default()));
    assert!(Cube::name(&device).starts_with("fusion<"), "{}", Cube::name(&device));
    let observation = FusionObservation::new(log.clone());
    let behind = results::<Cube>(&device);
    drop(observation);
    assert!(behind == results::<CubeBackend>(&device));
    let names = "fp8_quantize_rows fp8_quantize_columns fp8_quantize_both fp8_quantize_weight \
                 fp8_dequantize_rows fp8_dequantize_columns \
                 fp8_dequantize_weight e5m6_quantize e5m6_dequantize fp8_requantize fp8_gemm \
                 fp8_weight_gradient fp8_permute_rows fp8_permute_both fp8_swiglu_rows \
                 fp8_swiglu_rows_and_input fp8_swiglu_columns fp8_swiglu_backward wire_pack wire_unpack wire_sum \
                 wire_combine wire_sum_values";
    let log = log.custom.lock().unwrap();
    for name in names.split_whitespace() {
        assert!(log.contains(name), "{name} is not among what the decorator was given: {log:?}");
    }
}

/// Burn's operations before and after an FP8 linear: the gradients of the input and of the weight.
fn chain(device: &Device) -> [Vec<f64>; 3] {
    let init = &mut WeightInit::normal(5, 0.1, device);
    let layer = Linear::new(D, D, false, init).train();
    let (x, dy): (Tensor<2>, Tensor<2>) = (init.weight(OURS).val(), init.weight(OURS).val());
    // What is made on one thread is used on another, where the decorator has another queue.
    let x = std::thread::spawn(move || x * 8.0 - 0.5).join().unwrap();
    let x = Tensor::from_inner(x).require_grad();
    let compute = Compute::unchecked(Precision::Fp8(Fp8Recipe::default()));
    let h = compute.linear(Operation::QueryUp, (x.clone() * 0.5 + 0.25).abs(), &layer);
    let y = compute.linear(Operation::AttentionOutput, (h * 2.0 - 1.0).abs() * 0.5, &layer);
    let out = (y * 0.25 + x.clone()).abs();
    let mut grads = (out.clone() * Tensor::from_inner(dy)).sum().backward();
    let dx = x.grad_remove(&mut grads).expect("the input requires a gradient");
    let weight = layer.weight.parameter().expect("a weight that is trained");
    let dw = weight.grad_remove(&mut grads).expect("the weight requires a gradient");
    [out.inner(), dx, dw]
        .map(|x| x.into_data().try_to_vec::<f32>().unwrap().into_iter().map(f64::from).collect())
}

#[test]
fn a_chain_with_operations_of_burn_is_fused_around_them_and_has_the_gradients_of_flex() {
    let log = Arc::new(Log::default());
    let observation = FusionObservation::new(log.clone());
    let behind = chain(&test_gpu());
    drop(observation);
    for (behind, flex) in behind.iter().zip(&chain(&Device::flex())) {
        let diff = calc_diff(behind, flex);
        assert!(diff < 1e-5, "{diff}");
    }
    let fused = *log.fused.lock().unwrap();
    assert!(fused >= 2, "no two of Burn's operations became one kernel: {fused}");
}
