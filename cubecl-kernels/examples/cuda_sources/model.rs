//! The kernels of the model's fused operations, with the sizes of DeepSeek-V3.

use crate::launches::{INNER, Launches, Outcome, TOKENS, WIDTH};
use cubecl_kernels::adamw::{adamw, sum_of_squares};
use cubecl_kernels::attention::{
    DeviceAttention, absorbed_attention, attention, attention_backward,
};
use cubecl_kernels::cross_entropy::linear_cross_entropy_with_gradients;
use cubecl_kernels::definition::{
    AdamWConfig, AttentionOptions, AttentionShape, LinearShape, ProductFormat, RopeLayout,
    RopeShape,
};
use cubecl_kernels::device::Element;
use cubecl_kernels::matrix_product::LinearPath;
use cubecl_kernels::rms_norm::{rms_norm, rms_norm_backward};
use cubecl_kernels::rope::rope;

/// Entries of the head's vocabulary.
const VOCAB: usize = 129_280;
/// Heads of attention.
const HEADS: usize = 128;

/// Entries of a latent.
const RANK: usize = 512;

/// Launches all of them.
///
/// # Errors
/// Fails where an operation refuses its arguments.
pub fn all(on: &Launches<'_>) -> Outcome {
    attentions(on)?;
    head(on)?;
    rows(on)?;
    optimizer(on)
}

fn attentions(on: &Launches<'_>) -> Outcome {
    let (batch, queries, keys, heads) = (1, TOKENS, TOKENS, HEADS);
    let (nope_dim, rope_dim, v_dim) = (128, 64, 128);
    let shape = AttentionShape { batch, queries, keys, heads, nope_dim, rope_dim, v_dim };
    attention_of(on, &shape)?;
    // Odd widths, and a head without a rotated part.
    attention_of(on, &AttentionShape { heads: 3, nope_dim: 33, rope_dim: 6, v_dim: 17, ..shape })?;
    attention_of(on, &AttentionShape { heads: 3, nope_dim: 48, rope_dim: 0, v_dim: 48, ..shape })?;
    let k_rope = on.words(TOKENS * rope_dim);
    let q = on.words(TOKENS * HEADS * shape.qk_dim());
    let shape = AttentionShape { queries: 1, ..shape };
    let (latents, kv_b) = (on.words(TOKENS * RANK), on.words(HEADS * shape.kv_dim() * RANK));
    on.name("absorbed attention", || {
        absorbed_attention(on.client, &q, &latents, &k_rope, &kv_b, &shape, RANK, 0.1).map(drop)
    })
}

/// Forward and backward in both formats.
fn attention_of(on: &Launches<'_>, shape: &AttentionShape) -> Outcome {
    let tokens = shape.heads * TOKENS;
    let [q, kv, out] =
        [shape.qk_dim(), shape.kv_dim(), shape.v_dim].map(|width| on.words(tokens * width));
    let k_rope = on.words(TOKENS * shape.rope_dim);
    let output = DeviceAttention { out, lse: on.words(tokens) };
    for format in [ProductFormat::F32, ProductFormat::Bf16] {
        let options = AttentionOptions { scale: 0.1, format };
        on.name(&format!("attention {format:?}"), || {
            attention(on.client, &q, &kv, &k_rope, shape, &options).map(drop)
        })?;
        let dout = &output.out;
        on.name(&format!("attention backward {format:?}"), || {
            attention_backward(on.client, &q, &kv, &k_rope, &output, dout, shape, &options)
                .map(drop)
        })?;
    }
    Ok(())
}

fn head(on: &Launches<'_>) -> Outcome {
    // Two chunks of rows, so that the second adds to the first.
    let shape = LinearShape { rows: 512, inputs: WIDTH, outputs: VOCAB };
    let (x, w, targets) = (on.words(512 * WIDTH), on.words(VOCAB * WIDTH), on.words(512));
    for (name, format) in [
        ("head and cross entropy", ProductFormat::F32),
        ("BF16 head and cross entropy", ProductFormat::Bf16),
    ] {
        let path = LinearPath::of(on.client, format);
        on.name(name, || {
            linear_cross_entropy_with_gradients(on.client, &x, &w, &targets, &shape, path).map(drop)
        })?;
    }
    Ok(())
}

fn rows(on: &Launches<'_>) -> Outcome {
    let (x, gamma, rstd) = (on.words(TOKENS * WIDTH), on.words(WIDTH), on.words(TOKENS));
    on.name("rms norm", || rms_norm(on.client, &x, &gamma, 1e-6, TOKENS, WIDTH).map(drop))?;
    on.name("rms norm backward", || {
        rms_norm_backward(on.client, &x, &gamma, &rstd, &x, TOKENS, WIDTH).map(drop)
    })?;
    let angles = on.words(TOKENS * 32);
    for layout in [RopeLayout::Interleaved, RopeLayout::Halves] {
        let shape =
            RopeShape { batch: 1, tokens: TOKENS, heads: 8, head_dim: 192, rope_dim: 64, layout };
        on.name(&format!("rope {layout:?}"), || {
            rope(on.client, &x, &angles, &angles, &shape).map(drop)
        })?;
    }
    Ok(())
}

fn optimizer(on: &Launches<'_>) -> Outcome {
    let count = INNER * WIDTH;
    let [param, gradient] = [(); 2].map(|()| on.words(count));
    let config = AdamWConfig {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 1,
        gradient_scale: 1.0,
    };
    for moments in [Element::F32, Element::Bf16] {
        let [first, second] = [(); 2].map(|()| on.client.empty(count * moments.size()));
        on.name(&format!("adamw {moments:?}"), || {
            adamw(on.client, &param, &gradient, &first, &second, moments, count, &config)
        })?;
    }
    on.name("sum of squares", || sum_of_squares(on.client, &gradient, count).map(drop))
}
