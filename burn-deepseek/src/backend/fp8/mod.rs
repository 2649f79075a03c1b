//! The FP8 operations as a backend extension: casts, products and differentiable linears (3.3).
//!
//! [`Fp8Ops`] decorates a backend. Its first half is kernels, which every backend implements on its
//! own tensors; its second half is differentiable linears, which the autodiff decorator implements
//! by hand (Fprop, Dgrad, Wgrad) from the first half of the backend it wraps. Layouts of codes and
//! scales are those of [`cubecl_kernels::definition`].

mod autodiff;
#[cfg(feature = "cube")]
mod cube;
mod flex;
#[cfg(feature = "cube")]
mod fusion;
pub(in crate::backend) mod shapes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, backend_extension};
use cubecl_kernels::definition::QuantizeOptions;

use super::DeferredWeight;
#[cfg(feature = "cube")]
use super::with_fusion as burn;
use crate::definition::ExpertGroups;
use crate::precision::{Fp8Rule, KeptActivation};

/// A quantized matrix in one orientation.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct Fp8Matrix<B: Backend> {
    /// Words of four codes, `[rows, words]`, U32.
    pub codes: IntTensor<B>,
    /// `[rows, tiles]`.
    pub scales: FloatTensor<B>,
}

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

/// A weight, or the stacked weights of experts, in 128x128 blocks.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct Fp8Weight<B: Backend> {
    /// For Fprop, `[experts * outputs, words(inputs)]`, U32.
    pub codes: IntTensor<B>,
    /// The same codes transposed, for Dgrad, `[experts * inputs, words(outputs)]`, U32.
    pub transposed: IntTensor<B>,
    /// `[experts * tiles(outputs), tiles(inputs)]`.
    pub scales: FloatTensor<B>,
}

/// The sizes of a linear. Without experts, one expert has all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of all experts together.
    pub rows: usize,
    /// Width of an input row.
    pub inputs: usize,
    /// Width of an output row.
    pub outputs: usize,
    /// Experts.
    pub experts: usize,
}

/// Rows of a matrix by expert: `offsets[e]..offsets[e + 1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowGroups(Arc<[usize]>);

impl RowGroups {
    /// All rows in one group.
    pub fn one(rows: usize) -> Self {
        Self(Arc::new([0, rows]))
    }

    /// Of offsets that rise from 0; kernels check that they do.
    #[cfg(feature = "remote")]
    pub(in crate::backend) fn from_offsets(offsets: Vec<usize>) -> Self {
        Self(offsets.into())
    }

    /// `groups + 1` rising offsets from 0 to the number of rows.
    pub fn offsets(&self) -> &[usize] {
        &self.0
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of all groups.
    pub fn rows(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }
}

impl From<&ExpertGroups> for RowGroups {
    fn from(groups: &ExpertGroups) -> Self {
        Self(groups.offsets().into())
    }
}

/// Which product of a linear a weight is used in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `y = x w^T`.
    Fprop,
    /// `dx = dy w`.
    Dgrad,
}

/// One call of a differentiable linear.
#[derive(Clone, Debug)]
pub struct LinearCall {
    /// Sizes.
    pub shape: LinearShape,
    /// Rows of each expert.
    pub groups: RowGroups,
    /// Dims of the weight, and so of its gradient.
    pub weight_dims: Vec<usize>,
    /// Formats.
    pub rule: Fp8Rule,
    /// Whether the result is computed again in backward instead of kept, where gradient
    /// checkpointing is on.
    pub recompute: bool,
    /// Where the weight gradient is left to be computed later; none computes it at once.
    pub deferred: Option<DeferredWeight>,
}

