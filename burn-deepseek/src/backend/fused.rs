//! The operations of the model as one differentiable call each: what the model calls through Burn's
//! dispatch, made of the kernels of [`FusedKernels`].

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use super::DeferredWeight;
use super::kernels::{FusedKernels, RowTables};
use super::table::differentiable;
use crate::precision::{AttentionOptions, ProductFormat};

/// How a linear outside FP8 is computed.
#[derive(Clone, Debug)]
pub struct PlainLinear {
    /// What its products take.
    pub format: ProductFormat,
    /// Whether gradient checkpointing computes the result again instead of keeping it.
    pub recompute: bool,
    /// Where the weight gradient is left to be computed later; none computes it at once.
    pub deferred: Option<DeferredWeight>,
}

impl From<ProductFormat> for PlainLinear {
    /// The result kept, the weight gradient computed at once.
    fn from(format: ProductFormat) -> Self {
        Self { format, recompute: false, deferred: None }
    }
}

differentiable! {
    /// The operations of the model, each one call. Shapes are those of the functions of the same
    /// name in [`crate::ops`].
    trait FusedOps of FusedKernels;

    /// `y = x w^T`; x `[rows, d_in]`, w `[d_out, d_in]`.
    fn fused_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        call: PlainLinear,
    ) -> FloatTensor<Self> {
        Self::linear_forward(x, w, call.format)
    }
    /// RMSNorm of rows; x `[rows, d]`, gamma `[d]`.
    fn fused_rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        Self::rms_norm(x, gamma, eps).y
    }
    /// `x + y`; x, y `[rows, d]`.
    fn fused_residual(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::sum(x, y)
    }
    /// `silu(gate) * up`; gate_up `[rows, 2 * inter]`.
    fn fused_swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::swiglu(gate_up)
    }
    /// Rotary positions; x `[batch, seq, heads, head_dim]`, cos and sin `[seq, rope_dim / 2]`
    /// (constants).
    fn fused_rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        interleaved: bool,
    ) -> FloatTensor<Self> {
        Self::rope(x, cos, sin, interleaved)
    }
    /// Expanded MLA attention; q `[batch, t, heads, nope + rope]`, kv
    /// `[batch, s, heads, nope + v]`, k_rope `[batch, s, rope]`.
    fn fused_mla_attention(
        q: FloatTensor<Self>,
        kv: FloatTensor<Self>,
        k_rope: FloatTensor<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self> {
        Self::mla_attention(q, kv, k_rope, options).out
    }
    /// Rows of tokens to rows of experts; x `[tokens, d]`.
    fn fused_permute(
        x: FloatTensor<Self>,
        #[extension_type] rows: RowTables<Self>,
    ) -> FloatTensor<Self> {
        Self::permute(x, rows)
    }
    /// Rows of experts to weighted sums by token; y `[rows, d]`, weights `[tokens, top_k]`.
    fn fused_combine(
        y: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        #[extension_type] rows: RowTables<Self>,
    ) -> FloatTensor<Self> {
        Self::combine(y, weights, rows)
    }
    /// One linear an expert; x `[rows, d_in]`, w `[experts, d_out, d_in]`, bounds as [`RowTables`]
    /// has them.
    fn fused_grouped_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bounds: IntTensor<Self>,
        call: PlainLinear,
    ) -> FloatTensor<Self> {
        Self::grouped_linear(x, w, bounds, call.format)
    }
    /// Rows of a table; table `[vocab, d]`, tokens `[n]`.
    fn fused_embedding(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self> {
        Self::embedding_forward(table, tokens)
    }
    /// Head and mean cross entropy; x `[rows, d]`, w `[vocab, d]`, targets `[rows]`, negative ones
    /// not counted.
    fn fused_linear_cross_entropy(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        format: ProductFormat,
    ) -> FloatTensor<Self> {
        Self::linear_cross_entropy(x, w, targets, format)
    }
}
