//! What a run needs in memory, estimated from its configuration alone.

use burn_deepseek::config::{DeepSeekConfig, Keeping};
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
    /// What one decoded token adds to the latent cache in BF16.
    pub kv_cache_bytes_per_token_bf16: u64,
}

impl MemoryEstimate {
    /// Estimates training with moments of `moment_bytes` a value, and with an average of the
    /// weights or without.
    ///
    /// Activations are what the fused operations keep ([`DeepSeekConfig::kept_activations`]), and
    /// for each loss the gradients that the head makes in the forward pass; where operations are
    /// composed of Burn's own, more is kept.
    pub fn of(model: &DeepSeekConfig, keeping: &Keeping, moment_bytes: u64, ema: bool) -> Self {
        let parameters = model.parameter_counts().total_with_mtp();
        let weights_bytes = parameters.saturating_mul(F32_BYTES);
        let activations_bytes = activations_bytes(model, keeping);
        let adamw_bytes = parameters.saturating_mul(2 * moment_bytes);
        let ema_bytes = if ema { weights_bytes } else { 0 };
        let kept = [weights_bytes, weights_bytes, adamw_bytes, ema_bytes, activations_bytes];
        Self {
            weights_bytes,
            gradients_bytes: weights_bytes,
            adamw_bytes,
            ema_bytes,
            activations_bytes,
            activation_tokens: keeping.tokens as u64,
            total_bytes: kept.into_iter().fold(0, u64::saturating_add),
            kv_cache_bytes_per_token_f32: model.kv_cache_bytes_per_token(4),
            kv_cache_bytes_per_token_bf16: model.kv_cache_bytes_per_token(2),
        }
    }
}

impl MemoryEstimate {
    /// Bytes that a forward pass over so many tokens has at once at the very least: the rows of a
    /// layer, what its products make of them, and those of its attention.
    pub fn forward_bytes(model: &DeepSeekConfig, tokens: usize) -> u64 {
        let heads = model.num_attention_heads as u64;
        let head = (model.qk_nope_head_dim + model.qk_rope_head_dim + model.v_head_dim) as u64;
        let experts = model.moe_intermediate_size.saturating_mul(model.num_experts_per_tok) as u64;
        let inner = experts.max(model.intermediate_size as u64);
        let row = (2 * model.hidden_size as u64)
            .saturating_add(heads.saturating_mul(head).max(inner.saturating_mul(2)));
        (tokens as u64).saturating_mul(row).saturating_mul(F32_BYTES)
    }
}

/// What forward keeps for backward of a micro-batch.
fn activations_bytes(model: &DeepSeekConfig, keeping: &Keeping) -> u64 {
    let (layers, depths) = (model.num_hidden_layers, model.num_nextn_predict_layers);
    let kept = (0..layers + depths)
        .flat_map(|layer| model.kept_activations(layer, keeping))
        .map(|tensor| tensor.bytes);
    let (d, vocab, tokens) =
        (model.hidden_size as u64, model.vocab_size as u64, keeping.tokens as u64);
    let head = tokens.saturating_add(vocab).saturating_mul(d).saturating_mul(F32_BYTES);
    kept.fold(head.saturating_mul(1 + depths as u64), u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve_model;
    use burn_deepseek::Precision;

    #[test]
    fn bytes_a_parameter_follow_what_is_kept() {
        let model = resolve_model(Some("deepseek-v3-671b"), None, &[]).unwrap();
        let parameters = 671_026_419_200 + 11_610_068_224;
        // Weights and gradients of four bytes each, two moments, and the average where there is
        // one.
        for (moment_bytes, ema, expected) in [(4, false, 16), (2, false, 12), (2, true, 16)] {
            let estimate = MemoryEstimate::of(&model, &keeping(4096), moment_bytes, ema);
            assert_eq!(estimate.total_bytes - estimate.activations_bytes, expected * parameters);
            assert_eq!(estimate.adamw_bytes, 2 * moment_bytes * parameters);
            assert_eq!(estimate.kv_cache_bytes_per_token_bf16, 70_272);
        }
    }

    #[test]
    fn activations_grow_with_the_batch() {
        let model = resolve_model(Some("tiny"), None, &[]).unwrap();
        let [none, one, eight] = [0, 256, 8 * 256]
            .map(|tokens| MemoryEstimate::of(&model, &keeping(tokens), 2, false).activations_bytes);
        assert_eq!(eight - none, 8 * (one - none));
    }

    #[test]
    fn a_pass_has_rows_and_what_is_made_of_them() {
        let model = resolve_model(Some("deepseek-v3-671b"), None, &[]).unwrap();
        // 128 heads of 128 + 64 + 128 are more than twice 18,432.
        assert_eq!(MemoryEstimate::forward_bytes(&model, 3), 3 * 4 * (2 * 7168 + 128 * 320));
        assert_eq!(MemoryEstimate::forward_bytes(&model, usize::MAX), u64::MAX);
    }

    fn keeping(tokens: usize) -> Keeping {
        Keeping { precision: Precision::F32, recompute: false, tokens }
    }
}
