//! What a token leaves in a layer for the backward pass, as the report keeps it (3.2.3, 3.3.3).
//!
//! The differences to what this program keeps ([`DeepSeekConfig::kept_activations`]): values that
//! are not FP8 take two bytes instead of four; the attention's output is kept once, in E5M6, for
//! the linear after it and for attention's own backward; experts' outputs are not kept, because
//! gate values multiply the SwiGLU before the down-projection (in DeepSeek's profile a kernel is
//! called so) and their gradients come from there.

use burn_deepseek::{DeepSeekConfig, Precision};

/// Bytes of an FP8 code with its share of an FP32 scale for 128 of them.
const FP8: f64 = 1.0 + 4.0 / 128.0;
/// Bytes of an E5M6 code with its share of a scale: 12 bits (3.3.3).
const E5M6: f64 = 1.5 + 4.0 / 128.0;

/// Bytes of a value that is kept as it is, of a linear's input, and of the input of the linear
/// after attention.
#[derive(Clone, Copy)]
struct Widths {
    plain: f64,
    input: f64,
    after_attention: f64,
}

impl Widths {
    fn of(precision: &Precision) -> Self {
        match precision {
            Precision::F32 | Precision::Bf16x3 => {
                Self { plain: 4.0, input: 4.0, after_attention: 4.0 }
            }
            Precision::Bf16 => Self { plain: 2.0, input: 2.0, after_attention: 2.0 },
            Precision::Fp8(_) => Self { plain: 2.0, input: FP8, after_attention: E5M6 },
        }
    }

    /// The input of a linear behind an RMSNorm: where the norm is computed again, only an FP8 copy
    /// of it is kept.
    fn normed(&self, recompute: bool) -> f64 {
        if recompute && self.input == self.plain { 0.0 } else { self.input }
    }
}

/// Bytes that a token leaves in a layer. Rows of experts are counted where the token's own rank is,
/// which holds on average.
pub fn kept_per_token(
    model: &DeepSeekConfig,
    precision: &Precision,
    layer: usize,
    recompute: bool,
) -> f64 {
    let widths = Widths::of(precision);
    let attention = kept_by_attention(model, widths, recompute);
    attention
        + if model.is_moe_layer(layer) {
            kept_by_experts(model, widths, recompute)
        } else {
            kept_by_dense(model, widths, recompute)
        }
}

fn kept_by_attention(model: &DeepSeekConfig, widths: Widths, recompute: bool) -> f64 {
    let [d, heads, latent, rope] =
        [model.hidden_size, model.num_attention_heads, model.kv_lora_rank, model.qk_rope_head_dim]
            .map(|size| size as f64);
    let (q_width, kv_width) = (
        heads * model.qk_head_dim() as f64,
        heads * (model.qk_nope_head_dim + model.v_head_dim) as f64,
    );
    let Widths { plain, .. } = widths;
    // Residual stream, input of the down-projections, latents, output, and FP32 softmax
    // denominators.
    let mut kept = plain * d + widths.normed(recompute) * d + plain * (latent + rope);
    kept += widths.after_attention * heads * model.v_head_dim as f64 + 4.0 * heads;
    match model.q_lora_rank.map(|rank| rank as f64) {
        Some(rank) => {
            kept +=
                plain * rank + if recompute { 0.0 } else { widths.input * rank + plain * q_width }
        }
        None => kept += plain * q_width,
    }
    // Norm of the latent, rotated rope key, keys and values.
    kept + if recompute { 0.0 } else { widths.input * latent + plain * (rope + kv_width) }
}

fn kept_by_dense(model: &DeepSeekConfig, widths: Widths, recompute: bool) -> f64 {
    let d = model.hidden_size as f64;
    widths.plain * d
        + widths.normed(recompute) * d
        + swiglu(model.intermediate_size as f64, widths, recompute)
}

fn kept_by_experts(model: &DeepSeekConfig, widths: Widths, recompute: bool) -> f64 {
    let [d, inter, visited, shared] = [
        model.hidden_size,
        model.moe_intermediate_size,
        model.num_experts_per_tok,
        model.n_shared_experts,
    ]
    .map(|size| size as f64);
    // Residual stream; its norm for the router, where it is not computed again, and for the shared
    // experts; the router's scores in FP32.
    let norm = if recompute { 0.0 } else { widths.plain }
        + if shared > 0.0 { widths.input_beside(recompute) } else { 0.0 };
    let kept = (widths.plain + norm) * d + 4.0 * model.n_routed_experts as f64;
    kept + widths.input * d * visited + swiglu(inter * (visited + shared), widths, recompute)
}

impl Widths {
    /// The shared experts' input, where it is another tensor than the router's.
    fn input_beside(&self, recompute: bool) -> f64 {
        if self.input == self.plain { 0.0 } else { self.normed(recompute) }
    }
}

/// Gate and up projections, and their SwiGLU where it is kept.
fn swiglu(inter: f64, widths: Widths, recompute: bool) -> f64 {
    widths.input * (2.0 * inter + if recompute { 0.0 } else { inter })
}

/// Bytes that a token leaves before the block of an MTP module: hidden state and embedding, and the
/// input of `eh_proj`.
pub(super) fn kept_at_end(model: &DeepSeekConfig, precision: &Precision) -> f64 {
    let widths = Widths::of(precision);
    (widths.plain + widths.input) * 2.0 * model.hidden_size as f64
}
