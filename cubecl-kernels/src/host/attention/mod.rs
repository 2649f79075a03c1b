//! Causal multi-head latent attention, fused: no `t x s` matrix is kept.

mod absorbed;
mod backward;
mod decode;
mod few_rows;
mod forward;
mod head;
mod products;
#[cfg(test)]
mod tests;

use crate::definition::{
    AttentionOptions, AttentionShape, KernelError, check_length, element_count,
};

/// Query rows up to which nothing is packed.
const DECODE_QUERIES: usize = 4;

/// What [`attention`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionOutput {
    /// The mix of values, `[b, t, h, dv]`.
    pub out: Vec<f32>,
    /// The log of the sum of exponentials of each row's scaled scores, `[b, h, t]`: what backward
    /// needs of the softmax.
    pub lse: Vec<f32>,
}

/// What [`attention_backward`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionGradients {
    /// The gradient for `q`, `[b, t, h, dn + dr]`.
    pub dq: Vec<f32>,
    /// The gradient for `kv`, `[b, s, h, dn + dv]`.
    pub dkv: Vec<f32>,
    /// The gradient for `k_rope`, `[b, s, dr]`, summed over the heads.
    pub dk_rope: Vec<f32>,
}

/// Computes MLA's causal attention, `softmax(scale (q_nope k_nope^T + q_rope k_rope^T)) v`, with
/// `kv` as `kv_b` makes it and rotation already applied.
///
/// Query row `i` sees keys `0 ..= s - t + i`: `s == t` in training, `s > t` with a cache. Blocks of
/// query rows meet blocks of keys, masked blocks are skipped, and the softmax is kept running
/// (FlashAttention's form). Up to 4 query rows are computed in place, without packing, and in FP32
/// whatever the format.
///
/// # Shapes
/// - `q [b, t, h, dn + dr]`, `kv [b, s, h, dn + dv]` (`k_nope | v`), `k_rope [b, s, dr]`
/// - output: [`AttentionOutput`]
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Invalid`] where there are fewer keys
/// than queries.
///
/// Source: technical report 2.1.1.
///
/// # Example
/// ```
/// use cubecl_kernels::definition::{AttentionOptions, AttentionShape, ProductFormat};
/// use cubecl_kernels::host;
///
/// // One token, which sees only itself: the mix of values is its own.
/// let (batch, queries, keys, heads) = (1, 1, 1, 1);
/// let (nope_dim, rope_dim, v_dim) = (1, 2, 2);
/// let shape = AttentionShape { batch, queries, keys, heads, nope_dim, rope_dim, v_dim };
/// let options = AttentionOptions { scale: 0.5, format: ProductFormat::F32 };
/// let (q, kv, k_rope) = ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0]);
/// let output = host::attention(&q, &kv, &k_rope, &shape, &options)?;
/// assert_eq!(output.out, [5.0, 6.0]);
/// # Ok::<(), cubecl_kernels::KernelError>(())
/// ```
pub fn attention(
    q: &[f32],
    kv: &[f32],
    k_rope: &[f32],
    shape: &AttentionShape,
    options: &AttentionOptions,
) -> Result<AttentionOutput, KernelError> {
    check_inputs("attention", q, kv, k_rope, shape)?;
    let inputs = head::Inputs::new(q, kv, k_rope, shape, options);
    let (out, lse) = if shape.queries <= DECODE_QUERIES {
        decode::forward(&inputs)
    } else {
        forward::forward(&inputs)
    };
    Ok(AttentionOutput { out, lse })
}

