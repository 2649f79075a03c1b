//! `config.json` both ways: the fixtures, the published models, and what is refused.

mod kin;
mod left_out;
mod rope;

use std::path::{Path, PathBuf};

use super::HuggingFaceError;
use crate::config::{DeepSeekConfig, ScoringFunc, published};

#[test]
fn json_round_trip_of_the_published_models() {
    for config in
        [published::deepseek_v3(), published::deepseek_v2(), published::deepseek_v2_lite()]
    {
        let text = config.to_hugging_face_json("bfloat16");
        assert_eq!(DeepSeekConfig::from_hugging_face_json(&text).unwrap(), config);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["torch_dtype"], "bfloat16");
    }
}

#[test]
fn a_dense_model_is_written_with_all_layers_dense() {
    let mut config = published::deepseek_v3();
    config.n_routed_experts = 0;
    let text = config.to_hugging_face_json("float32");
    let read = DeepSeekConfig::from_hugging_face_json(&text).unwrap();
    assert_eq!((read.n_routed_experts, read.first_k_dense_replace), (0, 61));
    assert_eq!(read.parameter_counts(), config.parameter_counts());
}

#[test]
fn both_forms_of_every_fixture_say_the_same() {
    let mut seen = 0;
    for directory in fixture_directories() {
        let read = |name: &str| {
            let text = std::fs::read_to_string(directory.join(name)).unwrap();
            DeepSeekConfig::from_hugging_face_json(&text).unwrap()
        };
        let config = read("config.json");
        if directory.join("config.v5.json").exists() {
            assert_eq!(config, read("config.v5.json"), "{}", directory.display());
        }
        let written = config.to_hugging_face_json("float32");
        assert_eq!(DeepSeekConfig::from_hugging_face_json(&written).unwrap(), config);
        seen += 1;
    }
    println!("{seen} fixture configurations read");
}

#[test]
fn parameters_of_every_fixture_are_counted_right() {
    for directory in fixture_directories() {
        let config = std::fs::read_to_string(directory.join("config.json")).unwrap();
        let Ok(meta) = std::fs::read_to_string(directory.join("meta.json")) else {
            println!("skipped: {} has no meta.json", directory.display());
            continue;
        };
        let config = DeepSeekConfig::from_hugging_face_json(&config).unwrap();
        let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
        let Some(params) = meta["params"].as_u64() else {
            continue;
        };
        // PyTorch counts the balance bias as a buffer, and `params` is of the main model.
        let biases = if config.has_balance_bias() {
            config.moe_layers() * config.n_routed_experts
        } else {
            0
        };
        assert_eq!(
            config.parameter_counts().total,
            params + biases as u64,
            "{}",
            directory.display()
        );
    }
}

/// `$DSV3_FIXTURES/hf/*`, else the repository's own copy; empty where there is neither.
fn fixture_directories() -> Vec<PathBuf> {
    let root = std::env::var_os("DSV3_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures"),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(root.join("hf")) else {
        println!("skipped: no fixtures in {}", root.display());
        return Vec::new();
    };
    let mut directories: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    directories.sort();
    directories
}

fn v3_json_with(key: &str, value: serde_json::Value) -> String {
    let mut root: serde_json::Value =
        serde_json::from_str(&published::deepseek_v3().to_hugging_face_json("bfloat16")).unwrap();
    root[key] = value;
    root.to_string()
}

#[test]
fn the_released_fp8_file_and_foreign_keys_are_read() {
    let fp8 = serde_json::json!({
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
        "weight_block_size": [128, 128],
    });
    let text = v3_json_with("quantization_config", fp8);
    assert_eq!(DeepSeekConfig::from_hugging_face_json(&text).unwrap(), published::deepseek_v3());
    let text = v3_json_with("some_future_key", serde_json::json!([1, {"a": null}]));
    assert_eq!(DeepSeekConfig::from_hugging_face_json(&text).unwrap(), published::deepseek_v3());
    let text = v3_json_with("eos_token_id", serde_json::json!([1, 5]));
    assert_eq!(
        DeepSeekConfig::from_hugging_face_json(&text).unwrap().eos_token_id.as_slice(),
        [1, 5]
    );
}

#[test]
fn other_meanings_are_refused_by_key() {
    let cases = [
        ("hidden_act", serde_json::json!("gelu"), "hidden_act"),
        ("attention_dropout", serde_json::json!(0.1), "attention_dropout"),
        ("num_key_value_heads", serde_json::json!(8), "num_key_value_heads"),
        ("scoring_func", serde_json::json!("tanh"), "scoring_func"),
        ("topk_method", serde_json::json!("random"), "topk_method"),
        (
            "quantization_config",
            serde_json::json!({"quant_method": "gptq"}),
            "quantization_config.quant_method",
        ),
    ];
    for (key, value, named) in cases {
        let error = DeepSeekConfig::from_hugging_face_json(&v3_json_with(key, value)).unwrap_err();
        assert!(matches!(error, HuggingFaceError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(&format!("\"{named}\"")), "{error}");
    }
}

#[test]
fn malformed_files_are_errors_that_say_what_is_wrong() {
    let message =
        |text: &str| DeepSeekConfig::from_hugging_face_json(text).unwrap_err().to_string();
    assert!(message("{").contains("JSON"));
    assert!(message("[]").contains("object"));
    assert!(message("{}").contains("\"model_type\" is missing"));
    assert!(
        message(&v3_json_with("hidden_size", serde_json::json!("big")))
            .contains("\"hidden_size\" is \"big\"")
    );
    assert!(message(&v3_json_with("hidden_size", serde_json::json!(-4))).contains("hidden_size"));
    assert!(
        message(&v3_json_with("vocab_size", serde_json::Value::Null))
            .contains("\"vocab_size\" is null, it must be a whole number")
    );
    assert!(message("{\"model_type\": 3}").contains("\"model_type\" is 3"));
    let error =
        DeepSeekConfig::from_hugging_face_json(&v3_json_with("n_group", serde_json::json!(7)))
            .unwrap_err();
    assert!(matches!(error, HuggingFaceError::Invalid(_)));
}

#[test]
fn a_deepseek_v2_file_without_the_newer_keys() {
    let mut root: serde_json::Value =
        serde_json::from_str(&published::deepseek_v2_lite().to_hugging_face_json("bfloat16"))
            .unwrap();
    assert_eq!(root["model_type"], "deepseek_v2");
    let keys = root.as_object_mut().unwrap();
    for key in [
        "scoring_func",
        "topk_method",
        "norm_topk_prob",
        "rope_interleave",
        "n_group",
        "topk_group",
    ] {
        keys.remove(key);
    }
    let config = DeepSeekConfig::from_hugging_face_json(&root.to_string()).unwrap();
    assert_eq!(config, published::deepseek_v2_lite());
    assert_eq!(config.scoring_func, ScoringFunc::Softmax);
    // DeepSeek-V2's gate normalizes or scales, never both.
    root["norm_topk_prob"] = true.into();
    root["routed_scaling_factor"] = 16.0.into();
    assert!(DeepSeekConfig::from_hugging_face_json(&root.to_string()).is_err());
}
