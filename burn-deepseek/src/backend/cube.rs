//! The fused operations on CubeCL's runtimes: those that `Supported::CUBE` names have kernels, and
//! the others are composed there.
//!
//! A kernel goes in here as a method; once an operation has all of its kernels, its name goes into
//! that set.

use std::sync::Arc;

use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::server::Handle;
use cubecl_kernels::all_to_all::{self, DeviceIndex, DeviceSums};
use cubecl_kernels::definition::{LinearShape, RowSums, WireFormat};
use cubecl_kernels::embedding::embedding_backward;
use cubecl_kernels::linear;

use super::cube_tensor::{Place, dims, handle};
use super::kernels::{CombineGradients, FusedKernels, done};
use crate::definition::ExpertGroups;
use crate::precision::ProductFormat;

/// The rows of a routing decision on a device, uploaded once.
struct Rows {
    /// The token of each row.
    tokens: DeviceIndex,
    /// The rows of each token, slot by slot.
    slots: DeviceSums,
}

fn rows_on(place: &Place, groups: &ExpertGroups) -> Arc<Rows> {
    place.keep(groups.kept(), |client| {
        let (tokens, top_k) = (groups.tokens(), groups.top_k());
        let sums = RowSums::of_slots(groups.row_of_slot(), tokens, top_k, groups.rows());
        Rows {
            tokens: done(DeviceIndex::new(client, groups.token_of_row(), tokens)),
            slots: done(DeviceSums::new(client, &done(sums))),
        }
    })
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

    fn permute(x: CubeTensor, groups: ExpertGroups) -> CubeTensor {
        let (place, [_, width]) = (Place::of(&x), dims(&x));
        let rows = rows_on(&place, &groups);
        let y = all_to_all::pack(&place.client, &handle(x), &rows.tokens, width, WireFormat::F32);
        place.floats(done(y), [groups.rows(), width])
    }

    fn permute_backward(dy: CubeTensor, groups: ExpertGroups) -> CubeTensor {
        let (place, [_, width]) = (Place::of(&dy), dims(&dy));
        let rows = rows_on(&place, &groups);
        let (dy, format) = (handle(dy), WireFormat::F32);
        let dx = all_to_all::combine(&place.client, &dy, None, &rows.slots, width, format);
        place.floats(done(dx), [groups.tokens(), width])
    }

    fn combine(y: CubeTensor, weights: CubeTensor, groups: ExpertGroups) -> CubeTensor {
        let (place, [_, width]) = (Place::of(&y), dims(&y));
        let rows = rows_on(&place, &groups);
        let (y, weights, format) = (handle(y), handle(weights), WireFormat::F32);
        let out =
            all_to_all::combine(&place.client, &y, Some(&weights), &rows.slots, width, format);
        place.floats(done(out), [groups.tokens(), width])
    }

    fn combine_backward(
        y: CubeTensor,
        weights: CubeTensor,
        groups: ExpertGroups,
        dout: CubeTensor,
    ) -> CombineGradients<Self> {
        let (place, [_, width]) = (Place::of(&y), dims(&y));
        let rows = rows_on(&place, &groups);
        let (dy, dweights) = done(all_to_all::combine_backward(
            &place.client,
            &handle(y),
            Some(&handle(weights)),
            &rows.slots,
            &handle(dout),
            width,
            WireFormat::F32,
        ));
        CombineGradients {
            dy: place.floats(dy, [groups.rows(), width]),
            dweights: place.floats(dweights, [groups.tokens(), groups.top_k()]),
        }
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
