//! FP8 on the fusion decorator: what each operation will give. The operation itself waits in the
//! decorator's queue, and its kernels are those of the backend inside.

use burn::tensor::DType;
use burn_fusion::custom::TensorSpec;
use cubecl_kernels::definition::QuantizeOptions;

use super::shapes::{MatrixShape, WeightShape};
use super::{Fp8MatrixMetadata, Fp8PairMetadata, Fp8WeightMetadata, LinearShape, RowGroups, Side};
use crate::precision::{Fp8Rule, KeptActivation};

fn words<const D: usize>(shape: [usize; D]) -> TensorSpec {
    TensorSpec::new(shape.into(), DType::U32)
}

fn floats<const D: usize>(shape: [usize; D]) -> TensorSpec {
    TensorSpec::new(shape.into(), DType::F32)
}

impl From<MatrixShape> for Fp8MatrixMetadata {
    fn from(shape: MatrixShape) -> Self {
        Self { codes: words(shape.codes), scales: floats(shape.scales) }
    }
}

pub(super) fn quantize_rows(x: &TensorSpec, _: &QuantizeOptions) -> Fp8MatrixMetadata {
    MatrixShape::row_tiled(x.shape.dims()).into()
}

pub(super) fn quantize_columns(
    x: &TensorSpec,
    groups: &RowGroups,
    _: &QuantizeOptions,
) -> Fp8MatrixMetadata {
    let [_, columns] = x.shape.dims();
    MatrixShape::column_tiled(groups, columns).into()
}

pub(super) fn quantize_both(
    x: &TensorSpec,
    groups: &RowGroups,
    options: &QuantizeOptions,
) -> Fp8PairMetadata {
    Fp8PairMetadata {
        rows: quantize_rows(x, options),
        columns: quantize_columns(x, groups, options),
    }
}

pub(super) fn quantize_weight(w: &TensorSpec, _: &QuantizeOptions) -> Fp8WeightMetadata {
    let shape = WeightShape::of(&w.shape);
    Fp8WeightMetadata {
        codes: words(shape.codes()),
        transposed: words(shape.transposed()),
        scales: floats(shape.scales()),
    }
}

pub(super) fn dequantize_rows(
    x: &Fp8MatrixMetadata,
    columns: &usize,
    _: &QuantizeOptions,
) -> TensorSpec {
    e5m6_dequantize(x, columns)
}

pub(super) fn dequantize_columns(
    x: &Fp8MatrixMetadata,
    groups: &RowGroups,
    _: &QuantizeOptions,
) -> TensorSpec {
    let [columns, _] = x.codes.shape.dims();
    floats([groups.rows(), columns])
}

pub(super) fn dequantize_weight(
    _: &Fp8WeightMetadata,
    shape: &LinearShape,
    _: &QuantizeOptions,
) -> TensorSpec {
    floats(shape.weight_rows())
}

pub(super) fn e5m6_quantize(x: &TensorSpec) -> Fp8MatrixMetadata {
    MatrixShape::e5m6(x.shape.dims()).into()
}

pub(super) fn e5m6_dequantize(x: &Fp8MatrixMetadata, columns: &usize) -> TensorSpec {
    let [rows, _] = x.codes.shape.dims();
    floats([rows, *columns])
}

pub(super) fn requantize(
    x: &Fp8MatrixMetadata,
    columns: &usize,
    groups: &RowGroups,
    kept: &KeptActivation,
    _: &QuantizeOptions,
) -> Fp8MatrixMetadata {
    match kept {
        KeptActivation::Columns => x.clone(),
        KeptActivation::Rows | KeptActivation::E5m6 => {
            MatrixShape::column_tiled(groups, *columns).into()
        }
    }
}

pub(super) fn gemm(
    _: &Fp8MatrixMetadata,
    _: &Fp8WeightMetadata,
    _: &RowGroups,
    shape: &LinearShape,
    side: &Side,
    _: &Fp8Rule,
) -> TensorSpec {
    floats(shape.product(*side))
}

pub(super) fn weight_gradient(
    _: &Fp8MatrixMetadata,
    _: &Fp8MatrixMetadata,
    _: &RowGroups,
    shape: &LinearShape,
    _: &Fp8Rule,
) -> TensorSpec {
    floats(shape.weight_gradient())
}

pub(super) fn swiglu_rows(gate_up: &TensorSpec, _: &QuantizeOptions) -> Fp8MatrixMetadata {
    let [rows, width] = gate_up.shape.dims();
    MatrixShape::row_tiled([rows, width / 2]).into()
}

pub(super) fn swiglu_columns(
    _: &Fp8MatrixMetadata,
    columns: &usize,
    groups: &RowGroups,
    _: &QuantizeOptions,
    _: &QuantizeOptions,
) -> Fp8MatrixMetadata {
    MatrixShape::column_tiled(groups, *columns).into()
}

pub(super) fn swiglu_backward(
    _: &Fp8MatrixMetadata,
    dy: &TensorSpec,
    _: &QuantizeOptions,
) -> TensorSpec {
    let [rows, inter] = dy.shape.dims();
    floats([rows, 2 * inter])
}
