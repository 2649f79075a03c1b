//! What a run needs in memory, estimated from its configuration alone.

use burn_deepseek::config::DeepSeekConfig;
use serde::Serialize;

/// Bytes of a value of F32.
const F32_BYTES: u64 = 4;

/// Bytes by what they are for: F32, but for moments in BF16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// Weights, MTP modules included.
    pub weights_bytes: u64,
    /// Gradients.
    pub gradients_bytes: u64,
    /// AdamW's two moments.
    pub adamw_bytes: u64,
    /// The average of the weights, in host memory; 0 without one.
    pub ema_bytes: u64,
    /// What forward keeps for backward of `activation_tokens` tokens; rough.
    pub activations_bytes: u64,
    /// Tokens that go through the model at once.
    pub activation_tokens: u64,
    /// All of the above.
    pub total_bytes: u64,
    /// What one decoded token adds to the latent cache in F32.
    pub kv_cache_bytes_per_token_f32: u64,
    /// The same in BF16.
    pub kv_cache_bytes_per_token_bf16: u64,
}

impl MemoryEstimate {
    /// Estimates training with micro-batches of `micro_batch` sequences of `seq_len` tokens, moments of `moment_bytes` a value, and with
    /// an average of the weights or without.
    ///
    /// Activations count what a straightforward backward needs of every operation: inputs of the products, both sides of
    /// the SwiGLU, scores and probabilities of all heads, three copies of the logits of each depth. Nothing is recomputed.
    pub fn of(model: &DeepSeekConfig, micro_batch: usize, seq_len: usize, moment_bytes: u64, ema: bool) -> Self {
        let parameters = model.parameter_counts().total_with_mtp();
        let tokens = (micro_batch as u64).saturating_mul(seq_len as u64);
        let weights_bytes = parameters.saturating_mul(F32_BYTES);
        let values = activation_values_per_token(model, seq_len);
        let activations_bytes = tokens.saturating_mul(values).saturating_mul(F32_BYTES);
        let adamw_bytes = parameters.saturating_mul(2 * moment_bytes);
        let ema_bytes = if ema { weights_bytes } else { 0 };
        let kept = [weights_bytes, weights_bytes, adamw_bytes, ema_bytes, activations_bytes];
        Self {
            weights_bytes,
            gradients_bytes: weights_bytes,
            adamw_bytes,
            ema_bytes,
            activations_bytes,
            activation_tokens: tokens,
            total_bytes: kept.into_iter().fold(0, u64::saturating_add),
            kv_cache_bytes_per_token_f32: model.kv_cache_bytes_per_token(4),
            kv_cache_bytes_per_token_bf16: model.kv_cache_bytes_per_token(2),
        }
    }
}

/// F32 values that forward keeps of one token.
fn activation_values_per_token(model: &DeepSeekConfig, seq_len: usize) -> u64 {
    let d = model.hidden_size as u64;
    let heads = model.num_attention_heads as u64;
    let (qk, v) = (model.qk_head_dim() as u64, model.v_head_dim as u64);
    let latents = 2 * (model.q_lora_rank.unwrap_or(0) + model.kv_lora_rank) as u64;
    // Norm in and out, both latents before and after their norm, q and k before and after rope, v twice, the scores.
    let attention = 4 * d + latents + heads * (4 * qk + 3 * v + 2 * seq_len as u64);
    // Gate, up, silu(gate) and their product.
    let dense = 3 * d + 4 * model.intermediate_size as u64;
    let visited = model.num_experts_per_tok as u64;
    let expert = 4 * model.moe_intermediate_size as u64;
    let moe = 3 * d + visited * (expert + 2 * d) + model.n_shared_experts as u64 * expert + 2 * model.n_routed_experts as u64;

    let depths = model.num_nextn_predict_layers as u64;
    let moe_blocks = (model.moe_layers() + model.moe_mtp_modules()) as u64;
    let blocks = model.num_hidden_layers as u64 + depths;
    let logits = (1_u64 + depths).saturating_mul(3 * model.vocab_size as u64 + d);
    blocks
        .saturating_mul(attention)
        .saturating_add(moe_blocks.saturating_mul(moe))
        .saturating_add((blocks - moe_blocks).saturating_mul(dense))
        .saturating_add(logits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve_model;

    #[test]
    fn bytes_a_parameter_follow_what_is_kept() {
        let model = resolve_model(Some("deepseek-v3-671b"), None, &[]).unwrap();
        let parameters = 671_026_419_200 + 11_610_068_224;
        // Weights and gradients of four bytes each, two moments, and the average where there is one.
        for (moment_bytes, ema, expected) in [(4, false, 16), (2, false, 12), (2, true, 16)] {
            let estimate = MemoryEstimate::of(&model, 1, 4096, moment_bytes, ema);
            assert_eq!(estimate.total_bytes - estimate.activations_bytes, expected * parameters);
            assert_eq!(estimate.adamw_bytes, 2 * moment_bytes * parameters);
            assert_eq!(estimate.kv_cache_bytes_per_token_bf16, 70_272);
        }
    }

    #[test]
    fn activations_grow_with_the_batch() {
        let model = resolve_model(Some("tiny"), None, &[]).unwrap();
        let one = MemoryEstimate::of(&model, 1, 256, 2, false).activations_bytes;
        assert_eq!(MemoryEstimate::of(&model, 8, 256, 2, false).activations_bytes, 8 * one);
    }
}
