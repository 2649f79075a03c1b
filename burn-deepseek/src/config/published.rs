//! The published models, for this crate's tests; users have them as TOML in `configs/model`.

use super::{DeepSeekConfig, EndTokens, ModelType, ScoringFunc, TopkMethod, YarnConfig};

/// DeepSeek-V3, 671B (report, 4.2).
pub(crate) fn deepseek_v3() -> DeepSeekConfig {
    DeepSeekConfig {
        model_type: ModelType::DeepSeek,
        vocab_size: 129_280,
        hidden_size: 7168,
        intermediate_size: 18_432,
        moe_intermediate_size: 2048,
        num_hidden_layers: 61,
        num_attention_heads: 128,
        n_shared_experts: 1,
        n_routed_experts: 256,
        num_experts_per_tok: 8,
        n_group: 8,
        topk_group: 4,
        first_k_dense_replace: 3,
        moe_layer_freq: 1,
        routed_scaling_factor: 2.5,
        scoring_func: ScoringFunc::Sigmoid,
        topk_method: TopkMethod::NoauxTc,
        norm_topk_prob: true,
        q_lora_rank: Some(1536),
        kv_lora_rank: 512,
        qk_nope_head_dim: 128,
        qk_rope_head_dim: 64,
        v_head_dim: 128,
        attention_bias: false,
        rope_theta: 10_000.0,
        rope_interleave: true,
        rope_scaling: Some(yarn(1.0)),
        max_position_embeddings: 163_840,
        rms_norm_eps: 1e-6,
        initializer_range: 0.006,
        tie_word_embeddings: false,
        num_nextn_predict_layers: 1,
        aux_loss_alpha: 1e-4,
        bos_token_id: Some(0),
        eos_token_id: EndTokens::from(1),
    }
}

/// DeepSeek-V2, 236B.
pub(crate) fn deepseek_v2() -> DeepSeekConfig {
    DeepSeekConfig {
        vocab_size: 102_400,
        hidden_size: 5120,
        intermediate_size: 12_288,
        moe_intermediate_size: 1536,
        num_hidden_layers: 60,
        n_shared_experts: 2,
        n_routed_experts: 160,
        num_experts_per_tok: 6,
        topk_group: 3,
        first_k_dense_replace: 1,
        routed_scaling_factor: 16.0,
        scoring_func: ScoringFunc::Softmax,
        topk_method: TopkMethod::GroupLimitedGreedy,
        norm_topk_prob: false,
        rope_scaling: Some(yarn(0.707)),
        num_nextn_predict_layers: 0,
        bos_token_id: Some(100_000),
        eos_token_id: EndTokens::from(100_001),
        ..deepseek_v3()
    }
}

/// DeepSeek-V2-Lite, 16B.
pub(crate) fn deepseek_v2_lite() -> DeepSeekConfig {
    DeepSeekConfig {
        hidden_size: 2048,
        intermediate_size: 10_944,
        moe_intermediate_size: 1408,
        num_hidden_layers: 27,
        num_attention_heads: 16,
        n_routed_experts: 64,
        n_group: 1,
        topk_group: 1,
        routed_scaling_factor: 1.0,
        topk_method: TopkMethod::Greedy,
        q_lora_rank: None,
        ..deepseek_v2()
    }
}

fn yarn(mscale: f64) -> YarnConfig {
    YarnConfig {
        factor: 40.0,
        original_max_position_embeddings: 4096,
        beta_fast: 32.0,
        beta_slow: 1.0,
        mscale,
        mscale_all_dim: mscale,
        attention_factor: None,
    }
}
