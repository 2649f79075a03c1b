//! The table of the FP8 kernels: casts, products and SwiGLU from codes and to codes, on tensors
//! without autodiff.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use cubecl_kernels::definition::QuantizeOptions;

use super::GroupedLinearShape;
use super::matrix::{Fp8Hidden, Fp8Matrix, Fp8Pair, Fp8Weight};
#[cfg(feature = "cube")]
use super::shapes::{MatrixShape, WeightShape};
use super::shapes::{RowGroups, Side};
use crate::backend::kernels::RowTables;
#[cfg(feature = "cube")]
use crate::backend::results::{Results, Shaped, floats};
use crate::backend::table::define_kernels;
#[cfg(feature = "cube")]
use crate::backend::with_fusion as burn;
use crate::precision::{Fp8Rule, KeptActivation};

/// What makes SwiGLU's result in 128x1 tiles from gate and up as they were kept.
#[derive(Clone, Copy, Debug)]
pub struct SwigluColumns {
    /// Width of the result.
    pub columns: usize,
    /// Rows of each expert.
    pub groups: RowGroups,
    /// How gate and up were quantized.
    pub kept: QuantizeOptions,
    /// How the result is quantized.
    pub options: QuantizeOptions,
}

/// The table, for a macro that makes something of its rows.
macro_rules! fp8_kernels {
    ($generate:ident) => {
        $generate! {
            /// FP8 kernels of a backend, which has all of them or none. Float tensors are FP32;
            /// matrices are contiguous or are made so. `table` has the rows of `groups`; of one group
            /// it is not read, and may be any.
            trait Fp8Kernels;

            /// FP8 casts and products.
            Fp8 {
                /// 1x128 tiles of x `[rows, columns]`.
                fn fp8_quantize_rows(
                    x: FloatTensor<Self>,
                    options: QuantizeOptions,
                ) -> Fp8Matrix<Self> => MatrixShape::row_tiled(x.shape().dims());
                /// 128x1 tiles of x `[rows, columns]`, transposed; no tile has rows of two groups.
                fn fp8_quantize_columns(
                    x: FloatTensor<Self>,
                    table: IntTensor<Self>,
                    groups: RowGroups,
                    options: QuantizeOptions,
                ) -> Fp8Matrix<Self> => {
                    let [_, columns] = x.shape().dims();
                    MatrixShape::column_tiled(groups, columns)
                };
                /// Both, from one read of x.
                fn fp8_quantize_both(
                    x: FloatTensor<Self>,
                    table: IntTensor<Self>,
                    groups: RowGroups,
                    options: QuantizeOptions,
                ) -> Fp8Pair<Self> => {
                    let [rows, columns] = x.shape().dims();
                    Results::from(MatrixShape::row_tiled([rows, columns]))
                        .and(MatrixShape::column_tiled(groups, columns))
                };
                /// 128x128 blocks of w `[outputs, inputs]` or `[experts, outputs, inputs]`.
                fn fp8_quantize_weight(
                    w: FloatTensor<Self>,
                    options: QuantizeOptions,
                ) -> Fp8Weight<Self> => WeightShape::of(&w.shape());
                /// The values of 1x128 tiles, `[rows, columns]`.
                fn fp8_dequantize_rows(
                    #[extension_type] x: Fp8Matrix<Self>,
                    columns: usize,
                    options: QuantizeOptions,
                ) -> FloatTensor<Self> => {
                    let [rows, _] = x.codes.shape().dims();
                    floats([rows, *columns])
                };
                /// The values of 128x1 tiles, back in `[rows, columns]`.
                fn fp8_dequantize_columns(
                    #[extension_type] x: Fp8Matrix<Self>,
                    table: IntTensor<Self>,
                    groups: RowGroups,
                    options: QuantizeOptions,
                ) -> FloatTensor<Self> => {
                    let [columns, _] = x.codes.shape().dims();
                    floats([groups.rows(), columns])
                };
                /// The values of 128x128 blocks, `[experts * outputs, inputs]`.
                fn fp8_dequantize_weight(
                    #[extension_type] w: Fp8Weight<Self>,
                    shape: GroupedLinearShape,
                    options: QuantizeOptions,
                ) -> FloatTensor<Self> => floats(shape.stacked_weight_dims());
                /// E5M6 with power-of-two scales in 1x128 tiles of x `[rows, columns]`.
                fn e5m6_quantize(x: FloatTensor<Self>) -> Fp8Matrix<Self>
                    => MatrixShape::e5m6(x.shape().dims());
                /// The values of E5M6 codes, `[rows, columns]`.
                fn e5m6_dequantize(
                    #[extension_type] x: Fp8Matrix<Self>,
                    columns: usize,
                ) -> FloatTensor<Self> => {
                    let [rows, _] = x.codes.shape().dims();
                    floats([rows, *columns])
                };
                /// 128x1 tiles of what was kept of an input `[rows, columns]`, for Wgrad.
                fn fp8_requantize(
                    #[extension_type] x: Fp8Matrix<Self>,
                    table: IntTensor<Self>,
                    columns: usize,
                    groups: RowGroups,
                    kept: KeptActivation,
                    options: QuantizeOptions,
                ) -> Fp8Matrix<Self> => match kept {
                    KeptActivation::Columns => {
                        let (codes, scales) = (x.codes.shape(), x.scales.shape());
                        MatrixShape { codes: codes.dims(), scales: scales.dims() }
                    }
                    KeptActivation::Rows | KeptActivation::E5m6 => {
                        MatrixShape::column_tiled(groups, *columns)
                    }
                };

                /// Fprop `[rows, outputs]` of an input, or Dgrad `[rows, inputs]` of a gradient,
                /// each in 1x128 tiles.
                fn fp8_gemm(
                    #[extension_type] a: Fp8Matrix<Self>,
                    #[extension_type] w: Fp8Weight<Self>,
                    table: IntTensor<Self>,
                    groups: RowGroups,
                    shape: GroupedLinearShape,
                    side: Side,
                    rule: Fp8Rule,
                ) -> FloatTensor<Self> => floats(side.result_dims(shape));
                /// Wgrad, `[experts, outputs, inputs]`, of a gradient and an input in 128x1 tiles;
                /// zero for an expert without rows.
                fn fp8_weight_gradient(
                    #[extension_type] dy: Fp8Matrix<Self>,
                    #[extension_type] x: Fp8Matrix<Self>,
                    table: IntTensor<Self>,
                    groups: RowGroups,
                    shape: GroupedLinearShape,
                    rule: Fp8Rule,
                ) -> FloatTensor<Self> => floats(shape.weight_dims());

                /// 1x128 tiles of rows of tokens by expert; x `[tokens, columns]`.
                fn fp8_permute_rows(
                    x: FloatTensor<Self>,
                    #[extension_type] rows: RowTables<Self>,
                    options: QuantizeOptions,
                ) -> Fp8Matrix<Self> => {
                    let ([_, columns], [count]) =
                        (x.shape().dims(), rows.token_of_row.shape().dims());
                    MatrixShape::row_tiled([count, columns])
                };
                /// Their 1x128 tiles, and their 128x1 tiles by expert, from one read of x; `groups`
                /// has the sizes of `rows`.
                fn fp8_permute_both(
                    x: FloatTensor<Self>,
                    #[extension_type] rows: RowTables<Self>,
                    groups: RowGroups,
                    options: QuantizeOptions,
                ) -> Fp8Pair<Self> => {
                    let ([_, columns], [count]) =
                        (x.shape().dims(), rows.token_of_row.shape().dims());
                    Results::from(MatrixShape::row_tiled([count, columns]))
                        .and(MatrixShape::column_tiled(groups, columns))
                };

                /// 1x128 tiles of `silu(gate) * up`; gate_up `[rows, 2 * columns]`.
                fn fp8_swiglu_rows(
                    gate_up: FloatTensor<Self>,
                    options: QuantizeOptions,
                ) -> Fp8Matrix<Self> => {
                    let [rows, width] = gate_up.shape().dims();
                    MatrixShape::row_tiled([rows, width / 2])
                };
                /// Those, and the 1x128 tiles of gate_up itself, from one read of it.
                fn fp8_swiglu_rows_and_input(
                    gate_up: FloatTensor<Self>,
                    options: QuantizeOptions,
                ) -> Fp8Hidden<Self> => {
                    let [rows, width] = gate_up.shape().dims();
                    Results::from(MatrixShape::row_tiled([rows, width / 2]))
                        .and(MatrixShape::row_tiled([rows, width]))
                };
                /// 128x1 tiles of `silu(gate) * up`, from gate and up as they were kept, in 1x128
                /// tiles.
                fn fp8_swiglu_columns(
                    #[extension_type] gate_up: Fp8Matrix<Self>,
                    table: IntTensor<Self>,
                    call: SwigluColumns,
                ) -> Fp8Matrix<Self> => MatrixShape::column_tiled(&call.groups, call.columns);
                /// `d gate_up`, `[rows, 2 * columns]`, from gate and up as they were kept, in 1x128
                /// tiles, and dy `[rows, columns]`.
                fn fp8_swiglu_backward(
                    #[extension_type] gate_up: Fp8Matrix<Self>,
                    dy: FloatTensor<Self>,
                    kept: QuantizeOptions,
                ) -> FloatTensor<Self> => {
                    let [rows, inter] = dy.shape().dims();
                    floats([rows, 2 * inter])
                };
            }
        }
    };
}
#[cfg(feature = "remote")]
pub(in crate::backend) use fp8_kernels;

fp8_kernels!(define_kernels);
