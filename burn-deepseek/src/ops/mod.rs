//! Tensor operations of the model: one function each, fused where the backend has kernels for it,
//! Burn's own operations elsewhere.
//!
//! Both forms of an operation compute the same function. [`composed`] is the one to read, and has
//! the shapes of each.

pub mod composed;
mod deferred;
pub mod fp8;
mod function;
mod local_experts;
pub(crate) mod routing;
pub mod stored;
pub mod wire;

use burn::backend::Dispatch;
use burn::tensor::kind::Basic;
use burn::tensor::{Device, Int, Tensor};

use crate::backend::{self, FusedKernels, FusedOp, FusedOps, PlainLinear, supports};
use crate::definition::{AdamWScalars, ExpertGroups, RopeTable};
use crate::precision::{AttentionOptions, ProductFormat};

pub use crate::to_host::{host_reads, to_host};
pub use function::with_gradient;
pub use local_experts::LocalExperts;

/// A tensor without autodiff on another device: what ranks send each other.
///
/// [`Tensor::to_device`], made safe for ranks that send at once. Servers of Burn's remote backend with
/// several sessions each would fetch from each other, each over one connection, and could wait for
/// each other in a circle: between them tensors go by way of this process. Devices that have a
/// transport of their own (CUDA's with NCCL) could wait for each other's transfers so: those are
/// asked for one at a time.
pub fn moved<const D: usize, K: Basic>(x: Tensor<D, K>, device: &Device) -> Tensor<D, K> {
    backend::moved(x, device)
}

/// `y = x w^T (+ b)` in the format of `call`; the composed form ([`composed::linear`]) is in FP32
/// whatever that is.
pub fn linear(
    x: Tensor<2>,
    w: Tensor<2>,
    bias: Option<Tensor<1>>,
    call: impl Into<PlainLinear>,
) -> Tensor<2> {
    let call = call.into();
    if !supports(FusedOp::Linear, &x) || !supports(FusedOp::Linear, &w) {
        return match call.deferred {
            Some(deferred) => deferred::linear(x, w, bias, deferred),
            None => composed::linear(x, w, bias),
        };
    }
    let y =
        Tensor::from_dispatch(Dispatch::fused_linear(x.into_dispatch(), w.into_dispatch(), call));
    match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    }
}

/// Root-mean-square norm of rows, as [`composed::rms_norm`].
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f64) -> Tensor<2> {
    if !supports(FusedOp::RmsNorm, &x) || !supports(FusedOp::RmsNorm, &gamma) {
        return composed::rms_norm(x, gamma, eps);
    }
    Tensor::from_dispatch(Dispatch::fused_rms_norm(x.into_dispatch(), gamma.into_dispatch(), eps))
}

/// `x + y`, of which a backward pass needs neither.
///
/// # Shapes
///
/// - x, y, output: `[rows, d]`
pub fn residual(x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
    if !supports(FusedOp::Residual, &x) {
        return x + y;
    }
    Tensor::from_dispatch(Dispatch::fused_residual(x.into_dispatch(), y.into_dispatch()))
}

/// SwiGLU on stacked projections, as [`composed::swiglu`].
pub fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    if !supports(FusedOp::Swiglu, &gate_up) {
        return composed::swiglu(gate_up);
    }
    Tensor::from_dispatch(Dispatch::fused_swiglu(gate_up.into_dispatch()))
}

/// Rotates the ends of heads by their positions, as [`composed::rope`].
pub fn rope(x: Tensor<4>, table: &RopeTable) -> Tensor<4> {
    if !supports(FusedOp::Rope, &x) {
        return composed::rope(x, table);
    }
    let (cos, sin) = (table.cos().into_dispatch(), table.sin().into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_rope(x.into_dispatch(), cos, sin, table.interleaved()))
}

/// Causal attention over keys and values of every head, its products in `format`; the composed form
/// ([`composed::mla_attention`]) is in FP32 whatever that is.
pub fn mla_attention(
    q: Tensor<4>,
    kv: Tensor<4>,
    k_rope: Tensor<3>,
    scale: f64,
    format: ProductFormat,
) -> Tensor<4> {
    if !supports(FusedOp::MlaAttention, &q) {
        return composed::mla_attention(q, kv, k_rope, scale);
    }
    let options = AttentionOptions { scale: scale as f32, format };
    Tensor::from_dispatch(Dispatch::fused_mla_attention(
        q.into_dispatch(),
        kv.into_dispatch(),
        k_rope.into_dispatch(),
        options,
    ))
}

/// Causal attention over cached latents, as [`composed::mla_absorbed_attention`]; the fused form
/// where there is no autodiff.
pub fn mla_absorbed_attention(
    q: Tensor<4>,
    latents: Tensor<3>,
    k_rope: Tensor<3>,
    kv_b: Tensor<2>,
    scale: f64,
) -> Tensor<4> {
    if !supports(FusedOp::MlaAbsorbed, &q) || q.device().is_autodiff() {
        return composed::mla_absorbed_attention(q, latents, k_rope, kv_b, scale);
    }
    Tensor::from_dispatch(Dispatch::mla_absorbed_attention(
        q.into_dispatch(),
        latents.into_dispatch(),
        k_rope.into_dispatch(),
        kv_b.into_dispatch(),
        scale,
    ))
}

/// Copies tokens to the rows of their experts, as [`composed::permute`].
pub fn permute(x: Tensor<2>, groups: &ExpertGroups) -> Tensor<2> {
    if !supports(FusedOp::Permute, &x) {
        return composed::permute(x, groups);
    }
    let rows = routing::tables(groups, &x.device());
    Tensor::from_dispatch(Dispatch::fused_permute(x.into_dispatch(), rows))
}

