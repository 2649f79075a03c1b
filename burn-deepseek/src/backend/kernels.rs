//! What a backend implements to take part: each operation forward and backward, on its own tensors,
//! without autodiff.

use burn::backend::Backend;
use burn::backend::tensor::{FloatTensor, IntTensor};

use crate::definition::ExpertGroups;
use crate::precision::{AttentionOptions, ProductFormat};

/// Attention's result, and what its backward needs of it.
#[derive(Clone, Debug)]
pub struct AttentionOutput<B: Backend> {
    /// `[batch, t, heads, v]`.
    pub out: FloatTensor<B>,
    /// Log of the softmax's denominator, `[batch, heads, t]`.
    pub lse: FloatTensor<B>,
}

/// A norm's result, and what its backward needs of it.
#[derive(Debug)]
pub struct NormOutput<B: Backend> {
    /// `[rows, d]`.
    pub y: FloatTensor<B>,
    /// `1 / sqrt(mean(x^2) + eps)`, `[rows]`.
    pub rstd: FloatTensor<B>,
}

/// Gradients of head and cross entropy for an upstream gradient of 1.
#[derive(Debug)]
pub struct HeadLossGradients<B: Backend> {
    /// `[rows, d]`.
    pub dx: FloatTensor<B>,
    /// `[vocab, d]`.
    pub dw: FloatTensor<B>,
}

/// Head and cross entropy.
#[derive(Debug)]
pub struct HeadLoss<B: Backend> {
    /// Mean over counted rows, `[1]`.
    pub loss: FloatTensor<B>,
    /// Where they were asked for.
    pub gradients: Option<HeadLossGradients<B>>,
}

/// Forward and backward of every fused operation. Shapes as in [`super::FusedOps`]; every gradient
/// has its argument's shape.
pub trait FusedKernels: Backend {
    /// `x w^T`.
    fn linear_forward(
        x: &FloatTensor<Self>,
        w: &FloatTensor<Self>,
        format: ProductFormat,
    ) -> FloatTensor<Self>;
    /// `dy w`.
    fn linear_input_gradient(
        dy: &FloatTensor<Self>,
        w: &FloatTensor<Self>,
        format: ProductFormat,
    ) -> FloatTensor<Self>;
    /// `dy^T x`.
    fn linear_weight_gradient(
        dy: &FloatTensor<Self>,
        x: &FloatTensor<Self>,
        format: ProductFormat,
    ) -> FloatTensor<Self>;

    /// RMSNorm.
    fn rms_norm(x: &FloatTensor<Self>, gamma: &FloatTensor<Self>, eps: f64) -> NormOutput<Self>;
    /// `(dx, dgamma)`.
    fn rms_norm_backward(
        x: &FloatTensor<Self>,
        gamma: &FloatTensor<Self>,
        rstd: &FloatTensor<Self>,
        dy: &FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `silu(gate) * up`.
    fn swiglu(gate_up: &FloatTensor<Self>) -> FloatTensor<Self>;
    /// `d gate_up`.
    fn swiglu_backward(gate_up: &FloatTensor<Self>, dy: &FloatTensor<Self>) -> FloatTensor<Self>;

    /// Rotation by the angles, or against them.
    fn rope(
        x: &FloatTensor<Self>,
        cos: &FloatTensor<Self>,
        sin: &FloatTensor<Self>,
        interleaved: bool,
        backward: bool,
    ) -> FloatTensor<Self>;

    /// Expanded MLA attention.
    fn mla_attention(
        q: &FloatTensor<Self>,
        kv: &FloatTensor<Self>,
        k_rope: &FloatTensor<Self>,
        options: AttentionOptions,
    ) -> AttentionOutput<Self>;
    /// `(dq, dkv, dk_rope)`.
    fn mla_attention_backward(
        q: &FloatTensor<Self>,
        kv: &FloatTensor<Self>,
        k_rope: &FloatTensor<Self>,
        output: &AttentionOutput<Self>,
        dout: &FloatTensor<Self>,
        options: AttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Rows of tokens to rows of experts.
    fn permute(x: &FloatTensor<Self>, groups: &ExpertGroups) -> FloatTensor<Self>;
    /// `dx`, each token's slots summed in their order.
    fn permute_backward(dy: &FloatTensor<Self>, groups: &ExpertGroups) -> FloatTensor<Self>;

    /// Weighted sums by token.
    fn combine(
        y: &FloatTensor<Self>,
        weights: &FloatTensor<Self>,
        groups: &ExpertGroups,
    ) -> FloatTensor<Self>;
    /// `(dy, dweights)`.
    fn combine_backward(
        y: &FloatTensor<Self>,
        weights: &FloatTensor<Self>,
        groups: &ExpertGroups,
        dout: &FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// One linear an expert.
    fn grouped_linear(
        x: &FloatTensor<Self>,
        w: &FloatTensor<Self>,
        groups: &ExpertGroups,
        format: ProductFormat,
    ) -> FloatTensor<Self>;
    /// `dx`.
    fn grouped_linear_input_gradient(
        dy: &FloatTensor<Self>,
        w: &FloatTensor<Self>,
        groups: &ExpertGroups,
        format: ProductFormat,
    ) -> FloatTensor<Self>;
    /// `dw`, zero for experts without rows.
    fn grouped_linear_weight_gradient(
        dy: &FloatTensor<Self>,
        x: &FloatTensor<Self>,
        groups: &ExpertGroups,
        format: ProductFormat,
    ) -> FloatTensor<Self>;

    /// Rows of a table.
    fn embedding_forward(table: &FloatTensor<Self>, tokens: &IntTensor<Self>) -> FloatTensor<Self>;
    /// The table's gradient, `[vocab, d]`.
    fn embedding_table_gradient(
        dy: &FloatTensor<Self>,
        tokens: &IntTensor<Self>,
        vocab: usize,
    ) -> FloatTensor<Self>;

    /// Head and mean cross entropy; the gradients come with the forward pass, while the logits are
    /// at hand.
    fn linear_cross_entropy(
        x: &FloatTensor<Self>,
        w: &FloatTensor<Self>,
        targets: &IntTensor<Self>,
        gradients: bool,
        format: ProductFormat,
    ) -> HeadLoss<Self>;

    /// A gradient times the upstream gradient of a scalar loss, `[1]`; nothing is done where that
    /// is 1.
    fn scaled(x: FloatTensor<Self>, by: &FloatTensor<Self>) -> FloatTensor<Self>;
}
