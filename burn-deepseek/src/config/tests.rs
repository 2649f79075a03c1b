//! What a configuration must say of itself: derived values, and every rule of validation.

use super::published;
use super::{DeepSeekConfig, ModelType, ScoringFunc, TopkMethod};

#[test]
fn softmax_scale_with_and_without_yarn() {
    let mut config = published::deepseek_v3();
    assert!((config.softmax_scale() - 0.135_233_778_9).abs() < 1e-10);
    config.rope_scaling = None;
    assert!((config.softmax_scale() - 0.072_168_783_6).abs() < 1e-10);
    assert!((published::deepseek_v2().softmax_scale() - 0.114_721_386_8).abs() < 1e-10);
}

#[test]
fn yarn_leaves_cos_and_sin_of_deepseek_v3_alone() {
    let yarn = published::deepseek_v3().rope_scaling.unwrap();
    assert_eq!(yarn.attention_factor(), 1.0);
}

#[test]
fn counting_moe_layers_agrees_with_asking_each_layer() {
    let mut config = published::deepseek_v3();
    config.num_nextn_predict_layers = 3;
    for freq in 1..5 {
        for dense in 0..8 {
            for layers in dense..12 {
                config.moe_layer_freq = freq;
                config.first_k_dense_replace = dense;
                config.num_hidden_layers = layers;
                let count = |range: std::ops::Range<usize>| {
                    range.filter(|&layer| config.is_moe_layer(layer)).count()
                };
                assert_eq!(
                    config.moe_layers(),
                    count(0..layers),
                    "freq {freq} dense {dense} layers {layers}"
                );
                assert_eq!(config.moe_mtp_modules(), count(layers..layers + 3));
            }
        }
    }
}

#[test]
fn the_published_models_are_valid() {
    for config in
        [published::deepseek_v3(), published::deepseek_v2(), published::deepseek_v2_lite()]
    {
        config.validate().unwrap();
    }
}

#[test]
fn tokens_beyond_a_reduced_vocabulary_are_taken() {
    let mut config = published::deepseek_v2();
    config.vocab_size = 32_000;
    config.eos_token_id = [100_001, 7].into_iter().collect();
    config.validate().unwrap();
    let json = config.to_hugging_face_json("float32");
    assert_eq!(DeepSeekConfig::from_hugging_face_json(&json).unwrap(), config);
}

/// Every rule, each broken alone: the field that must be named.
#[test]
fn each_broken_rule_names_its_field() {
    type Change = fn(&mut DeepSeekConfig);
    let cases: &[(&str, Change)] = &[
        ("vocab_size", |c| c.vocab_size = 0),
        ("hidden_size", |c| c.hidden_size = 0),
        ("hidden_size", |c| c.hidden_size = usize::MAX),
        ("num_hidden_layers", |c| c.num_hidden_layers = 0),
        ("num_attention_heads", |c| c.num_attention_heads = 0),
        ("moe_intermediate_size", |c| c.moe_intermediate_size = 0),
        ("moe_layer_freq", |c| c.moe_layer_freq = 0),
        ("q_lora_rank", |c| c.q_lora_rank = Some(0)),
        ("qk_rope_head_dim", |c| c.qk_rope_head_dim = 63),
        ("model_type", |c| {
            c.model_type = ModelType::Glm4MoeLite;
            c.scoring_func = ScoringFunc::Softmax;
        }),
        ("num_experts_per_tok", |c| c.num_experts_per_tok = 0),
        ("num_experts_per_tok", |c| c.num_experts_per_tok = 129),
        ("n_group", |c| c.n_group = 7),
        ("n_group", |c| c.n_group = 0),
        ("n_group", |c| c.n_group = 256),
        ("n_group", |c| c.topk_method = TopkMethod::Greedy),
        ("topk_group", |c| c.topk_group = 9),
        ("topk_group", |c| c.topk_group = 0),
        ("routed_scaling_factor", |c| c.routed_scaling_factor = f64::NAN),
        ("rms_norm_eps", |c| c.rms_norm_eps = 0.0),
        ("rope_theta", |c| c.rope_theta = -1.0),
        ("initializer_range", |c| c.initializer_range = f64::INFINITY),
        ("num_nextn_predict_layers", |c| c.num_nextn_predict_layers = usize::MAX),
        ("rope_scaling.factor", |c| c.rope_scaling.as_mut().unwrap().factor = 0.5),
        ("rope_scaling.beta_fast", |c| c.rope_scaling.as_mut().unwrap().beta_fast = 0.5),
        ("rope_scaling.attention_factor", |c| {
            c.rope_scaling.as_mut().unwrap().attention_factor = Some(0.0);
        }),
        ("rope_scaling.beta_slow", |c| c.rope_scaling.as_mut().unwrap().beta_slow = 0.0),
        ("rope_scaling.original_max_position_embeddings", |c| {
            c.rope_scaling.as_mut().unwrap().original_max_position_embeddings = 0;
        }),
    ];
    for (field, change) in cases {
        let mut config = published::deepseek_v3();
        change(&mut config);
        let problems = config.validate().expect_err(field);
        assert!(
            problems.0.iter().any(|problem| problem.field == *field),
            "{field} not named in: {problems}"
        );
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut config = published::deepseek_v3();
    config.vocab_size = 0;
    config.qk_rope_head_dim = 7;
    config.topk_group = 20;
    let message = config.validate().unwrap_err().to_string();
    for part in [
        "vocab_size = 0",
        "qk_rope_head_dim = 7",
        "topk_group = 20",
        "num_nextn_predict_layers = 1",
    ] {
        assert!(message.contains(part), "{part} not in: {message}");
    }
}

#[test]
fn absurd_products_of_plausible_sizes_are_refused() {
    let mut config = published::deepseek_v3();
    config.hidden_size = 1 << 24;
    config.intermediate_size = 1 << 24;
    config.num_hidden_layers = 1 << 9;
    assert!(config.validate().unwrap_err().to_string().contains("parameters"));
}

/// A file of a thousand bytes may claim any number, and what is worked out goes through all layers.
#[test]
fn more_layers_and_experts_than_any_model_has_are_refused() {
    let mut config = published::deepseek_v3();
    config.num_hidden_layers = 16_000_000;
    config.num_nextn_predict_layers = 2000;
    config.n_routed_experts = 16_000_000;
    let message = config.validate().unwrap_err().to_string();
    for part in [
        "num_hidden_layers = 16000000 is too large; the most is 512",
        "num_nextn_predict_layers = 2000 is too large; the most is 512",
        "n_routed_experts = 16000000 is too large; the most is 65536",
    ] {
        assert!(message.contains(part), "{part} not in: {message}");
    }
}
