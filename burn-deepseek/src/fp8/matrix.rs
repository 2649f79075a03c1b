//! Quantized matrices as values, and their product.

use burn::backend::Dispatch;
use burn::tensor::{Device, Int, Tensor};
use cubecl_kernels::definition::{Accumulation, QuantizeOptions};

use super::error::{Fp8Error, check_castable, check_device, check_size};
use crate::backend::fp8::{Fp8Kernels, Fp8Matrix, Fp8Weight, GroupedLinearShape, Side};
use crate::ops::fp8::Rows;
use crate::precision::{Fp8Rule, KeptActivation};

/// A matrix in FP8 with a scale for each 128 values of a row (1x128).
#[derive(Clone, Debug)]
pub struct QuantizedRows {
    pub(super) inner: Fp8Matrix<Dispatch>,
    pub(super) dims: [usize; 2],
    pub(super) options: QuantizeOptions,
}

impl QuantizedRows {
    /// Its shape, `[rows, columns]`.
    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// Words of four codes, the first in the lowest byte: `[rows, columns / 4]`, rounded up.
    pub fn codes(&self) -> Tensor<2, Int> {
        Tensor::from_dispatch(self.inner.codes.clone())
    }

    /// Multipliers that dequantize: `[rows, columns / 128]`, rounded up.
    pub fn scales(&self) -> Tensor<2> {
        Tensor::from_dispatch(self.inner.scales.clone())
    }

    /// The values, `[rows, columns]`.
    pub fn dequantize(&self) -> Tensor<2> {
        Tensor::from_dispatch(Dispatch::fp8_dequantize_rows(
            self.inner.clone(),
            self.dims[1],
            self.options,
        ))
    }
}

/// A weight in FP8 with a scale for each 128x128 block, ready for the products of both passes.
#[derive(Clone, Debug)]
pub struct QuantizedWeight {
    inner: Fp8Weight<Dispatch>,
    dims: [usize; 2],
    options: QuantizeOptions,
}

impl QuantizedWeight {
    /// Its shape, `[outputs, inputs]`.
    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// Words of four codes: `[outputs, inputs / 4]`, rounded up.
    pub fn codes(&self) -> Tensor<2, Int> {
        Tensor::from_dispatch(self.inner.codes.clone())
    }

    /// Codes of the transposed weight, as Dgrad reads them: `[inputs, outputs / 4]`, rounded up.
    pub fn transposed_codes(&self) -> Tensor<2, Int> {
        Tensor::from_dispatch(self.inner.transposed.clone())
    }

    /// Multipliers that dequantize: `[outputs / 128, inputs / 128]`, both rounded up.
    pub fn scales(&self) -> Tensor<2> {
        Tensor::from_dispatch(self.inner.scales.clone())
    }

    /// The values, `[outputs, inputs]`.
    pub fn dequantize(&self) -> Tensor<2> {
        let [outputs, inputs] = self.dims;
        let shape = GroupedLinearShape { rows: 0, inputs, outputs, experts: 1 };
        Tensor::from_dispatch(Dispatch::fp8_dequantize_weight(
            self.inner.clone(),
            shape,
            self.options,
        ))
    }
}

/// Quantizes rows in tiles of 128 (3.3.2): `scale = max(amax, 1e-4) / 448`,
/// `code = round(x / scale)`, ties to even, saturating.
///
/// A tile with a NaN has a NaN scale, one with an infinity an infinite one (or, as powers of two,
/// `2^127`): what is dequantized from it is not finite, or NaN stays NaN.
///
/// # Shapes
///
/// - x: `[rows, columns]`
///
/// # Errors
///
/// x is not F32, or is on a device without FP8 operations.
pub fn quantize_rows(x: &Tensor<2>, options: QuantizeOptions) -> Result<QuantizedRows, Fp8Error> {
    let x = x.clone().inner();
    check_castable("x", x.dtype(), &x.device())?;
    Ok(QuantizedRows {
        dims: x.dims(),
        inner: Dispatch::fp8_quantize_rows(x.into_dispatch(), options),
        options,
    })
}

/// Quantizes a weight in blocks of 128x128, by the same rule as [`quantize_rows`].
///
/// # Shapes
///
/// - w: `[outputs, inputs]`
///
/// # Errors
///
/// As [`quantize_rows`].
pub fn quantize_weight(
    w: &Tensor<2>,
    options: QuantizeOptions,
) -> Result<QuantizedWeight, Fp8Error> {
    let w = w.clone().inner();
    check_castable("w", w.dtype(), &w.device())?;
    Ok(QuantizedWeight {
        dims: w.dims(),
        inner: Dispatch::fp8_quantize_weight(w.into_dispatch(), options),
        options,
    })
}

/// `x w^T` of quantized operands, with partial sums of 128 promoted to FP32 (3.3.2) unless
/// `accumulation` says otherwise.
///
/// # Shapes
///
/// - x: `[rows, inputs]`, w: `[outputs, inputs]`, output: `[rows, outputs]`
///
/// # Errors
///
/// Unequal inputs, or tensors on different devices.
pub fn matmul_nt(
    x: &QuantizedRows,
    w: &QuantizedWeight,
    accumulation: Accumulation,
) -> Result<Tensor<2>, Fp8Error> {
    let ([rows, inputs], [outputs, _]) = (x.dims, w.dims);
    check_size("w", "inputs", inputs, w.dims[1])?;
    let device = |scales: Tensor<2>| -> Device { scales.device() };
    check_device("w", &device(x.scales()), &device(w.scales()))?;
    let rule = Fp8Rule {
        activations: x.options,
        gradients: x.options,
        weights: w.options,
        kept: KeptActivation::Columns,
        accumulation,
    };
    let shape = GroupedLinearShape { rows, inputs, outputs, experts: 1 };
    let Rows { groups, table } = Rows::one(rows, &device(x.scales()));
    let product = Dispatch::fp8_gemm(
        x.inner.clone(),
        w.inner.clone(),
        table.into_dispatch(),
        groups,
        shape,
        Side::Fprop,
        rule,
    );
    Ok(Tensor::from_dispatch(product))
}
