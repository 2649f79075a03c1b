//! Models of the same architecture under other names, and other architectures under any.

use serde_json::{Value, json};

use crate::config::{DeepSeekConfig, HuggingFaceError, ModelType, published};

fn read(json: &Value) -> Result<DeepSeekConfig, HuggingFaceError> {
    DeepSeekConfig::from_hugging_face_json(&json.to_string())
}

fn glm(changes: Value) -> Value {
    let mut root = json!({"model_type": "glm4_moe_lite", "num_hidden_layers": 4});
    for (key, value) in changes.as_object().unwrap() {
        root[key] = value.clone();
    }
    root
}

#[test]
fn kimi_k2_is_deepseek_v3_by_another_name() {
    let mut json: Value =
        serde_json::from_str(&published::deepseek_v3().to_hugging_face_json("bfloat16")).unwrap();
    json["model_type"] = json!("kimi_k2");
    assert_eq!(read(&json).unwrap(), published::deepseek_v3());
}

#[test]
fn glm_is_written_under_its_own_name() {
    let config = read(&glm(json!({"eos_token_id": [7, 9], "bos_token_id": null}))).unwrap();
    assert_eq!(config.model_type, ModelType::Glm4MoeLite);
    let written: Value = serde_json::from_str(&config.to_hugging_face_json("bfloat16")).unwrap();
    assert_eq!(written["model_type"], "glm4_moe_lite");
    assert_eq!(written["architectures"], json!(["Glm4MoeLiteForCausalLM"]));
    assert_eq!(written["mlp_layer_types"], json!(["dense", "sparse", "sparse", "sparse"]));
    assert_eq!(written["eos_token_id"], json!([7, 9]));
    assert_eq!(read(&written).unwrap(), config);
}

#[test]
fn glm_says_which_layers_are_dense_in_a_list() {
    let dense = |changes| read(&glm(changes)).unwrap().first_k_dense_replace;
    assert_eq!(dense(json!({})), 1);
    assert_eq!(dense(json!({"mlp_layer_types": null, "first_k_dense_replace": 2})), 2);
    let list = |kinds: &[&str]| json!({"mlp_layer_types": kinds, "first_k_dense_replace": 1});
    assert_eq!(dense(list(&["dense", "dense", "sparse", "sparse"])), 2);
    assert_eq!(dense(list(&["sparse"; 4])), 0);
    assert_eq!(dense(list(&["dense"; 4])), 4);
    // A cut-down model with the whole list.
    assert_eq!(dense(list(&["dense", "sparse", "sparse", "sparse", "sparse", "dense"])), 1);
    for kinds in [
        &["dense", "sparse", "dense", "sparse"][..],
        &["dense", "sparse", "sparse"],
        &["dense", "moe", "moe", "moe"],
    ] {
        let text = read(&glm(list(kinds))).unwrap_err().to_string();
        assert!(text.contains("\"mlp_layer_types\""), "{text}");
    }
    // To DeepSeek's code the key says nothing.
    let v3 = json!({"model_type": "deepseek_v3", "mlp_layer_types": ["sparse"]});
    assert_eq!(read(&v3).unwrap().first_k_dense_replace, 3);
}

#[test]
fn glm_with_another_router_or_another_head_is_refused() {
    let message = |changes| read(&glm(changes)).unwrap_err().to_string();
    let text = message(json!({"scoring_func": "softmax"}));
    assert!(text.contains("impossible model"), "{text}");
    assert!(message(json!({"head_dim": 32})).contains("\"head_dim\""));
    assert!(read(&glm(json!({"head_dim": 64}))).is_ok());
}

#[test]
fn other_architectures_are_refused_by_name_with_what_is_missing() {
    for (name, part) in [
        ("deepseek_v32", "lightning indexer"),
        ("deepseek_v4", "compressed keys"),
        ("dots1", "norms on them, not MLA"),
        ("glm4_moe", "grouped keys and values"),
        ("glm_moe_dsa", "lightning indexer"),
        ("qwen3_moe", "grouped keys and values"),
        ("kimi_linear", "linear attention"),
        ("kimi_k25", "vision encoder"),
        ("deepseek", "not a shared latent"),
        ("llama", "not MLA"),
    ] {
        let error = read(&json!({"model_type": name})).unwrap_err();
        assert!(matches!(error, HuggingFaceError::OtherArchitecture { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("\"{name}\"")) && text.contains(part), "{text}");
        assert!(text.contains("glm4_moe_lite"), "what is read must be named: {text}");
    }
    let error = read(&json!({"model_type": "no_such_model"})).unwrap_err();
    assert!(matches!(error, HuggingFaceError::UnknownArchitecture { .. }), "{error}");
    assert!(error.to_string().contains("\"no_such_model\" is not one that is read"), "{error}");
}

#[test]
fn sparse_attention_under_deepseek_v3s_name_is_refused() {
    let error = read(&json!({"model_type": "deepseek_v3", "index_topk": 2048})).unwrap_err();
    assert!(error.to_string().contains("\"index_topk\" is 2048"), "{error}");
    assert!(read(&json!({"model_type": "deepseek_v3", "index_topk": null})).is_ok());
}
