//! FP8 linears on Burn tensors (3.3). For tensors of a device that
//! [`crate::backend::supports_fp8`].

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Int, Tensor};
use cubecl_kernels::definition::QuantizeOptions;

use crate::backend::fp8::{
    CastCounter, CastKind, Fp8Kernels, Fp8Matrix, Fp8Ops, Fp8Pair, Fp8Weight, LinearCall,
    ROWS_A_COUNTED_ONE, RowGroups, Side, every,
};
use crate::backend::supports_route;
use crate::definition::ExpertGroups;
use crate::precision::{CastLayout, KeptActivation};

/// Rows by expert as FP8 operations take them.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Their numbers.
    pub groups: RowGroups,
    /// Which are whose, [`GroupTables::bounds`](crate::definition::GroupTables::bounds); of one
    /// group it is not read.
    pub table: Tensor<2, Int>,
}

impl Rows {
    /// So many rows of a device in one group.
    pub fn one(rows: usize, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        Self { groups: RowGroups::one(rows), table: Tensor::empty([1, 1], (&device, DType::U32)) }
    }

    /// The rows of experts, on the device of x.
    pub fn of(groups: &ExpertGroups, x: &Tensor<2>) -> Self {
        let sizes = if supports_route(&x.device()) {
            RowGroups::most(groups.rows(), groups.experts())
        } else {
            RowGroups::exact(groups)
        };
        Self { groups: sizes, table: groups.tables(&x.device()).bounds }
    }
}

/// The input of one or more linears, quantized once.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one lives for the length of a call
pub enum Input {
    /// For products alone.
    Forward(Fp8Matrix<Dispatch>),
    /// For products and for Wgrad.
    Differentiable(Fp8Pair<Dispatch>),
}

impl Input {
    /// Quantizes x `[rows, inputs]` as the call's rule says; for Wgrad too where x is on an
    /// autodiff device. `table` is that of the call's groups.
    pub fn new(x: &Tensor<2>, table: &Tensor<2, Int>, call: &LinearCall) -> Self {
        let options = call.rule.activations;
        let rows = |x: Tensor<2>| Dispatch::fp8_quantize_rows(x.into_dispatch(), options);
        if !x.device().is_autodiff() {
            let codes = rows(x.clone());
            call.tell_of_activations(x.clone(), &codes, ROWS_A_COUNTED_ONE);
            return Self::Forward(codes);
        }
        let x = x.clone().inner();
        let both = match call.rule.kept {
            _ if call.recompute => {
                // Wgrad's codes will be made in backward, from the input computed again.
                let rows = rows(x.clone());
                Fp8Pair { columns: rows.clone(), rows }
            }
            KeptActivation::Columns => {
                let table = table.clone().into_dispatch();
                Dispatch::fp8_quantize_both(x.clone().into_dispatch(), table, call.groups, options)
            }
            KeptActivation::E5m6 => Fp8Pair {
                rows: rows(x.clone()),
                columns: Dispatch::e5m6_quantize(x.clone().into_dispatch()),
            },
            KeptActivation::Rows => {
                let rows = rows(x.clone());
                Fp8Pair { columns: rows.clone(), rows }
            }
        };
        call.tell_of_activations(x, &both.rows, ROWS_A_COUNTED_ONE);
        Self::Differentiable(both)
    }
}

impl LinearCall {
    /// Tells of the cast of an input, without autodiff, in every `stride`-th row, where that is
    /// wanted.
    fn tell_of_activations(&self, x: Tensor<2>, codes: &Fp8Matrix<Dispatch>, stride: usize) {
        if let Some(counter) = &self.counter {
            let scales = Tensor::from_dispatch(codes.scales.clone());
            let format = self.rule.activations.format;
            counter.add(CastKind::Activations, x, scales, CastLayout::Tiles, format, stride);
        }
    }
}

/// Quantizes a weight in 128x128 blocks, for both of its products, and tells `counter` of it.
///
/// # Shapes
///
/// - w: `[outputs, inputs]` or `[experts, outputs, inputs]`
pub fn quantize_weight<const D: usize>(
    w: Tensor<D>,
    options: QuantizeOptions,
    counter: Option<&CastCounter>,
) -> Fp8Weight<Dispatch> {
    let dims = w.dims();
    let (outputs, inputs) = (dims[D - 2], dims[D - 1]);
    let w = w.inner();
    let weight = Dispatch::fp8_quantize_weight(w.clone().into_dispatch(), options);
    if let Some(counter) = counter {
        let w = w.reshape([-1, inputs as i64]);
        let scales = Tensor::from_dispatch(weight.scales.clone());
        let layout = CastLayout::Blocks { outputs };
        counter.add(CastKind::Weights, w, scales, layout, options.format, 1);
    }
    weight
}

