//! The fused operations on CubeCL's runtimes: those that `Supported::CUBE` names have kernels, and
//! the others are composed there.
//!
//! A kernel goes in here as a method; once an operation has all of its kernels, its name goes into
//! that set.

use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::server::Handle;
use cubecl_kernels::all_to_all::{self, DeviceIndex, DeviceSums, SlotTables};
use cubecl_kernels::definition::{GroupedLinearShape, LinearShape, RouteShape, WireFormat};
use cubecl_kernels::device::DeviceGroups;
use cubecl_kernels::embedding::embedding_backward;
use cubecl_kernels::{grouped_linear, linear, route};

use super::cube_tensor::{Place, dims, handle};
use super::kernels::{CombineGradients, FusedKernels, RoutedTokens, RowTables, done};
use crate::precision::ProductFormat;

/// The rows of a routing decision.
fn slots(rows: RowTables<CubeBackend>) -> SlotTables {
    let [tokens, top_k] = dims(&rows.row_of_slot);
    SlotTables {
        tokens,
        top_k,
        row_of_slot: handle(rows.row_of_slot),
        token_of_row: handle(rows.token_of_row),
        slot_of_row: handle(rows.slot_of_row),
    }
}

/// The groups of `rows` rows that a table has.
fn groups(bounds: CubeTensor, rows: usize) -> DeviceGroups {
    let [_, ends] = dims(&bounds);
    done(DeviceGroups::of_table(handle(bounds), ends - 1, rows))
}

/// Choice by score alone, without groups.
fn ungrouped(shape: RouteShape) -> RouteShape {
    RouteShape { groups: 1, kept_groups: 1, ..shape }
}

/// The numbers of tokens as 32-bit words.
fn ids(tokens: CubeTensor) -> Handle {
    let tokens = match tokens.dtype {
        DType::I32 | DType::U32 => tokens,
        _ => CubeBackend::int_cast(tokens, DType::I32.into()),
    };
    handle(tokens)
}

fn linear_shape(rows: &CubeTensor, w: [usize; 2]) -> LinearShape {
    let [rows, _] = dims(rows);
    let [outputs, inputs] = w;
    LinearShape { rows, inputs, outputs }
}

impl FusedKernels for CubeBackend {
    fn linear_forward(x: CubeTensor, w: CubeTensor, format: ProductFormat) -> CubeTensor {
        if format != ProductFormat::F32 {
            return Self::float_matmul(x, Self::float_transpose(w));
        }
        let (place, shape) = (Place::of(&x), linear_shape(&x, dims(&w)));
        let y = linear::linear(&place.client, &handle(x), &handle(w), &shape);
        place.floats(done(y), [shape.rows, shape.outputs])
    }

    fn linear_input_gradient(dy: CubeTensor, w: CubeTensor, format: ProductFormat) -> CubeTensor {
        if format != ProductFormat::F32 {
            return Self::float_matmul(dy, w);
        }
        let (place, shape) = (Place::of(&dy), linear_shape(&dy, dims(&w)));
        let dx = linear::linear_input_gradient(&place.client, &handle(dy), &handle(w), &shape);
        place.floats(done(dx), [shape.rows, shape.inputs])
    }

    fn linear_weight_gradient(dy: CubeTensor, x: CubeTensor, format: ProductFormat) -> CubeTensor {
        if format != ProductFormat::F32 {
            return Self::float_matmul(Self::float_transpose(dy), x);
        }
        let ([_, outputs], [_, inputs]) = (dims(&dy), dims(&x));
        let (place, shape) = (Place::of(&dy), linear_shape(&dy, [outputs, inputs]));
        let dw = linear::linear_weight_gradient(&place.client, &handle(dy), &handle(x), &shape);
        place.floats(done(dw), [outputs, inputs])
    }

    fn permute(x: CubeTensor, rows: RowTables<Self>) -> CubeTensor {
        let (place, [_, width]) = (Place::of(&x), dims(&x));
        let index = done(DeviceIndex::of_slots(&slots(rows)));
        let y = all_to_all::pack(&place.client, &handle(x), &index, width, WireFormat::F32);
        place.floats(done(y), [index.len(), width])
    }

    fn permute_backward(dy: CubeTensor, rows: RowTables<Self>) -> CubeTensor {
        let (place, [_, width]) = (Place::of(&dy), dims(&dy));
        let sums = done(DeviceSums::of_slots(&slots(rows)));
        let (dy, format) = (handle(dy), WireFormat::F32);
        let dx = all_to_all::combine(&place.client, &dy, None, &sums, width, format);
        place.floats(done(dx), [sums.results(), width])
    }

