//! Keys that are left out, and keys that are null: what each model type's own code makes of them.
//! The values are those of `*Config()` in transformers 5.24.

use serde_json::{Value, json};

use crate::config::{DeepSeekConfig, EndTokens, HuggingFaceError, ModelType};
use crate::config::{ScoringFunc, TopkMethod};

fn read(json: &Value) -> Result<DeepSeekConfig, HuggingFaceError> {
    DeepSeekConfig::from_hugging_face_json(&json.to_string())
}

#[test]
fn a_file_that_says_its_type_alone_is_that_types_own_model() {
    let v3 = read(&json!({"model_type": "deepseek_v3"})).unwrap();
    let expected = DeepSeekConfig {
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
        rope_theta: 1e4,
        rope_interleave: true,
        rope_scaling: None,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-6,
        initializer_range: 0.02,
        tie_word_embeddings: false,
        num_nextn_predict_layers: 1,
        aux_loss_alpha: 0.0,
        bos_token_id: Some(0),
        eos_token_id: EndTokens::from(1),
    };
    assert_eq!(v3, expected);
    // Kimi-K2's configuration class is DeepSeek-V3's.
    assert_eq!(read(&json!({"model_type": "kimi_k2"})).unwrap(), expected);

    let v2 = read(&json!({"model_type": "deepseek_v2", "num_experts_per_tok": 6})).unwrap();
    let expected_v2 = DeepSeekConfig {
        vocab_size: 102_400,
        hidden_size: 4096,
        intermediate_size: 11_008,
        moe_intermediate_size: 1407,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        n_shared_experts: 2,
        n_routed_experts: 64,
        num_experts_per_tok: 6,
        n_group: 1,
        topk_group: 1,
        first_k_dense_replace: 0,
        routed_scaling_factor: 1.0,
        scoring_func: ScoringFunc::Softmax,
        topk_method: TopkMethod::Greedy,
        norm_topk_prob: false,
        max_position_embeddings: 2048,
        num_nextn_predict_layers: 0,
        bos_token_id: Some(1),
        eos_token_id: EndTokens::from(2),
        ..expected.clone()
    };
    assert_eq!(v2, expected_v2);

    let glm = read(&json!({"model_type": "glm4_moe_lite"})).unwrap();
    let expected_glm = DeepSeekConfig {
        model_type: ModelType::Glm4MoeLite,
        vocab_size: 154_880,
        hidden_size: 2048,
        intermediate_size: 10_240,
        moe_intermediate_size: 1536,
        num_hidden_layers: 47,
        num_attention_heads: 20,
        n_routed_experts: 64,
        num_experts_per_tok: 4,
        n_group: 1,
        topk_group: 1,
        first_k_dense_replace: 1,
        routed_scaling_factor: 1.8,
        q_lora_rank: Some(768),
        qk_nope_head_dim: 192,
        v_head_dim: 256,
        max_position_embeddings: 202_752,
        rms_norm_eps: 1e-5,
        num_nextn_predict_layers: 0,
        ..expected
    };
    assert_eq!(glm, expected_glm);
}

#[test]
fn what_has_no_default_is_missing() {
    let message = |json: &Value| read(json).unwrap_err().to_string();
    let text = message(&json!({"model_type": "deepseek_v2"}));
    assert!(text.contains("\"num_experts_per_tok\" is missing"), "{text}");
    let grouped = json!({
        "model_type": "deepseek_v2", "num_experts_per_tok": 6,
        "topk_method": "group_limited_greedy", "topk_group": 3,
    });
    let text = message(&grouped);
    assert!(text.contains("\"n_group\" is missing"), "{text}");
}

/// What the code of transformers does with each null was tried there, with a small model.
#[test]
fn null_is_what_the_code_makes_of_it() {
    let with = |key: &str| {
        let mut json = json!({"model_type": "deepseek_v3"});
        json[key] = Value::Null;
        read(&json)
    };
    assert_eq!(with("q_lora_rank").unwrap().q_lora_rank, None);
    assert!(!with("norm_topk_prob").unwrap().norm_topk_prob);
    assert!(!with("rope_interleave").unwrap().rope_interleave);
    assert_eq!(with("num_nextn_predict_layers").unwrap().num_nextn_predict_layers, 0);
    assert_eq!(with("bos_token_id").unwrap().bos_token_id, None);
    assert!(with("eos_token_id").unwrap().eos_token_id.is_empty());
    assert_eq!(with("rope_scaling").unwrap().rope_scaling, None);
    assert_eq!(with("num_key_value_heads").unwrap().num_attention_heads, 128);
    // DeepSeek's own code, and real files: no groups, no shared experts, no experts at all.
    let none = json!({
        "model_type": "deepseek_v3", "n_group": null, "topk_group": null,
        "n_shared_experts": null,
    });
    let config = read(&none).unwrap();
    assert_eq!((config.n_group, config.topk_group, config.n_shared_experts), (1, 1, 0));
    assert_eq!(with("n_routed_experts").unwrap().n_routed_experts, 0);
    // Where it says nothing to that code, it is refused.
    for key in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "moe_intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_experts_per_tok",
        "kv_lora_rank",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
        "first_k_dense_replace",
        "routed_scaling_factor",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
    ] {
        let text = with(key).expect_err(key).to_string();
        assert!(text.contains(&format!("\"{key}\" is")), "{text}");
    }
}

#[test]
fn other_names_of_a_key_and_sizes_written_as_floats() {
    let json = json!({
        "model_type": "deepseek_v3", "num_local_experts": 64.0, "num_mtp_layers": 0,
        "hidden_size": 1024.0, "n_group": 1, "topk_group": 1.0,
    });
    let config = read(&json).unwrap();
    assert_eq!((config.n_routed_experts, config.hidden_size, config.n_group), (64, 1024, 1));
    assert_eq!(config.num_nextn_predict_layers, 0);
    let json = json!({"model_type": "deepseek_v2", "num_experts": 16, "num_experts_per_tok": 2});
    assert_eq!(read(&json).unwrap().n_routed_experts, 16);
    let half = json!({"model_type": "deepseek_v3", "hidden_size": 1024.5});
    assert!(read(&half).unwrap_err().to_string().contains("whole number"));
}

#[test]
fn a_cut_down_model_has_all_layers_dense() {
    let json = json!({"model_type": "deepseek_v3", "num_hidden_layers": 2, "vocab_size": 1000,
                      "bos_token_id": 100_000, "eos_token_id": [100_001, 5]});
    let config = read(&json).unwrap();
    assert_eq!((config.first_k_dense_replace, config.moe_layers()), (3, 0));
    // The MTP module stands in the place of the third layer, which is dense.
    assert_eq!(config.moe_mtp_modules(), 0);
    assert_eq!(config.parameter_counts().routed, 0);
    assert_eq!(
        read(&serde_json::from_str(&config.to_hugging_face_json("float32")).unwrap()).unwrap(),
        config
    );
}
