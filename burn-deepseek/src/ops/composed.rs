//! Every operation of the model written in Burn's own operations: right on any backend, and the
//! form the fused kernels are tested against.

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, activation};

use super::to_host;
use crate::definition::{AdamWScalars, ExpertGroups, RopeTable};

/// `y = x w^T + b`, with weights stored as Hugging Face stores them.
///
/// # Shapes
///
/// - x: `[rows, d_in]`, w: `[d_out, d_in]`, bias: `[d_out]`
/// - output: `[rows, d_out]`
pub fn linear(x: Tensor<2>, w: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = x.matmul(w.transpose());
    match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    }
}

/// Root-mean-square norm of rows, `y = x / sqrt(mean(x^2) + eps) * gamma`, computed in FP32.
///
/// # Shapes
///
/// - x, output: `[rows, d]`, gamma: `[d]`
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f64) -> Tensor<2> {
    let dtype = x.dtype();
    let rms = (x.clone().cast(DType::F32).square().mean_dim(1) + eps).sqrt();
    (x / rms.cast(dtype)) * gamma.unsqueeze()
}

/// SwiGLU on stacked projections, `silu(gate) * up`.
///
/// # Shapes
///
/// - gate_up: `[rows, 2 * inter]`, gate first
/// - output: `[rows, inter]`
pub fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    let [_, width] = gate_up.dims();
    let gate = gate_up.clone().narrow(1, 0, width / 2);
    let up = gate_up.narrow(1, width / 2, width / 2);
    activation::silu(gate) * up
}

/// Rotates the last `rope_dim` entries of each head by its position (4.3 of the report; RoFormer).
///
/// # Shapes
///
/// - x, output: `[batch, seq, heads, head_dim]`; table: `seq` positions of `rope_dim / 2` angles
pub fn rope(x: Tensor<4>, table: &RopeTable) -> Tensor<4> {
    let [batch, seq, heads, head_dim] = x.dims();
    let half = table.rope_dim() / 2;
    let nope = head_dim - 2 * half;
    let cos = table.cos().reshape([1, seq, 1, half]);
    let sin = table.sin().reshape([1, seq, 1, half]);
    let rotated = x.clone().narrow(3, nope, 2 * half);
    let rotated = if table.interleaved() {
        let pairs = rotated.reshape([batch, seq, heads, half, 2]);
        let even = pairs.clone().narrow(4, 0, 1).reshape([batch, seq, heads, half]);
        let odd = pairs.narrow(4, 1, 1).reshape([batch, seq, heads, half]);
        let first = even.clone() * cos.clone() - odd.clone() * sin.clone();
        let second = even * sin + odd * cos;
        Tensor::stack::<5>(vec![first, second], 4).reshape([batch, seq, heads, 2 * half])
    } else {
        let low = rotated.clone().narrow(3, 0, half);
        let high = rotated.narrow(3, half, half);
        let first = low.clone() * cos.clone() - high.clone() * sin.clone();
        let second = low * sin + high * cos;
        Tensor::cat(vec![first, second], 3)
    };
    if nope == 0 { rotated } else { Tensor::cat(vec![x.narrow(3, 0, nope), rotated], 3) }
}

/// Causal attention of MLA in its expanded form: each head attends over `[k_nope | k_rope]` with
/// `k_rope` shared by all heads.
///
/// Query `i` of `t` stands at position `s - t + i` of the `s` keys, so one function serves training
/// (`t == s`) and decoding.
///
/// # Shapes
///
/// - q: `[batch, t, heads, nope + rope]`, kv: `[batch, s, heads, nope + v]`, k_rope:
///   `[batch, s, rope]`
/// - output: `[batch, t, heads, v]`
pub fn mla_attention(q: Tensor<4>, kv: Tensor<4>, k_rope: Tensor<3>, scale: f64) -> Tensor<4> {
    let [batch, t, heads, qk_dim] = q.dims();
    let [_, s, _, kv_dim] = kv.dims();
    let rope_dim = k_rope.dims()[2];
    let nope = qk_dim - rope_dim;
    let k_nope = kv.clone().narrow(3, 0, nope);
    let v = kv.narrow(3, nope, kv_dim - nope).swap_dims(1, 2);
    let k_rope = k_rope.reshape([batch, s, 1, rope_dim]).expand([batch, s, heads, rope_dim]);
    let k = Tensor::cat(vec![k_nope, k_rope], 3);
    let scores = q.swap_dims(1, 2).matmul(k.permute([0, 2, 3, 1])) * scale;
    let weights = causal_softmax(scores, t, s);
    weights.matmul(v).swap_dims(1, 2)
}