/// The values of `x` as a node of their own: gradients of what takes the fork are summed before
/// they join the others of `x`.
///
/// A sum of three gradients has then one order, whatever graph it is a part of, and a model cut
/// into stages has the gradients of the whole, bit for bit.
///
/// # Shapes
///
/// - x, output: `[rows, d]`
pub fn fork(x: Tensor<2>) -> Tensor<2> {
    let [rows, d] = x.dims();
    x.reshape([1, rows, d]).reshape([rows, d]) // views, which gradient checkpointing makes again
}

/// Sums the rows of experts back into tokens by gate value, as [`composed::combine`].
pub fn combine(y: Tensor<2>, weights: Tensor<2>, groups: &ExpertGroups) -> Tensor<2> {
    if !supports(FusedOp::Combine, &y) {
        return composed::combine(y, weights, groups);
    }
    let rows = routing::tables(groups, &y.device());
    Tensor::from_dispatch(Dispatch::fused_combine(y.into_dispatch(), weights.into_dispatch(), rows))
}

/// One linear an expert over its own rows, in the format of `call`; the composed form
/// ([`composed::grouped_linear`]) is in FP32 whatever that is.
pub fn grouped_linear(
    x: Tensor<2>,
    w: Tensor<3>,
    groups: &ExpertGroups,
    call: impl Into<PlainLinear>,
) -> Tensor<2> {
    let call = call.into();
    if !supports(FusedOp::GroupedLinear, &x) || !supports(FusedOp::GroupedLinear, &w) {
        return match call.deferred {
            Some(deferred) => deferred::grouped_linear(x, w, groups, deferred),
            None => composed::grouped_linear(x, w, groups),
        };
    }
    let bounds = groups.tables(&x.device()).bounds;
    Tensor::from_dispatch(Dispatch::fused_grouped_linear(
        x.into_dispatch(),
        w.into_dispatch(),
        bounds.into_dispatch(),
        call,
    ))
}

/// Rows of an embedding table, as [`composed::embedding`].
pub fn embedding(table: Tensor<2>, tokens: Tensor<2, Int>) -> Tensor<3> {
    if !supports(FusedOp::Embedding, &table) {
        return composed::embedding(table, tokens);
    }
    let [batch, seq] = tokens.dims();
    let d = table.dims()[1];
    let tokens = tokens.reshape([batch * seq]).into_dispatch();
    Tensor::<2>::from_dispatch(Dispatch::fused_embedding(table.into_dispatch(), tokens))
        .reshape([batch, seq, d])
}

/// Output head and mean cross entropy, its products in `format`; the composed form
/// ([`composed::linear_cross_entropy`]) is in FP32 whatever that is.
pub fn linear_cross_entropy(
    x: Tensor<2>,
    w: Tensor<2>,
    targets: Tensor<1, Int>,
    format: ProductFormat,
) -> Tensor<1> {
    if !supports(FusedOp::LinearCrossEntropy, &x) || !supports(FusedOp::LinearCrossEntropy, &w) {
        return composed::linear_cross_entropy(x, w, targets);
    }
    let (x, w, targets) = (x.into_dispatch(), w.into_dispatch(), targets.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_linear_cross_entropy(x, w, targets, format))
}

/// One AdamW update of a flat parameter, as [`composed::adamw`]; the fused form updates in place
/// what nobody else holds. For tensors without autodiff.
pub fn adamw(
    value: Tensor<1>,
    grad: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    scalars: &AdamWScalars,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    if !supports(FusedOp::AdamW, &value) {
        return composed::adamw(value, grad, first, second, scalars);
    }
    let output = Dispatch::adamw(
        value.into_dispatch(),
        grad.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        *scalars,
    );
    (
        Tensor::from_dispatch(output.value),
        Tensor::from_dispatch(output.first),
        Tensor::from_dispatch(output.second),
    )
}

/// One step of an exponential moving average, as [`composed::average_into`]; the fused form updates
/// in place what nobody else holds, and takes a value of any device. For tensors without autodiff.
pub fn average_into(average: Tensor<1>, value: Tensor<1>, rate: f64) -> Tensor<1> {
    if backend::is_in_host_memory(&average) {
        backend::average_into(average, value, rate)
    } else {
        composed::average_into(average, value, rate)
    }
}

/// [`sum_of_squares`] of each of several tensors of one device, with one wait for it.
pub fn sums_of_squares(xs: Vec<Tensor<1>>) -> Vec<f64> {
    if xs.is_empty() || !xs.iter().all(|x| supports(FusedOp::SumOfSquares, x)) {
        return composed::sums_of_squares(xs);
    }
    let sum =
        |x: Tensor<1>| Tensor::<1, Int>::from_dispatch(Dispatch::sum_of_squares(x.into_dispatch()));
    let halves: Vec<u32> =
        to_host(Tensor::cat(xs.into_iter().map(sum).collect(), 0)).iter::<u32>().collect();
    halves
        .chunks_exact(2)
        .map(|bits| f64::from_bits(u64::from(bits[0]) | u64::from(bits[1]) << 32))
        .collect()
}

/// Sum of the squares of all entries; the fused form sums in FP64 on the host. For tensors without
/// autodiff.
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> f64 {
    if supports(FusedOp::SumOfSquares, &x) {
        let count = x.shape().num_elements();
        sums_of_squares(vec![x.reshape([count])]).into_iter().sum()
    } else {
        composed::sum_of_squares(x)
    }
}