/// `y = x w^T` in FP8, differentiable in x and w where they are on an autodiff device.
///
/// # Shapes
///
/// - x: `[rows, inputs]`, of which `input` was made, by expert as `table` says; w: `[outputs, inputs]` or
///   `[experts, outputs, inputs]`, of which `weight` was made
/// - output: `[rows, outputs]`
pub fn linear<const D: usize>(
    x: Tensor<2>,
    input: &Input,
    w: Tensor<D>,
    weight: &Fp8Weight<Dispatch>,
    table: &Tensor<2, Int>,
    call: LinearCall,
) -> Tensor<2> {
    let table = table.clone().into_dispatch();
    Tensor::from_dispatch(match input.clone() {
        Input::Forward(rows) => Dispatch::fp8_gemm(
            rows,
            weight.clone(),
            table,
            call.groups,
            call.shape,
            Side::Fprop,
            call.rule,
        ),
        Input::Differentiable(both) => Dispatch::fp8_linear(
            x.into_dispatch(),
            both,
            w.into_dispatch(),
            weight.clone(),
            table,
            call,
        ),
    })
}

/// The linear of each expert on the rows of tokens, `y = permute(x) w^T`, in FP8, differentiable in x
/// and w where they are on an autodiff device: the same bits as [`super::permute`] and [`linear`] of
/// an input that is kept as [`KeptActivation::Columns`], without the rows in FP32. Nothing is told of
/// their cast.
///
/// # Shapes
///
/// - x: `[tokens, inputs]`, by expert as `groups` says; w: `[experts, outputs, inputs]`, of which
///   `weight` was made
/// - output: `[rows, outputs]`
pub fn permute_linear(
    x: Tensor<2>,
    groups: &ExpertGroups,
    w: Tensor<3>,
    weight: &Fp8Weight<Dispatch>,
    call: LinearCall,
) -> Tensor<2> {
    let rows = super::routing::tables(groups, &x.device());
    Tensor::from_dispatch(if x.device().is_autodiff() {
        Dispatch::fp8_permute_linear(
            x.into_dispatch(),
            w.into_dispatch(),
            weight.clone(),
            rows,
            call,
        )
    } else {
        let LinearCall { groups, shape, rule, .. } = call;
        let table = rows.bounds.clone();
        let rows = Dispatch::fp8_permute_rows(x.into_dispatch(), rows, rule.activations);
        Dispatch::fp8_gemm(rows, weight.clone(), table, groups, shape, Side::Fprop, rule)
    })
}

/// `y = (silu(gate) * up) w^T` in FP8, differentiable in gate_up and w where they are on an
/// autodiff device.
///
/// # Shapes
///
/// - gate_up: `[rows, 2 * inputs]`, gate first; w: `[outputs, inputs]` or
///   `[experts, outputs, inputs]`, of which `weight` was made
/// - output: `[rows, outputs]`
pub fn swiglu_linear<const D: usize>(
    gate_up: Tensor<2>,
    w: Tensor<D>,
    weight: &Fp8Weight<Dispatch>,
    table: &Tensor<2, Int>,
    call: LinearCall,
) -> Tensor<2> {
    if call.counter.is_some() {
        // Once more by itself, in the rows that count: the kernels give the codes of the product
        // without its values.
        let autodiff = gate_up.device().is_autodiff();
        let hidden = if autodiff { gate_up.clone().inner() } else { gate_up.clone() };
        let hidden = super::swiglu(every(hidden, ROWS_A_COUNTED_ONE));
        let options = call.rule.activations;
        let codes = Dispatch::fp8_quantize_rows(hidden.clone().into_dispatch(), options);
        call.tell_of_activations(hidden, &codes, 1);
    }
    let table = table.clone().into_dispatch();
    Tensor::from_dispatch(if gate_up.device().is_autodiff() {
        Dispatch::fp8_swiglu_linear(
            gate_up.into_dispatch(),
            w.into_dispatch(),
            weight.clone(),
            table,
            call,
        )
    } else {
        let hidden = Dispatch::fp8_swiglu_rows(gate_up.into_dispatch(), call.rule.activations);
        let LinearCall { groups, shape, rule, .. } = call;
        Dispatch::fp8_gemm(hidden, weight.clone(), table, groups, shape, Side::Fprop, rule)
    })
}