/// Causal attention of MLA in its absorbed form: the latents themselves are keys and values, shared
/// by all heads. `kv_b`'s key half is multiplied into the queries, its value half out of what they
/// attend to.
///
/// # Shapes
///
/// - q: `[batch, t, heads, nope + rope]`, latents: `[batch, s, rank]`, k_rope: `[batch, s, rope]`,
///   kv_b: `[heads * (nope + v), rank]`
/// - output: `[batch, t, heads, v]`
pub fn mla_absorbed_attention(
    q: Tensor<4>,
    latents: Tensor<3>,
    k_rope: Tensor<3>,
    kv_b: Tensor<2>,
    scale: f64,
) -> Tensor<4> {
    let ([batch, t, heads, qk_dim], [_, s, rank]) = (q.dims(), latents.dims());
    let rope = k_rope.dims()[2];
    let (nope, kv_dim) = (qk_dim - rope, kv_b.dims()[0] / heads);
    let kv_b = kv_b.reshape([heads, kv_dim, rank]);
    let kv_b_k = kv_b.clone().narrow(1, 0, nope);
    let kv_b_v = kv_b.narrow(1, nope, kv_dim - nope);
    let by_head =
        |x: Tensor<4>, width: usize| x.permute([2, 0, 1, 3]).reshape([heads, batch * t, width]);
    let by_token =
        |x: Tensor<3>, width: usize| x.reshape([heads, batch, t, width]).permute([1, 2, 0, 3]);

    let q_nope = by_head(q.clone().narrow(3, 0, nope), nope);
    let q_latent = by_token(q_nope.matmul(kv_b_k), rank);
    let q = Tensor::cat(vec![q_latent, q.narrow(3, nope, rope)], 3);
    let q = q.reshape([batch, t * heads, rank + rope]);
    let k = Tensor::cat(vec![latents.clone(), k_rope], 2);
    let scores = q.matmul(k.swap_dims(1, 2)) * scale;
    let scores = scores.reshape([batch, t, heads, s]).swap_dims(1, 2);
    let weights = causal_softmax(scores, t, s).swap_dims(1, 2).reshape([batch, t * heads, s]);
    let attended = weights.matmul(latents).reshape([batch, t, heads, rank]);
    by_token(by_head(attended, rank).matmul(kv_b_v.swap_dims(1, 2)), kv_dim - nope)
}

fn causal_softmax(scores: Tensor<4>, t: usize, s: usize) -> Tensor<4> {
    let scores = if t == 1 {
        scores
    } else {
        let mask = Tensor::<2, Bool>::tril_mask([t, s], (s - t) as i64, &scores.device());
        scores.mask_fill(mask.unsqueeze::<4>(), f32::NEG_INFINITY)
    };
    activation::softmax(scores, 3)
}

/// Copies each token's row to the rows of its experts.
///
/// # Shapes
///
/// - x: `[tokens, d]`, output: `[rows, d]`
pub fn permute(x: Tensor<2>, groups: &ExpertGroups) -> Tensor<2> {
    let index = int_tensor(groups.token_of_row(), &x.device());
    x.select(0, index)
}

/// Weighted sum of the experts' rows back into tokens,
/// `out[t] = sum_j weight[t, j] * y[row of slot (t, j)]`.
///
/// # Shapes
///
/// - y: `[rows, d]`, weights: `[tokens, top_k]`
/// - output: `[tokens, d]`
pub fn combine(y: Tensor<2>, weights: Tensor<2>, groups: &ExpertGroups) -> Tensor<2> {
    let d = y.dims()[1];
    let (tokens, top_k) = (groups.tokens(), groups.top_k());
    let index = int_tensor(groups.row_of_slot(), &y.device());
    let slots = y.select(0, index).reshape([tokens, top_k, d]);
    (slots * weights.reshape([tokens, top_k, 1])).sum_dim(1).reshape([tokens, d])
}

