//! What a model whose weights stay as they are stored has in memory: the pages of a process of its
//! own, as Linux counts them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // these are tests; clippy does not see that of their helpers

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use burn::tensor::Device;
use burn_deepseek::attention::AttentionForm;
use burn_deepseek::generate::{GenerateOptions, Sampling};
use burn_deepseek::weights::{
    LoadOptions, SaveDType, SaveOptions, WeightForm, load_model, save_model,
};
use burn_deepseek::{DeepSeek, DeepSeekConfig};

/// The folder of the model, for the process that is measured.
const FOLDER: &str = "DEEPSEEK_TESTS_RESIDENT_FOLDER";

/// A model most of whose parameters are those of routed experts: 91 MB in BF16 with 32 of them.
fn config(experts: usize) -> DeepSeekConfig {
    let json = serde_json::json!({
        "model_type": "deepseek_v3", "vocab_size": 4096, "hidden_size": 512, "intermediate_size": 1024,
        "moe_intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "n_shared_experts": 1,
        "n_routed_experts": experts, "routed_scaling_factor": 1.0, "kv_lora_rank": 64, "q_lora_rank": 128,
        "qk_rope_head_dim": 32, "v_head_dim": 32, "qk_nope_head_dim": 32, "n_group": 1, "topk_group": 1,
        "num_experts_per_tok": 4, "first_k_dense_replace": 1, "norm_topk_prob": true,
        "max_position_embeddings": 256, "rope_theta": 10000.0, "scoring_func": "sigmoid",
        "topk_method": "noaux_tc", "initializer_range": 0.02, "num_nextn_predict_layers": 0
    });
    DeepSeekConfig::from_hugging_face_json(&json.to_string()).unwrap()
}

/// A line of this process's status, in bytes.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The process that is measured: loads, decodes, and prints how much more it had at most than at
/// its start. A test of no effect where it is not asked for.
#[test]
fn measured() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let before = status("VmRSS");
    let options = LoadOptions { weights: WeightForm::AsStored, ..LoadOptions::default() };
    let model = load_model(folder, &Device::flex(), &options).unwrap();
    let options = GenerateOptions {
        max_new_tokens: 40,
        sampling: Sampling { temperature: 2.0, top_p: 1.0, seed: 1 },
        stop: burn_deepseek::EndTokens::NONE,
        form: AttentionForm::Auto,
        speculative: false,
    };
    let prompt: Vec<u32> = (0..120).map(|i| i * 33 % 4096).collect();
    let said = model.generate(&prompt, &options, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(said.tokens.len(), 40);
    println!("resident {}", status("VmHWM") - before);
}

#[test]
fn a_kept_model_takes_no_more_than_its_file() {
    // What any model needs besides (code, threads, memory of products) is in both measures.
    let (small, large) = (measure(4), measure(96));
    let (resident, file) = (large.0 - small.0, large.1 - small.1);
    println!("{resident} bytes resident more, {file} more in the file");
    assert!(resident as f64 <= 1.15 * file as f64, "{resident} bytes, and {file} of the file");
    assert!(resident > file / 4, "{resident} bytes are too few to be true");
}

/// Bytes that a model of so many experts takes, and bytes of its file.
fn measure(experts: usize) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let model = DeepSeek::init(&config(experts), 1, &Device::flex()).unwrap();
    let options = SaveOptions { dtype: SaveDType::Bf16, ..SaveOptions::default() };
    save_model(&model, folder.path(), &options).unwrap();
    let file = std::fs::metadata(folder.path().join("model.safetensors")).unwrap().len();
    (resident(folder.path()), file)
}

fn resident(folder: &Path) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "measured", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.split("resident ").nth(1).and_then(|rest| rest.split_whitespace().next());
    found.and_then(|bytes| bytes.parse().ok()).unwrap_or_else(|| panic!("{output:?}"))
}