/// Computes [`attention`] over `kv = latents kv_b^T` without making `kv`: each head's part of `kv_b`
/// is multiplied into its queries and out of its mix of latents, which all heads share (the absorbed
/// form of 2.1.1). In FP32. What decoding uses: a token costs `rank` multiply-adds a key and head in
/// place of `rank (dn + dv)`.
///
/// # Shapes
/// - `q [b, t, h, dn + dr]`, `latents [b, s, rank]`, `k_rope [b, s, dr]`, `kv_b [h, dn + dv, rank]`
/// - output: `[b, t, h, dv]`
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Invalid`] where there are fewer keys
/// than queries.
///
/// Source: technical report 2.1.1; DeepSeek-V2 (arXiv 2405.04434) 2.1.2.
pub fn absorbed_attention(
    q: &[f32],
    latents: &[f32],
    k_rope: &[f32],
    kv_b: &[f32],
    shape: &AttentionShape,
    rank: usize,
    scale: f32,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "absorbed_attention";
    let AttentionShape { batch, queries, keys, heads, rope_dim, v_dim, .. } = *shape;
    check_sizes(OP, shape)?;
    element_count(OP, "out", &[batch, queries, heads, v_dim])?;
    check_length(OP, "q", q.len(), &[batch, queries, heads, shape.qk_dim()])?;
    check_length(OP, "latents", latents.len(), &[batch, keys, rank])?;
    check_length(OP, "k_rope", k_rope.len(), &[batch, keys, rope_dim])?;
    check_length(OP, "kv_b", kv_b.len(), &[heads, shape.kv_dim(), rank])?;
    Ok(absorbed::forward(&absorbed::Inputs { q, latents, k_rope, kv_b, shape, rank, scale }))
}

/// Computes the gradients of [`attention`] for `dout`, from its inputs and outputs; probabilities
/// are computed again.
///
/// With `P = exp(S - lse)` and `D = rowsum(dout * out)`: `dv = P^T dout`,
/// `dS = P * (dout v^T - D)`, `dq = scale dS k`, `dk = scale dS^T q`.
///
/// # Shapes
/// - `q`, `kv`, `k_rope` as in [`attention`], `out` and `dout [b, t, h, dv]`, `lse [b, h, t]`
/// - output: [`AttentionGradients`]
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Invalid`] where there are fewer keys
/// than queries.
///
/// Source: technical report 2.1.1.
#[allow(clippy::too_many_arguments)]
pub fn attention_backward(
    q: &[f32],
    kv: &[f32],
    k_rope: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    shape: &AttentionShape,
    options: &AttentionOptions,
) -> Result<AttentionGradients, KernelError> {
    const OP: &str = "attention_backward";
    check_inputs(OP, q, kv, k_rope, shape)?;
    let AttentionShape { batch, queries, heads, v_dim, .. } = *shape;
    check_length(OP, "out", out.len(), &[batch, queries, heads, v_dim])?;
    check_length(OP, "lse", lse.len(), &[batch, heads, queries])?;
    check_length(OP, "dout", dout.len(), &[batch, queries, heads, v_dim])?;
    let inputs = head::Inputs::new(q, kv, k_rope, shape, options);
    Ok(backward::backward(&inputs, &backward::Outputs { out, lse, dout }))
}

/// Checks what forward and backward share.
fn check_inputs(
    op: &'static str,
    q: &[f32],
    kv: &[f32],
    k_rope: &[f32],
    shape: &AttentionShape,
) -> Result<(), KernelError> {
    let AttentionShape { batch, queries, keys, heads, rope_dim, v_dim, .. } = *shape;
    check_sizes(op, shape)?;
    element_count(op, "out", &[batch, queries, heads, v_dim])?;
    check_length(op, "q", q.len(), &[batch, queries, heads, shape.qk_dim()])?;
    check_length(op, "kv", kv.len(), &[batch, keys, heads, shape.kv_dim()])?;
    check_length(op, "k_rope", k_rope.len(), &[batch, keys, rope_dim])
}

/// Checks that there are as many keys as queries, and bounds every sum of two dimensions and every
/// product, so that none can overflow.
fn check_sizes(op: &'static str, shape: &AttentionShape) -> Result<(), KernelError> {
    let AttentionShape { batch, queries, keys, heads, nope_dim, rope_dim, v_dim } = *shape;
    if keys < queries {
        return Err(KernelError::Invalid {
            op,
            argument: "shape",
            requirement: "must have keys >= queries",
        });
    }
    element_count(op, "q", &[batch, queries, heads, nope_dim.saturating_add(rope_dim)])?;
    element_count(op, "kv", &[batch, keys, heads, nope_dim.saturating_add(v_dim)]).map(|_| ())
}
