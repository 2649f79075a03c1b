//! The table of the fused operations: what a backend implements to take part, each operation
//! forward and backward, on its own tensors, without autodiff.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, backend_extension};
use cubecl_kernels::KernelError;
use cubecl_kernels::definition::{AttentionShape, RopeLayout, RopeShape, RouteShape};

#[cfg(feature = "cube")]
use super::results::{Shaped, floats, ints, words};
use super::table::define_kernels;
use super::tensors::tensors;
#[cfg(feature = "cube")]
use super::with_fusion as burn;
use crate::definition::AdamWScalars;
use crate::precision::{AttentionOptions, ProductFormat};

/// Attention's result, and what its backward needs of it.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct AttentionOutput<B: Backend> {
    /// `[batch, t, heads, v]`.
    pub out: FloatTensor<B>,
    /// Log of the softmax's denominator, `[batch, heads, t]`.
    pub lse: FloatTensor<B>,
}
tensors!(AttentionOutput, AttentionOutputMetadata { out: FloatTensor<B>, lse: FloatTensor<B> });

/// Gradients of attention's inputs.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct AttentionGradients<B: Backend> {
    /// Gradient of q.
    pub dq: FloatTensor<B>,
    /// Gradient of kv.
    pub dkv: FloatTensor<B>,
    /// Gradient of k_rope.
    pub dk_rope: FloatTensor<B>,
}
tensors!(AttentionGradients, AttentionGradientsMetadata {
    dq: FloatTensor<B>,
    dkv: FloatTensor<B>,
    dk_rope: FloatTensor<B>,
});

/// A norm's result, and what its backward needs of it.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct NormOutput<B: Backend> {
    /// `[rows, d]`.
    pub y: FloatTensor<B>,
    /// `1 / sqrt(mean(x^2) + eps)`, `[rows]`.
    pub rstd: FloatTensor<B>,
}
tensors!(NormOutput, NormOutputMetadata { y: FloatTensor<B>, rstd: FloatTensor<B> });

/// Gradients of a norm's inputs.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct NormGradients<B: Backend> {
    /// Gradient of x.
    pub dx: FloatTensor<B>,
    /// Gradient of gamma.
    pub dgamma: FloatTensor<B>,
}
tensors!(NormGradients, NormGradientsMetadata { dx: FloatTensor<B>, dgamma: FloatTensor<B> });

/// Gradients of the inputs of a combine.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct CombineGradients<B: Backend> {
    /// Gradient of y.
    pub dy: FloatTensor<B>,
    /// Gradient of the weights.
    pub dweights: FloatTensor<B>,
}
tensors!(CombineGradients, CombineGradientsMetadata {
    dy: FloatTensor<B>,
    dweights: FloatTensor<B>,
});

/// Head and cross entropy, with the gradients for an upstream gradient of 1.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct HeadLoss<B: Backend> {
    /// Mean over counted rows, `[1]`.
    pub loss: FloatTensor<B>,
    /// Gradient of x.
    pub dx: FloatTensor<B>,
    /// Gradient of w.
    pub dw: FloatTensor<B>,
}
tensors!(HeadLoss, HeadLossMetadata {
    loss: FloatTensor<B>,
    dx: FloatTensor<B>,
    dw: FloatTensor<B>,
});

/// A flat parameter and its two moments after an optimizer step.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct AdamWOutput<B: Backend> {
    /// The parameter, `[n]`.
    pub value: FloatTensor<B>,
    /// First moment, `[n]`.
    pub first: FloatTensor<B>,
    /// Second moment, `[n]`.
    pub second: FloatTensor<B>,
}
tensors!(AdamWOutput, AdamWOutputMetadata {
    value: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
});