    fn combine(y: CubeTensor, weights: CubeTensor, rows: RowTables<Self>) -> CubeTensor {
        let (place, [_, width]) = (Place::of(&y), dims(&y));
        let sums = done(DeviceSums::of_slots(&slots(rows)));
        let (y, weights, format) = (handle(y), handle(weights), WireFormat::F32);
        let out = all_to_all::combine(&place.client, &y, Some(&weights), &sums, width, format);
        place.floats(done(out), [sums.results(), width])
    }

    fn combine_backward(
        y: CubeTensor,
        weights: CubeTensor,
        rows: RowTables<Self>,
        dout: CubeTensor,
    ) -> CombineGradients<Self> {
        let (place, [_, width]) = (Place::of(&y), dims(&y));
        let [tokens, top_k] = dims(&rows.row_of_slot);
        let sums = done(DeviceSums::of_slots(&slots(rows)));
        let (dy, dweights) = done(all_to_all::combine_backward(
            &place.client,
            &handle(y),
            Some(&handle(weights)),
            &sums,
            &handle(dout),
            width,
            WireFormat::F32,
        ));
        CombineGradients {
            dy: place.floats(dy, [tokens * top_k, width]),
            dweights: place.floats(dweights, [tokens, top_k]),
        }
    }

    // In FP32 whatever the format: these devices have no product of BF16 by expert.
    fn grouped_linear(
        x: CubeTensor,
        w: CubeTensor,
        bounds: CubeTensor,
        _: ProductFormat,
    ) -> CubeTensor {
        let (place, [rows, inputs], [experts, outputs, _]) = (Place::of(&x), dims(&x), dims(&w));
        let shape = GroupedLinearShape { rows, experts, inputs, outputs };
        let (x, w, groups) = (handle(x), handle(w), groups(bounds, rows));
        let y = grouped_linear::grouped_linear(&place.client, &x, &w, &groups, &shape);
        place.floats(done(y), [rows, outputs])
    }

    fn grouped_linear_input_gradient(
        dy: CubeTensor,
        w: CubeTensor,
        bounds: CubeTensor,
        _: ProductFormat,
    ) -> CubeTensor {
        let (place, [rows, outputs], [experts, _, inputs]) = (Place::of(&dy), dims(&dy), dims(&w));
        let shape = GroupedLinearShape { rows, experts, inputs, outputs };
        let (dy, w, groups) = (handle(dy), handle(w), groups(bounds, rows));
        let dx =
            grouped_linear::grouped_linear_input_gradient(&place.client, &dy, &w, &groups, &shape);
        place.floats(done(dx), [rows, inputs])
    }

    fn grouped_linear_weight_gradient(
        dy: CubeTensor,
        x: CubeTensor,
        bounds: CubeTensor,
        _: ProductFormat,
    ) -> CubeTensor {
        let (place, [rows, outputs], [_, inputs]) = (Place::of(&dy), dims(&dy), dims(&x));
        let (dy, x, groups) = (handle(dy), handle(x), groups(bounds, rows));
        let shape = GroupedLinearShape { rows, experts: groups.len(), inputs, outputs };
        let dw =
            grouped_linear::grouped_linear_weight_gradient(&place.client, &dy, &x, &groups, &shape);
        place.floats(done(dw), shape.weight_dims())
    }

    fn route(scores: CubeTensor, bias: CubeTensor, shape: RouteShape) -> RoutedTokens<Self> {
        let place = Place::of(&scores);
        let tables =
            done(route::route(&place.client, &handle(scores), Some(&handle(bias)), &shape));
        let (slots, rows) = ([shape.tokens, shape.top_k], [shape.slots()]);
        RoutedTokens {
            choices: place.words(tables.choices, slots),
            loads: place.words(tables.loads, [shape.experts]),
            bounds: place.words(tables.table, [3, shape.experts + 1]),
            row_of_slot: place.words(tables.row_of_slot, slots),
            token_of_row: place.words(tables.token_of_row, rows),
            slot_of_row: place.words(tables.slot_of_row, rows),
        }
    }

    fn sequence_counts(scores: CubeTensor, shape: RouteShape, seq: usize) -> CubeTensor {
        let (place, shape) = (Place::of(&scores), ungrouped(shape));
        let choices = done(route::choose_experts(&place.client, &handle(scores), None, &shape));
        let counts = route::sequence_counts(&place.client, &choices, &shape, seq);
        place.words(done(counts), [shape.tokens / seq, shape.experts])
    }

    fn embedding_forward(table: CubeTensor, tokens: CubeTensor) -> CubeTensor {
        Self::float_select(table, 0, tokens)
    }

    fn embedding_table_gradient(dy: CubeTensor, tokens: CubeTensor, vocab: usize) -> CubeTensor {
        let (place, [rows, width]) = (Place::of(&dy), dims(&dy));
        let (dy, tokens) = (handle(dy), ids(tokens));
        let table = embedding_backward(&place.client, &dy, &tokens, rows, vocab, width);
        place.floats(done(table), [vocab, width])
    }
}
