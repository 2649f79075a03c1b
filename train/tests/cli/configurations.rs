//! `config.json` files as people have them: what they leave out, real models of the same
//! architecture, and those of others.

use std::path::Path;

use serde_json::{Value, json};

use crate::bounded::Bounded;
use crate::workplace::Workplace;

/// A fixture of the parity tests as a folder of the workplace.
fn fixture(place: &Workplace, name: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hf").join(name);
    std::fs::create_dir_all(place.path(name)).unwrap();
    for file in ["config.json", "config.v5.json", "model.safetensors"] {
        std::fs::copy(from.join(file), place.path(name).join(file)).unwrap();
    }
}

/// The tokens are those of transformers, whose own class fills in what the file leaves out. A
/// factor of 1 instead of 2.5, or one group instead of 8, would give others.
#[test]
fn a_file_that_leaves_out_what_it_can_gives_the_tokens_of_the_whole_file() {
    let place = Workplace::new();
    fixture(&place, "left_out");
    let expected = json!([200, 62, 165, 162, 215, 176, 66, 216, 123, 52, 22, 165]);
    let tokens = || {
        let mut command =
            place.command("generate --checkpoint left_out --max-new-tokens 12 --json");
        let output = command.args(["--temperature", "0", "--prompt", "the river"]).ended();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let stdout = String::from_utf8(output.stdout).unwrap();
        let results: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        results["token_ids"].clone()
    };
    assert_eq!(tokens(), expected);
    let whole = std::fs::read(place.path("left_out/config.v5.json")).unwrap();
    place.write("left_out/config.json", &whole);
    assert_eq!(tokens(), expected);
    for (key, other) in [("routed_scaling_factor", json!(1.0)), ("topk_group", json!(8))] {
        let mut changed: Value = serde_json::from_slice(&whole).unwrap();
        changed[key] = other;
        place.write("left_out/config.json", changed.to_string());
        assert_ne!(tokens(), expected, "{key} must show in the tokens");
    }
}

/// What Kimi-K2 is published with.
fn kimi_k2() -> Value {
    serde_json::from_str(
        r#"{
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "kimi_k2",
        "attention_bias": false, "attention_dropout": 0.0, "aux_loss_alpha": 0.001,
        "bos_token_id": 163584, "eos_token_id": 163585, "ep_size": 1,
        "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": 7168,
        "initializer_range": 0.02, "intermediate_size": 18432, "kv_lora_rank": 512,
        "max_position_embeddings": 131072, "moe_intermediate_size": 2048, "moe_layer_freq": 1,
        "n_group": 1, "n_routed_experts": 384, "n_shared_experts": 1, "norm_topk_prob": true,
        "num_attention_heads": 64, "num_experts_per_tok": 8, "num_hidden_layers": 61,
        "num_key_value_heads": 64, "num_nextn_predict_layers": 0, "q_lora_rank": 1536,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
        "quantization_config": {
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "weight_block_size": [128, 128]
        },
        "rms_norm_eps": 1e-6, "rope_theta": 50000.0,
        "rope_scaling": {
            "beta_fast": 1.0, "beta_slow": 1.0, "factor": 32.0, "mscale": 1.0,
            "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"
        },
        "routed_scaling_factor": 2.827, "scoring_func": "sigmoid", "seq_aux": true,
        "tie_word_embeddings": false, "topk_group": 1, "topk_method": "noaux_tc",
        "torch_dtype": "bfloat16", "use_cache": true, "v_head_dim": 128, "vocab_size": 163840
    }"#,
    )
    .unwrap()
}

/// What Moonlight-16B-A3B is published with.
fn moonlight() -> Value {
    let mut config = kimi_k2();
    for (key, value) in json!({
        "model_type": "deepseek_v3", "hidden_size": 2048, "intermediate_size": 11_264,
        "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16,
        "num_key_value_heads": 16, "n_shared_experts": 2, "n_routed_experts": 64,
        "num_experts_per_tok": 6, "q_lora_rank": null, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "routed_scaling_factor": 2.446, "rope_scaling": null,
        "quantization_config": null,
    })
    .as_object()
    .unwrap()
    {
        config[key] = value.clone();
    }
    config
}