/// Rows by expert, on a device: [`GroupTables`](crate::definition::GroupTables) as kernels take
/// them, in words (U32).
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct RowTables<B: Backend> {
    /// First row, first word and first tile of each expert, and the totals, `[3, experts + 1]`.
    pub bounds: IntTensor<B>,
    /// `[tokens, top_k]`.
    pub row_of_slot: IntTensor<B>,
    /// `[rows]`.
    pub token_of_row: IntTensor<B>,
    /// `[rows]`.
    pub slot_of_row: IntTensor<B>,
}
tensors!(RowTables, RowTablesMetadata {
    bounds: IntTensor<B>,
    row_of_slot: IntTensor<B>,
    token_of_row: IntTensor<B>,
    slot_of_row: IntTensor<B>,
});

/// A choice of experts, in the numbers (I32) that Burn's operations take as indices (a server has no
/// cast of them, as of Burn 0.22.1), and its tables, in words (U32).
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub struct RoutedTokens<B: Backend> {
    /// Experts of each token in ascending order, `[tokens, top_k]`.
    pub choices: IntTensor<B>,
    /// Tokens that chose each expert, `[experts]`.
    pub loads: IntTensor<B>,
    /// First row, first word and first tile of each expert, and the totals, `[3, experts + 1]`.
    pub bounds: IntTensor<B>,
    /// `[tokens, top_k]`.
    pub row_of_slot: IntTensor<B>,
    /// `[rows]`.
    pub token_of_row: IntTensor<B>,
    /// `[rows]`.
    pub slot_of_row: IntTensor<B>,
}
tensors!(RoutedTokens, RoutedTokensMetadata {
    choices: IntTensor<B>,
    loads: IntTensor<B>,
    bounds: IntTensor<B>,
    row_of_slot: IntTensor<B>,
    token_of_row: IntTensor<B>,
    slot_of_row: IntTensor<B>,
});

