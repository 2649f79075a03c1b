//! Quantized matrices and weights as tensors of a backend.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType};

use crate::backend::tensors::tensors;
#[cfg(feature = "cube")]
use crate::backend::with_fusion as burn;

/// A quantized matrix in one orientation.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct Fp8Matrix<B: Backend> {
    /// Words of four codes, `[rows, words]`, U32.
    pub codes: IntTensor<B>,
    /// `[rows, tiles]`.
    pub scales: FloatTensor<B>,
}
tensors!(Fp8Matrix, Fp8MatrixMetadata { codes: IntTensor<B>, scales: FloatTensor<B> });

/// An activation or a gradient, quantized for both of its products.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct Fp8Pair<B: Backend> {
    /// 1x128 tiles, for Fprop or Dgrad.
    #[extension_type]
    pub rows: Fp8Matrix<B>,
    /// 128x1 tiles, transposed, for Wgrad; for a kept E5M6 activation its 12-bit codes, by rows.
    #[extension_type]
    pub columns: Fp8Matrix<B>,
}
tensors!(Fp8Pair, Fp8PairMetadata { rows: Fp8Matrix<B>, columns: Fp8Matrix<B> });

/// SwiGLU's result, and gate and up as they are kept for backward.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct Fp8Hidden<B: Backend> {
    /// 1x128 tiles of `silu(gate) * up`.
    #[extension_type]
    pub rows: Fp8Matrix<B>,
    /// 1x128 tiles of gate and up.
    #[extension_type]
    pub gate_up: Fp8Matrix<B>,
}
tensors!(Fp8Hidden, Fp8HiddenMetadata { rows: Fp8Matrix<B>, gate_up: Fp8Matrix<B> });

/// A weight, or the stacked weights of experts, in 128x128 blocks.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct Fp8Weight<B: Backend> {
    /// For Fprop, `[experts * outputs, words(inputs)]`, U32.
    pub codes: IntTensor<B>,
    /// Those codes transposed, for Dgrad, `[experts * inputs, words(outputs)]`, U32.
    pub transposed: IntTensor<B>,
    /// `[experts * tiles(outputs), tiles(inputs)]`.
    pub scales: FloatTensor<B>,
}
tensors!(Fp8Weight, Fp8WeightMetadata {
    codes: IntTensor<B>,
    transposed: IntTensor<B>,
    scales: FloatTensor<B>,
});
