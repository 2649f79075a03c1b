//! FP8 linears on the autodiff decorator: Fprop, Dgrad and Wgrad from the kernels of the backend
//! inside.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, BackendTensor, DispatchKindConversion, DispatchTensor};
use burn::tensor::Tensor;
use cubecl_kernels::definition::{CastLayout, QuantizeOptions, ScaleFormat};

use super::counter::CastKind;
use super::counts::ROWS_A_COUNTED_ONE;
use super::kernels::{Fp8Kernels, SwigluColumns};
use super::linear::{Fp8Ops, LinearCall};
use super::matrix::{Fp8Matrix, Fp8Pair, Fp8Weight};
use super::shapes::Side;
use crate::backend::autodiff::{Backprop, Graph, inner_rows};
use crate::backend::kernels::{FusedKernels, RowTables};
use crate::precision::KeptActivation;

/// Out of the decorator: codes have no gradient, and scales are constants.
fn inner<B: Backend, C: CheckpointStrategy>(x: Fp8Matrix<Autodiff<B, C>>) -> Fp8Matrix<B> {
    Fp8Matrix { codes: x.codes, scales: x.scales.into_primitive() }
}

fn inner_weight<B: Backend, C: CheckpointStrategy>(w: Fp8Weight<Autodiff<B, C>>) -> Fp8Weight<B> {
    Fp8Weight { codes: w.codes, transposed: w.transposed, scales: w.scales.into_primitive() }
}

impl<B: Fp8Kernels + FusedKernels, C: CheckpointStrategy> Fp8Ops for Autodiff<B, C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn fp8_linear(
        x: FloatTensor<Self>,
        input: Fp8Pair<Self>,
        w: FloatTensor<Self>,
        weight: Fp8Weight<Self>,
        table: IntTensor<Self>,
        call: LinearCall,
    ) -> FloatTensor<Self> {
        let weight = inner_weight(weight);
        let (rows, columns) = (inner(input.rows), inner(input.columns));
        let y = product(rows.clone(), weight.clone(), table.clone(), Side::Fprop, &call);
        let backward = move |mut graph: Backprop<B, 2>, dy, (kept, weight, table, call)| {
            let dy = dgrad(&mut graph, dy, weight, &table, &call, |dx| dx);
            let Some(w) = graph.inputs[1] else { return };
            // What the graph holds is taken out now: a deferred product may come after the graph is
            // gone.
            let kept = match kept {
                KeptInput::Recomputed(x) => {
                    let (x, table) = (graph.value(x), IntTensor::<B>::clone(&table));
                    let options = call.rule.activations;
                    KeptInput::Columns(B::fp8_quantize_columns(x, table, call.groups, options))
                }
                kept => kept,
            };
            wgrad(&mut graph, w, call, dy, table, move |call, table| columns_of(kept, call, table));
        };
        if call.recompute {
            let (weight_again, table_again, call_again) =
                (weight.clone(), table.clone(), call.clone());
            let again = move |[x]: [FloatTensor<B>; 1]| {
                let rows = B::fp8_quantize_rows(x, call_again.rule.activations);
                let (weight, table) = (weight_again.clone(), table_again.clone());
                product(rows, weight, table, Side::Fprop, &call_again)
            };
            Graph::<B, C>::record_again(
                [&x, &w],
                ([x.id()], again),
                y,
                |step| (KeptInput::Recomputed(step.checkpoint(&x)), weight, table, call),
                backward,
            )
        } else {
            let kept = match call.rule.kept {
                KeptActivation::Columns => KeptInput::Columns(columns),
                KeptActivation::Rows => KeptInput::Rows(rows),
                KeptActivation::E5m6 => KeptInput::E5m6(columns),
            };
            let kept = (kept, weight, table, call);
            Graph::<B, C>::record([x.node(), w.node()], y, |_| kept, backward)
        }
    }

    fn fp8_permute_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        weight: Fp8Weight<Self>,
        rows: RowTables<Self>,
        call: LinearCall,
    ) -> FloatTensor<Self> {
        let (weight, rows) = (inner_weight(weight), inner_rows(rows));
        let ((x, node), table) = (x.into_parts(), rows.bounds.clone());
        let (groups, options) = (call.groups, call.rule.activations);
        let input = B::fp8_permute_both(x, rows.clone(), groups, options);
        Graph::<B, C>::record(
            [node, w.node()],
            product(input.rows, weight.clone(), table, Side::Fprop, &call),
            |_| (input.columns, weight, rows, call),
            |mut graph, dy, (columns, weight, rows, call)| {
                let table = rows.bounds.clone();
                let dy = dgrad(&mut graph, dy, weight, &table, &call, |d_rows| {
                    B::permute_backward(d_rows, rows)
                });
                let Some(w) = graph.inputs[1] else { return };
                wgrad(&mut graph, w, call, dy, table, move |_, _| columns);
            },
        )
    }

    fn fp8_swiglu_linear(
        gate_up: FloatTensor<Self>,
        w: FloatTensor<Self>,
        weight: Fp8Weight<Self>,
        table: IntTensor<Self>,
        call: LinearCall,
    ) -> FloatTensor<Self> {
        let weight = inner_weight(weight);
        let (gate_up, node) = gate_up.into_parts();
        let options = call.rule.activations;
        let hidden = B::fp8_swiglu_rows_and_input(gate_up, options);
        Graph::<B, C>::record(
            [node, w.node()],
            product(hidden.rows, weight.clone(), table.clone(), Side::Fprop, &call),
            |_| (hidden.gate_up, weight, table, call),
            move |mut graph, dy, (gate_up, weight, table, call)| {
                let dy = dgrad(&mut graph, dy, weight, &table, &call, |dh| {
                    B::fp8_swiglu_backward(gate_up.clone(), dh, options)
                });
                let Some(w) = graph.inputs[1] else { return };
                wgrad(&mut graph, w, call, dy, table, move |call, table| {
                    let (columns, groups) = (call.shape.inputs, call.groups);
                    let call = SwigluColumns { columns, groups, kept: options, options };
                    B::fp8_swiglu_columns(gate_up, table, call)
                });
            },
        )
    }
}