/// One linear an expert, each over its own rows, `y[rows of e] = x[rows of e] w[e]^T`.
///
/// # Shapes
///
/// - x: `[rows, d_in]`, w: `[experts, d_out, d_in]`
/// - output: `[rows, d_out]`
pub fn grouped_linear(x: Tensor<2>, w: Tensor<3>, groups: &ExpertGroups) -> Tensor<2> {
    let [_, d_out, d_in] = w.dims();
    let outputs: Vec<_> = groups
        .offsets()
        .windows(2)
        .enumerate()
        .filter(|(_, range)| range[1] > range[0])
        .map(|(expert, range)| {
            let rows = x.clone().narrow(0, range[0], range[1] - range[0]);
            let weight = w.clone().narrow(0, expert, 1).reshape([d_out, d_in]);
            rows.matmul(weight.transpose())
        })
        .collect();
    if outputs.is_empty() {
        Tensor::zeros([0, d_out], &x.device())
    } else {
        Tensor::cat(outputs, 0)
    }
}

/// Rows of an embedding table.
///
/// # Shapes
///
/// - table: `[vocab, d]`, tokens: `[batch, seq]`
/// - output: `[batch, seq, d]`
pub fn embedding(table: Tensor<2>, tokens: Tensor<2, Int>) -> Tensor<3> {
    let [batch, seq] = tokens.dims();
    let d = table.dims()[1];
    table.select(0, tokens.reshape([batch * seq])).reshape([batch, seq, d])
}

/// Output head and cross entropy, `mean over counted rows of -log softmax(x w^T)[target]`, in nats.
///
/// A row whose target is negative is not counted. With no counted row the loss is 0.
///
/// # Shapes
///
/// - x: `[rows, d]`, w: `[vocab, d]`, targets: `[rows]`
/// - output: `[1]`
pub fn linear_cross_entropy(x: Tensor<2>, w: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [rows] = targets.dims();
    let counted = targets.clone().greater_equal_elem(0).float();
    let count = counted.clone().sum().clamp_min(1.0);
    let log_probs = activation::log_softmax(linear(x, w, None).cast(DType::F32), 1);
    let picked = log_probs.gather(1, targets.clamp_min(0).reshape([rows, 1])).reshape([rows]);
    (picked * counted).sum().neg() / count
}

/// One AdamW update of a flat parameter; returns the parameter and its moments.
///
/// Computed in FP32. Moments come and go in their own type, FP32 or BF16; the parameter sees them
/// before they are rounded to it.
///
/// # Shapes
///
/// - value, grad, first, second: `[n]`
pub fn adamw(
    value: Tensor<1>,
    grad: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    s: &AdamWScalars,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let kept = first.dtype();
    let grad = grad * s.grad_scale;
    let first = first.cast(DType::F32) * s.beta1 + grad.clone() * (1.0 - s.beta1);
    let second = second.cast(DType::F32) * s.beta2 + grad.square() * (1.0 - s.beta2);
    let root = second.clone().sqrt() / s.second_correction().sqrt() + s.eps;
    let value = value * (1.0 - s.lr * s.weight_decay)
        - first.clone() / root * (s.lr / s.first_correction());
    (value, first.cast(kept), second.cast(kept))
}

/// One step of an exponential moving average: `average + rate (value - average)`.
///
/// # Shapes
///
/// - average, value: `[n]`
pub fn average_into(average: Tensor<1>, value: Tensor<1>, rate: f64) -> Tensor<1> {
    let change = (value - average.clone()) * rate;
    average + change
}

/// Sum of the squares of all entries, read back to the host.
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> f64 {
    to_host(x.square().sum()).iter::<f64>().sum()
}

/// [`sum_of_squares`] of each of several tensors of one device, read back together.
pub fn sums_of_squares(xs: Vec<Tensor<1>>) -> Vec<f64> {
    let sums: Vec<Tensor<1>> = xs.into_iter().map(|x| x.square().sum()).collect();
    if sums.is_empty() { Vec::new() } else { to_host(Tensor::cat(sums, 0)).iter::<f64>().collect() }
}

/// A one-dimensional int tensor from host indices.
pub(crate) fn int_tensor(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|&v| v as i32).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

#[cfg(test)]
mod tests;