/// FP8 on a backend. Float tensors are FP32; matrices are contiguous or are made so.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex, Fusion: cfg(feature = "cube"), Remote: cfg(feature = "remote"))]
pub trait Fp8Ops: Backend {
    /// 1x128 tiles of x `[rows, columns]`.
    #[fusion(meta = fusion::quantize_rows)]
    fn fp8_quantize_rows(x: FloatTensor<Self>, options: QuantizeOptions) -> Fp8Matrix<Self>;
    /// 128x1 tiles of x `[rows, columns]`, transposed; no tile has rows of two groups.
    #[fusion(meta = fusion::quantize_columns)]
    fn fp8_quantize_columns(
        x: FloatTensor<Self>,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self>;
    /// Both, from one read of x.
    #[fusion(meta = fusion::quantize_both)]
    fn fp8_quantize_both(
        x: FloatTensor<Self>,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> Fp8Pair<Self>;
    /// 128x128 blocks of w `[outputs, inputs]` or `[experts, outputs, inputs]`.
    #[fusion(meta = fusion::quantize_weight)]
    fn fp8_quantize_weight(w: FloatTensor<Self>, options: QuantizeOptions) -> Fp8Weight<Self>;
    /// The values of 1x128 tiles, `[rows, columns]`.
    #[fusion(meta = fusion::dequantize_rows)]
    fn fp8_dequantize_rows(
        #[extension_type] x: Fp8Matrix<Self>,
        columns: usize,
        options: QuantizeOptions,
    ) -> FloatTensor<Self>;
    /// The values of 128x1 tiles, back in `[rows, columns]`.
    #[fusion(meta = fusion::dequantize_columns)]
    fn fp8_dequantize_columns(
        #[extension_type] x: Fp8Matrix<Self>,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> FloatTensor<Self>;
    /// The values of 128x128 blocks, `[experts * outputs, inputs]`.
    #[fusion(meta = fusion::dequantize_weight)]
    fn fp8_dequantize_weight(
        #[extension_type] w: Fp8Weight<Self>,
        shape: LinearShape,
        options: QuantizeOptions,
    ) -> FloatTensor<Self>;
    /// E5M6 with power-of-two scales in 1x128 tiles of x `[rows, columns]`.
    #[fusion(meta = fusion::e5m6_quantize)]
    fn e5m6_quantize(x: FloatTensor<Self>) -> Fp8Matrix<Self>;
    /// The values of E5M6 codes, `[rows, columns]`.
    #[fusion(meta = fusion::e5m6_dequantize)]
    fn e5m6_dequantize(#[extension_type] x: Fp8Matrix<Self>, columns: usize) -> FloatTensor<Self>;
    /// 128x1 tiles of what was kept of an input `[rows, columns]`, for Wgrad.
    #[fusion(meta = fusion::requantize)]
    fn fp8_requantize(
        #[extension_type] x: Fp8Matrix<Self>,
        columns: usize,
        groups: RowGroups,
        kept: KeptActivation,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self>;

    /// Fprop `[rows, outputs]` of an input, or Dgrad `[rows, inputs]` of a gradient, each in 1x128
    /// tiles.
    #[fusion(meta = fusion::gemm)]
    fn fp8_gemm(
        #[extension_type] a: Fp8Matrix<Self>,
        #[extension_type] w: Fp8Weight<Self>,
        groups: RowGroups,
        shape: LinearShape,
        side: Side,
        rule: Fp8Rule,
    ) -> FloatTensor<Self>;
    /// Wgrad, `[experts, outputs, inputs]`, of a gradient and an input in 128x1 tiles; zero for an
    /// expert without rows.
    #[fusion(meta = fusion::weight_gradient)]
    fn fp8_weight_gradient(
        #[extension_type] dy: Fp8Matrix<Self>,
        #[extension_type] x: Fp8Matrix<Self>,
        groups: RowGroups,
        shape: LinearShape,
        rule: Fp8Rule,
    ) -> FloatTensor<Self>;

    /// 1x128 tiles of `silu(gate) * up`; gate_up `[rows, 2 * columns]`.
    #[fusion(meta = fusion::swiglu_rows)]
    fn fp8_swiglu_rows(gate_up: FloatTensor<Self>, options: QuantizeOptions) -> Fp8Matrix<Self>;
    /// 128x1 tiles of `silu(gate) * up`, from gate and up as they were kept, in 1x128 tiles.
    #[fusion(meta = fusion::swiglu_columns)]
    fn fp8_swiglu_columns(
        #[extension_type] gate_up: Fp8Matrix<Self>,
        columns: usize,
        groups: RowGroups,
        kept: QuantizeOptions,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self>;
    /// `d gate_up`, `[rows, 2 * columns]`, from gate and up as they were kept, in 1x128 tiles, and
    /// dy `[rows, columns]`.
    #[fusion(meta = fusion::swiglu_backward)]
    fn fp8_swiglu_backward(
        #[extension_type] gate_up: Fp8Matrix<Self>,
        dy: FloatTensor<Self>,
        kept: QuantizeOptions,
    ) -> FloatTensor<Self>;

    /// The linear `y = x w^T` of an input that is quantized already, differentiable in x and w. Of
    /// `input.columns` what `call.rule.kept` says is kept; of x nothing but its place in the graph
    /// is used.
    #[fusion(default)]
    fn fp8_linear(
        x: FloatTensor<Self>,
        #[extension_type] input: Fp8Pair<Self>,
        w: FloatTensor<Self>,
        #[extension_type] weight: Fp8Weight<Self>,
        call: LinearCall,
    ) -> FloatTensor<Self> {
        let _ = (x, w); // places in a graph, which only autodiff has
        Self::fp8_gemm(input.rows, weight, call.groups, call.shape, Side::Fprop, call.rule)
    }
    /// `y = (silu(gate) * up) w^T`, differentiable in gate_up and w: gate and up are kept in FP8,
    /// SwiGLU's result is not kept.
    #[fusion(default)]
    fn fp8_swiglu_linear(
        gate_up: FloatTensor<Self>,
        w: FloatTensor<Self>,
        #[extension_type] weight: Fp8Weight<Self>,
        call: LinearCall,
    ) -> FloatTensor<Self> {
        let _ = w;
        let hidden = Self::fp8_swiglu_rows(gate_up, call.rule.activations);
        Self::fp8_gemm(hidden, weight, call.groups, call.shape, Side::Fprop, call.rule)
    }
}