/// What GLM-4.7-Flash is published with: no `scoring_func`, no `bos_token_id`, no
/// `rope_interleave`.
fn glm_4_7_flash() -> Value {
    serde_json::from_str(
        r#"{
        "architectures": ["Glm4MoeLiteForCausalLM"], "model_type": "glm4_moe_lite",
        "attention_bias": false, "attention_dropout": 0.0, "dtype": "bfloat16",
        "eos_token_id": [154820, 154827, 154829], "first_k_dense_replace": 1,
        "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 10240,
        "kv_lora_rank": 512, "max_position_embeddings": 202752, "moe_intermediate_size": 1536,
        "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 1, "norm_topk_prob": true,
        "num_attention_heads": 20, "num_experts_per_tok": 4, "num_hidden_layers": 47,
        "num_key_value_heads": 20, "num_nextn_predict_layers": 1, "pad_token_id": 154820,
        "partial_rotary_factor": 1.0, "q_lora_rank": 768, "qk_nope_head_dim": 192,
        "qk_rope_head_dim": 64, "rms_norm_eps": 1e-5, "rope_scaling": null,
        "rope_theta": 1000000, "routed_scaling_factor": 1.8, "tie_word_embeddings": false,
        "topk_group": 1, "topk_method": "noaux_tc", "v_head_dim": 256, "vocab_size": 154880
    }"#,
    )
    .unwrap()
}

/// Counts of the parameters of transformers' own classes for these files, with the balance biases,
/// which it has as buffers. The active ones hold embedding and head; Moonlight's report counts its
/// 2.24B without.
#[test]
fn the_kin_are_counted_as_their_own_code_counts_them() {
    let place = Workplace::new();
    for (name, config, total, active, mtp) in [
        ("kimi-k2-1t", kimi_k2(), 1_026_408_232_448_u64, 32_861_500_928_u64, 0),
        ("moonlight-16b", moonlight(), 15_960_110_208, 2_914_776_192, 0),
        ("glm-4.7-flash-30b", glm_4_7_flash(), 29_943_393_920, 3_896_766_080, 643_706_176),
    ] {
        place.write("config.json", config.to_string());
        let checked = place.run("check --hugging-face config.json --json").ok().json();
        let counts = &checked["parameters"];
        assert_eq!(
            (&counts["total"], &counts["active"], &counts["mtp"]),
            (&json!(total), &json!(active), &json!(mtp)),
            "{name}"
        );
        // The preset is the published model; GLM's file says no bos; its code has 0.
        let preset = place.run(&format!("check --preset {name} --json")).ok().json();
        assert_eq!(checked["model"], preset["model"], "{name}");
    }
    let moonlight = 2_914_776_192_u64 - 2 * 163_840 * 2048;
    assert_eq!(moonlight, 2_243_687_552, "2.24B");
}

#[test]
fn other_architectures_are_refused_in_one_line_that_says_why() {
    let place = Workplace::new();
    let mut config = kimi_k2();
    for (model_type, part) in [
        ("deepseek_v32", "lightning indexer"),
        ("deepseek_v4", "compressed keys"),
        ("dots1", "not MLA"),
        ("no_such_model", "not one that is read"),
    ] {
        config["model_type"] = json!(model_type);
        place.write("config.json", config.to_string());
        let text = format!("model_type \"{model_type}\"");
        place
            .run("check --hugging-face config.json")
            .failed(2, &["config.json", &text, part, "deepseek_v3"]);
    }
    config["model_type"] = json!("deepseek_v3");
    config["index_topk"] = json!(2048);
    place.write("config.json", config.to_string());
    place.run("check --hugging-face config.json").failed(2, &["index_topk"]);
}