/// The table, for a macro that makes something of its rows: operations, and for each its kernels.
macro_rules! fused_kernels {
    ($generate:ident) => {
        $generate! {
            /// Kernels of the fused operations. A backend implements all kernels of an operation or
            /// none; every gradient has its argument's shape. Tensors come without autodiff, which
            /// [`FusedOps`](super::FusedOps) adds.
            trait FusedKernels;

            /// `y = x w^T`.
            Linear {
                /// `x w^T`; x `[rows, d_in]`, w `[d_out, d_in]`.
                fn linear_forward(
                    x: FloatTensor<Self>,
                    w: FloatTensor<Self>,
                    format: ProductFormat,
                ) -> FloatTensor<Self> => {
                    let ([rows, _], [outputs, _]) = (x.shape().dims(), w.shape().dims());
                    floats([rows, outputs])
                };
                /// `dy w`.
                fn linear_input_gradient(
                    dy: FloatTensor<Self>,
                    w: FloatTensor<Self>,
                    format: ProductFormat,
                ) -> FloatTensor<Self> => {
                    let ([rows, _], [_, inputs]) = (dy.shape().dims(), w.shape().dims());
                    floats([rows, inputs])
                };
                /// `dy^T x`.
                fn linear_weight_gradient(
                    dy: FloatTensor<Self>,
                    x: FloatTensor<Self>,
                    format: ProductFormat,
                ) -> FloatTensor<Self> => {
                    let ([_, outputs], [_, inputs]) = (dy.shape().dims(), x.shape().dims());
                    floats([outputs, inputs])
                };
            }

            /// RMSNorm of rows.
            RmsNorm {
                /// RMSNorm; x `[rows, d]`, gamma `[d]`.
                fn rms_norm(
                    x: FloatTensor<Self>,
                    gamma: FloatTensor<Self>,
                    eps: f64,
                ) -> NormOutput<Self> => {
                    let [rows, width] = x.shape().dims();
                    floats([rows, width]).floats([rows])
                };
                /// Gradients of x and gamma.
                fn rms_norm_backward(
                    x: FloatTensor<Self>,
                    gamma: FloatTensor<Self>,
                    rstd: FloatTensor<Self>,
                    dy: FloatTensor<Self>,
                ) -> NormGradients<Self> => floats(x.shape()).floats(gamma.shape());
            }

            /// `x + y`: Burn's own sum, and a backward pass that needs neither.
            Residual {}

            /// `silu(gate) * up`.
            Swiglu {
                /// `silu(gate) * up`; gate_up `[rows, 2 * inter]`.
                fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> => {
                    let [rows, width] = gate_up.shape().dims();
                    floats([rows, width / 2])
                };
                /// `d gate_up`.
                fn swiglu_backward(
                    gate_up: FloatTensor<Self>,
                    dy: FloatTensor<Self>,
                ) -> FloatTensor<Self> => floats(gate_up.shape());
            }

            /// Rotary positions.
            Rope {
                /// Rotation by the angles; x `[batch, seq, heads, head_dim]`, cos and sin
                /// `[seq, rope_dim / 2]`.
                fn rope(
                    x: FloatTensor<Self>,
                    cos: FloatTensor<Self>,
                    sin: FloatTensor<Self>,
                    interleaved: bool,
                ) -> FloatTensor<Self> => floats(x.shape());
                /// Rotation against the angles.
                fn rope_backward(
                    dy: FloatTensor<Self>,
                    cos: FloatTensor<Self>,
                    sin: FloatTensor<Self>,
                    interleaved: bool,
                ) -> FloatTensor<Self> => floats(dy.shape());
            }

            /// Expanded MLA attention.
            MlaAttention {
                /// Expanded MLA attention; q `[batch, t, heads, nope + rope]`, kv
                /// `[batch, s, heads, nope + v]`, k_rope `[batch, s, rope]`.
                fn mla_attention(
                    q: FloatTensor<Self>,
                    kv: FloatTensor<Self>,
                    k_rope: FloatTensor<Self>,
                    options: AttentionOptions,
                ) -> AttentionOutput<Self> => {
                    let ([batch, queries, heads, qk_dim], [_, _, _, kv_dim], [_, _, rope_dim]) =
                        (q.shape().dims(), kv.shape().dims(), k_rope.shape().dims());
                    let v_dim = kv_dim - (qk_dim - rope_dim);
                    floats([batch, queries, heads, v_dim]).floats([batch, heads, queries])
                };
                /// Gradients of q, kv and k_rope.
                fn mla_attention_backward(
                    q: FloatTensor<Self>,
                    kv: FloatTensor<Self>,
                    k_rope: FloatTensor<Self>,
                    #[extension_type] output: AttentionOutput<Self>,
                    dout: FloatTensor<Self>,
                    options: AttentionOptions,
                ) -> AttentionGradients<Self>
                    => floats(q.shape()).floats(kv.shape()).floats(k_rope.shape());
            }

            /// Absorbed MLA attention, for decoding.
            MlaAbsorbed {
                /// MLA attention over latents; q `[batch, t, heads, nope + rope]`, latents
                /// `[batch, s, rank]`, k_rope `[batch, s, rope]`, kv_b
                /// `[heads * (nope + v), rank]`.
                fn mla_absorbed_attention(
                    q: FloatTensor<Self>,
                    latents: FloatTensor<Self>,
                    k_rope: FloatTensor<Self>,
                    kv_b: FloatTensor<Self>,
                    scale: f64,
                ) -> FloatTensor<Self> => {
                    let ([batch, queries, heads, qk_dim], [_, _, rope_dim], [kv_rows, _]) =
                        (q.shape().dims(), k_rope.shape().dims(), kv_b.shape().dims());
                    let v_dim = kv_rows / heads - (qk_dim - rope_dim);
                    floats([batch, queries, heads, v_dim])
                };
            }

            /// Rows of tokens to rows of experts.
            Permute {
                /// Rows of tokens to rows of experts; x `[tokens, d]`.
                fn permute(
                    x: FloatTensor<Self>,
                    #[extension_type] rows: RowTables<Self>,
                ) -> FloatTensor<Self> => {
                    let ([_, width], [count]) =
                        (x.shape().dims(), rows.token_of_row.shape().dims());
                    floats([count, width])
                };
                /// `dx`, each token's slots summed in their order.
                fn permute_backward(
                    dy: FloatTensor<Self>,
                    #[extension_type] rows: RowTables<Self>,
                ) -> FloatTensor<Self> => {
                    let ([_, width], [tokens, _]) =
                        (dy.shape().dims(), rows.row_of_slot.shape().dims());
                    floats([tokens, width])
                };
            }

            /// Rows of experts to weighted sums by token.
            Combine {
                /// Weighted sums by token; y `[rows, d]`, weights `[tokens, top_k]`.
                fn combine(
                    y: FloatTensor<Self>,
                    weights: FloatTensor<Self>,
                    #[extension_type] rows: RowTables<Self>,
                ) -> FloatTensor<Self> => {
                    let ([_, width], [tokens, _]) =
                        (y.shape().dims(), rows.row_of_slot.shape().dims());
                    floats([tokens, width])
                };
                /// Gradients of y and the weights.
                fn combine_backward(
                    y: FloatTensor<Self>,
                    weights: FloatTensor<Self>,
                    #[extension_type] rows: RowTables<Self>,
                    dout: FloatTensor<Self>,
                ) -> CombineGradients<Self> => floats(y.shape()).floats(rows.row_of_slot.shape());
            }

            /// One linear an expert.
            GroupedLinear {
                /// One linear an expert; x `[rows, d_in]`, w `[experts, d_out, d_in]`, bounds of
                /// rows as [`RowTables`] has them.
                fn grouped_linear(
                    x: FloatTensor<Self>,
                    w: FloatTensor<Self>,
                    bounds: IntTensor<Self>,
                    format: ProductFormat,
                ) -> FloatTensor<Self> => {
                    let ([rows, _], [_, outputs, _]) = (x.shape().dims(), w.shape().dims());
                    floats([rows, outputs])
                };
                /// `dx`.
                fn grouped_linear_input_gradient(
                    dy: FloatTensor<Self>,
                    w: FloatTensor<Self>,
                    bounds: IntTensor<Self>,
                    format: ProductFormat,
                ) -> FloatTensor<Self> => {
                    let ([rows, _], [_, _, inputs]) = (dy.shape().dims(), w.shape().dims());
                    floats([rows, inputs])
                };
                /// `dw`, zero for experts without rows.
                fn grouped_linear_weight_gradient(
                    dy: FloatTensor<Self>,
                    x: FloatTensor<Self>,
                    bounds: IntTensor<Self>,
                    format: ProductFormat,
                ) -> FloatTensor<Self> => {
                    let ([_, outputs], [_, inputs], [_, ends]) =
                        (dy.shape().dims(), x.shape().dims(), bounds.shape().dims());
                    floats([ends - 1, outputs, inputs])
                };
            }

            /// Rows of an embedding table.
            Embedding {
                /// Rows of a table; table `[vocab, d]`, tokens `[n]`.
                fn embedding_forward(
                    table: FloatTensor<Self>,
                    tokens: IntTensor<Self>,
                ) -> FloatTensor<Self> => {
                    let ([_, width], [count]) = (table.shape().dims(), tokens.shape().dims());
                    floats([count, width])
                };
                /// The table's gradient, `[vocab, d]`.
                fn embedding_table_gradient(
                    dy: FloatTensor<Self>,
                    tokens: IntTensor<Self>,
                    vocab: usize,
                ) -> FloatTensor<Self> => {
                    let [_, width] = dy.shape().dims();
                    floats([*vocab, width])
                };
            }

            /// Output head and mean cross entropy.
            LinearCrossEntropy {
                /// Head and mean cross entropy, `[1]`; x `[rows, d]`, w `[vocab, d]`, targets
                /// `[rows]`, negative ones not counted.
                fn linear_cross_entropy(
                    x: FloatTensor<Self>,
                    w: FloatTensor<Self>,
                    targets: IntTensor<Self>,
                    format: ProductFormat,
                ) -> FloatTensor<Self> => floats([1]);
                /// The loss together with its gradients, which are computed while the logits are at
                /// hand.
                fn linear_cross_entropy_gradients(
                    x: FloatTensor<Self>,
                    w: FloatTensor<Self>,
                    targets: IntTensor<Self>,
                    format: ProductFormat,
                ) -> HeadLoss<Self> => floats([1]).floats(x.shape()).floats(w.shape());
                /// A gradient times the upstream gradient of a scalar loss, `[1]`; nothing is done
                /// where that is 1.
                fn scaled(x: FloatTensor<Self>, by: FloatTensor<Self>) -> FloatTensor<Self>
                    => floats(x.shape());
            }

            /// One AdamW update of a flat parameter.
            AdamW {
                /// One AdamW update, in place where the tensors are not shared; value, grad, first,
                /// second `[n]`, the moments in FP32 or BF16.
                fn adamw(
                    value: FloatTensor<Self>,
                    grad: FloatTensor<Self>,
                    first: FloatTensor<Self>,
                    second: FloatTensor<Self>,
                    scalars: AdamWScalars,
                ) -> AdamWOutput<Self>
                    => floats(value.shape())
                        .entries(first.shape(), first.dtype())
                        .entries(second.shape(), second.dtype());
            }

            /// Sum of squares in FP64.
            SumOfSquares {
                /// Sum of the squares of all entries of x `[n]`, in FP64: its bits as two words,
                /// the lower half first.
                fn sum_of_squares(x: FloatTensor<Self>) -> IntTensor<Self> => words([2]);
            }

            /// The choice of experts and its tables, where the host does not make them.
            Route {
                /// Experts of each token and what follows; scores `[tokens, experts]`, bias
                /// `[experts]`.
                fn route(
                    scores: FloatTensor<Self>,
                    bias: FloatTensor<Self>,
                    shape: RouteShape,
                ) -> RoutedTokens<Self> => {
                    ints([shape.tokens, shape.top_k])
                        .and(words([shape.experts]))
                        .and(words([3, shape.experts + 1]))
                        .and(words([shape.tokens, shape.top_k]))
                        .and(words([shape.slots()]))
                        .and(words([shape.slots()]))
                };
                /// For each sequence of `seq` tokens how many of them have each expert among the
                /// best, `[tokens / seq, experts]`.
                fn sequence_counts(
                    scores: FloatTensor<Self>,
                    shape: RouteShape,
                    seq: usize,
                ) -> IntTensor<Self> => ints([shape.tokens / (*seq).max(1), shape.experts]);
            }
        }
    };
}
pub(super) use fused_kernels;

fused_kernels!(define_kernels);

/// What a kernel refuses is a mistake of the caller: shapes, which are made here, and tokens
/// outside the vocabulary, which are not. As with Burn's own operations that is a panic; its
/// message names the argument and the place.
pub(super) fn done<T>(result: Result<T, KernelError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// The sizes of an attention, from the dims of q, kv and k_rope.
pub(super) fn attention_shape(
    [batch, queries, heads, qk_dim]: [usize; 4],
    [_, keys, _, kv_dim]: [usize; 4],
    [_, _, rope_dim]: [usize; 3],
) -> AttentionShape {
    let nope_dim = qk_dim - rope_dim;
    AttentionShape { batch, queries, keys, heads, nope_dim, rope_dim, v_dim: kv_dim - nope_dim }
}

/// The sizes of a rotation, from the dims of its heads and of its cosines.
pub(super) fn rope_shape(
    [batch, tokens, heads, head_dim]: [usize; 4],
    [_, half]: [usize; 2],
    interleaved: bool,
) -> RopeShape {
    let layout = if interleaved { RopeLayout::Interleaved } else { RopeLayout::Halves };
    RopeShape { batch, tokens, heads, head_dim, rope_dim: 2 * half, layout }
}
