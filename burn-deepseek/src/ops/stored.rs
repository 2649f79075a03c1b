//! Operations with weights as a checkpoint stores them. They have no gradient.
//!
//! In the memory of this process the kernels read the pieces as they lie, and results have the bits
//! of the same operation on the weight in FP32. On other devices a piece is widened when it is
//! needed.

use burn::tensor::{DType, Int, Tensor, TensorData};

use super::composed;
use crate::backend::{is_in_host_memory, stored as host};
use crate::definition::{ExpertGroups, StoredPiece, StoredWeight};

/// `y = x w^T` in FP32.
///
/// # Shapes
///
/// - x: `[rows, d_in]`, w: `[d_out, d_in]`; output: `[rows, d_out]`
pub fn linear(x: Tensor<2>, w: &StoredWeight) -> Tensor<2> {
    if is_in_host_memory(&x) { host::linear(x, w) } else { linear_composed(x, w.pieces()) }
}

/// One linear an expert over its own rows, in FP32.
///
/// # Shapes
///
/// - x: `[rows, d_in]`, w: `[experts, d_out, d_in]`; output: `[rows, d_out]`
pub fn grouped_linear(x: Tensor<2>, w: &StoredWeight, groups: &ExpertGroups) -> Tensor<2> {
    if is_in_host_memory(&x) {
        return host::grouped_linear(x, w, groups);
    }
    let ranges = groups.offsets().windows(2).enumerate().filter(|(_, range)| range[1] > range[0]);
    let outputs: Vec<_> = ranges
        .map(|(expert, range)| {
            let rows = x.clone().narrow(0, range[0], range[1] - range[0]);
            linear_composed(rows, w.expert(expert))
        })
        .collect();
    if outputs.is_empty() {
        let [_, d_out, _] = w.dims();
        Tensor::zeros([0, d_out], &x.device())
    } else {
        Tensor::cat(outputs, 0)
    }
}

/// Rows of an embedding table.
///
/// # Shapes
///
/// - table: `[vocab, d]`, tokens: `[batch, seq]`; output: `[batch, seq, d]`
pub fn embedding(table: &StoredWeight, tokens: Tensor<2, Int>) -> Tensor<3> {
    let [batch, seq] = tokens.dims();
    let [_, d] = table.dims();
    match table.pieces() {
        _ if host::is_host(&table.device()) => {
            host::embedding(table, tokens.reshape([batch * seq])).reshape([batch, seq, d])
        }
        [StoredPiece::Bf16(values)] => {
            let rows = values.clone().select(0, tokens.reshape([batch * seq]));
            rows.cast(DType::F32).reshape([batch, seq, d])
        }
        _ => composed::embedding(widen(table), tokens),
    }
}

/// Output head and mean cross entropy, in FP32; see [`composed::linear_cross_entropy`].
///
/// # Shapes
///
/// - x: `[rows, d]`, w: `[vocab, d]`, targets: `[rows]`; output: `[1]`
pub fn linear_cross_entropy(x: Tensor<2>, w: &StoredWeight, targets: Tensor<1, Int>) -> Tensor<1> {
    if is_in_host_memory(&x) {
        host::linear_cross_entropy(x, w, targets)
    } else {
        composed::linear_cross_entropy(x, widen(w), targets)
    }
}

/// The weight in FP32.
pub fn widen<const D: usize>(w: &StoredWeight) -> Tensor<D> {
    if host::is_host(&w.device()) {
        return host::widen(w);
    }
    Tensor::cat(w.pieces().iter().map(widen_composed).collect(), 0).reshape(w.dims::<D>())
}

fn linear_composed(x: Tensor<2>, pieces: &[StoredPiece]) -> Tensor<2> {
    let parts = pieces.iter().map(|piece| x.clone().matmul(widen_composed(piece).transpose()));
    Tensor::cat(parts.collect(), 1)
}

/// The values of a piece in FP32, by Burn's own operations.
pub(crate) fn widen_composed(piece: &StoredPiece) -> Tensor<2> {
    /// Rows and columns that share a scale.
    const BLOCK: usize = 128;
    match piece {
        StoredPiece::Bf16(values) => values.clone().cast(DType::F32),
        StoredPiece::E4m3 { codes, scales } => {
            let ([rows, columns], [down, across]) = (codes.dims(), scales.dims());
            let values: [f32; 256] = std::array::from_fn(|code| {
                cubecl_kernels::definition::decode_fp8(
                    code as u8,
                    cubecl_kernels::definition::Fp8Format::E4M3,
                )
            });
            let values =
                Tensor::<1>::from_data(TensorData::new(values.to_vec(), [256]), &scales.device());
            // By way of floats: a server has no cast of whole numbers, as of Burn 0.22.1.
            let codes = codes.clone().reshape([rows * columns]).float().int();
            let scales = scales
                .clone()
                .reshape([down, 1, across, 1])
                .expand([down, BLOCK, across, BLOCK])
                .reshape([down * BLOCK, across * BLOCK])
                .slice([0..rows, 0..columns]);
            values.select(0, codes).reshape([rows, columns]) * scales
        }
    }
}