/// What Wgrad's input is made from.
#[derive(Clone, Debug)]
enum KeptInput<B: Backend> {
    /// Its codes in 128x1 tiles.
    Columns(Fp8Matrix<B>),
    /// Its codes in 1x128 tiles.
    Rows(Fp8Matrix<B>),
    /// Its E5M6 codes.
    E5m6(Fp8Matrix<B>),
    /// The input itself, which its own operation computes again.
    Recomputed(NodeId),
}

/// Fprop or Dgrad of codes in 1x128 tiles.
fn product<B: Fp8Kernels>(
    codes: Fp8Matrix<B>,
    weight: Fp8Weight<B>,
    table: IntTensor<B>,
    side: Side,
    call: &LinearCall,
) -> FloatTensor<B> {
    B::fp8_gemm(codes, weight, table, call.groups, call.shape, side, call.rule)
}

/// Dgrad, where it is wanted, and `finish` of it as the gradient of the first input. Gives the
/// codes of the output's gradient for Wgrad.
fn dgrad<B: Fp8Kernels>(
    graph: &mut Backprop<B, 2>,
    dy: FloatTensor<B>,
    weight: Fp8Weight<B>,
    table: &IntTensor<B>,
    call: &LinearCall,
    finish: impl FnOnce(FloatTensor<B>) -> FloatTensor<B>,
) -> Fp8Matrix<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    let values = call.counter.as_ref().map(|counter| (counter, dy.clone()));
    let dy = B::fp8_quantize_both(dy, table.clone(), call.groups, call.rule.gradients);
    if let Some((counter, values)) = values {
        let [values, scales] = [values, dy.rows.scales.clone()].map(|values| {
            Tensor::from_dispatch(DispatchTensor::from_backend(BackendTensor::Float(values)))
        });
        let format = call.rule.gradients.format;
        let layout = CastLayout::Tiles;
        counter.add(CastKind::Gradients, values, scales, layout, format, ROWS_A_COUNTED_ONE);
    }
    if let Some(input) = graph.inputs[0] {
        graph.register(input, finish(product(dy.rows, weight, table.clone(), Side::Dgrad, call)));
    }
    dy.columns
}

/// Wgrad, now or later, of the output's gradient and of an input in 128x1 tiles.
fn wgrad<B: Fp8Kernels>(
    graph: &mut Backprop<B, 2>,
    weight: NodeId,
    call: LinearCall,
    dy: Fp8Matrix<B>,
    table: IntTensor<B>,
    x: impl FnOnce(&LinearCall, IntTensor<B>) -> Fp8Matrix<B> + Send + 'static,
) where
    DispatchTensor: DispatchKindConversion<B>,
{
    let LinearCall { weight_dims, deferred, .. } = call.clone();
    graph.register_weight(weight, deferred, weight_dims.len(), move || {
        let x = x(&call, table.clone());
        B::float_reshape(
            B::fp8_weight_gradient(dy, x, table, call.groups, call.shape, call.rule),
            weight_dims.into(),
        )
    });
}

/// The input in 128x1 tiles.
fn columns_of<B: Fp8Kernels>(
    kept: KeptInput<B>,
    call: &LinearCall,
    table: IntTensor<B>,
) -> Fp8Matrix<B> {
    let (groups, options, inputs) = (call.groups, call.rule.activations, call.shape.inputs);
    match kept {
        KeptInput::Columns(codes) => codes,
        KeptInput::Rows(codes) => {
            B::fp8_requantize(codes, table, inputs, groups, KeptActivation::Rows, options)
        }
        // Scales that are powers of two lose nothing from one tile shape to the other (3.3.3).
        KeptInput::E5m6(codes) => {
            let options = QuantizeOptions { scale: ScaleFormat::PowerOfTwo, ..options };
            B::fp8_requantize(codes, table, inputs, groups, KeptActivation::E5m6, options)
        }
        KeptInput::Recomputed(_) => {
            unreachable!("invariant: what is recomputed was taken from the graph")
        }
    }
}
