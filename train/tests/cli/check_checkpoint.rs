//! `check --checkpoint`, and what generate, eval and train say of folders that do not fit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::generate::word_tokenizer;
use crate::workplace::{Finished, Workplace, number, peak_bytes};

const NEWEST: &str = "runs/tiny-001/checkpoints/step-00000006";
const DOWN: &str = "model.layers.0.mlp.down_proj.weight";

/// A tensor of a file: type, shape, bytes.
type Raw = (Dtype, Vec<usize>, Vec<u8>);

/// A workplace with a Hugging Face folder `hf`: a trained model of bytes with one MTP module.
fn with_folder() -> Workplace {
    let place = Workplace::trained();
    place.copy(NEWEST, "hf");
    for file in ["state.json", "run.toml", "optimizer.safetensors"] {
        fs::remove_file(place.path("hf").join(file)).unwrap();
    }
    place
}

fn edit(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Raw>)) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, Raw> = file
        .iter()
        .map(|(name, view)| {
            (name.to_string(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        })
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

fn edit_config(place: &Workplace, change: impl FnOnce(&mut Value)) {
    let path = place.path("hf/config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

fn zeros(dtype: Dtype, shape: &[usize]) -> Raw {
    let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
    (dtype, shape.to_vec(), vec![0; bytes])
}

/// Ended with this code, and its last line is an object that says what is wrong.
#[track_caller]
fn at_fault(finished: &Finished, parts: &[&str]) -> Value {
    assert_eq!(finished.code, Some(2), "{}", finished.dump());
    assert!(!finished.stderr.contains("panicked"), "{}", finished.dump());
    let results = finished.json();
    assert_eq!((&results["conforms"], &results["exit_code"]), (&json!(false), &json!(2)));
    for part in parts {
        assert!(results["problems"].to_string().contains(part), "{part}: {}", finished.dump());
    }
    results
}

#[test]
fn check_looks_at_runs_checkpoints_and_folders() {
    let place = with_folder();
    for folder in ["runs/tiny-001", NEWEST, "hf", "hf/model.safetensors"] {
        let finished = place.run(&format!("check --checkpoint {folder} --deep --json")).ok();
        assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.dump());
        let results = finished.json();
        assert_eq!(results["conforms"], true, "{folder}");
        assert_eq!(results["values"]["complete"], true, "{folder}");
        let total = number(&results["parameters"], "total");
        assert_eq!(number(&results["headers"]["weight_bytes"], "f32"), 4.0 * total, "{folder}");
    }
    let page = place.run("check --checkpoint hf").ok().stdout;
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    assert!(page.lines().count() <= 40, "{page}");
    for part in ["13", "as stored", "bf16", "conforms", "MTP"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn what_is_wrong_with_a_folder_is_listed_with_exit_code_2() {
    let place = with_folder();
    let model = place.path("hf/model.safetensors");
    edit(&model, |tensors| {
        tensors.retain(|name, _| !name.contains("experts.2."));
        tensors.insert("model.extra".into(), zeros(Dtype::F32, &[1]));
    });
    let finished = place.run("check --checkpoint hf --json");
    let results = at_fault(&finished, &["mlp.experts.2.gate_proj.weight", "model.extra"]);
    assert_eq!(results["headers"]["wrong_tensors"], 7, "three of two layers, and one more");
    let page = place.run("check --checkpoint hf");
    assert!(page.stdout.contains("does not conform"), "{}", page.dump());
    page.failed(2, &["hf does not conform"]);
    // The same for who would load it, without the MTP layer: one a line.
    let generate = place.run("generate --checkpoint hf");
    assert_eq!(generate.code, Some(2), "{}", generate.dump());
    let lines: Vec<&str> = generate.stderr.lines().collect();
    assert!(lines[0].starts_with("error: hf does not hold this model (4 tensors are wrong)"));
    assert!(lines.len() > 3 && lines[1..].iter().all(|line| line.starts_with("  - ")));
}

#[test]
fn a_file_that_is_not_whole_is_at_fault() {
    let place = with_folder();
    let model = place.path("hf/model.safetensors");
    let bytes = fs::read(&model).unwrap();
    fs::write(&model, &bytes[..bytes.len() - 1]).unwrap();
    at_fault(&place.run("check --checkpoint hf --json"), &["hf/model.safetensors is damaged"]);
    fs::remove_file(&model).unwrap();
    at_fault(&place.run("check --checkpoint hf --json"), &["no checkpoint here"]);
    place.run("check --checkpoint nothing --json").failed(2, &["nothing: no model here"]);
    let alone = place.run("check --deep");
    assert!(alone.code == Some(2) && alone.stderr.contains("--checkpoint"), "{}", alone.dump());
}

/// The lowest bit of a number is changed: it is a number still, and headers say nothing of it.
#[test]
fn a_changed_bit_of_a_runs_checkpoint_is_at_fault() {
    let place = with_folder();
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let path = place.path(&format!("{NEWEST}/{file}"));
        let (mut bytes, last) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().len() - 4);
        bytes[last as usize] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let headers = place.run(&format!("check --checkpoint {NEWEST} --json")).ok();
        assert_eq!(headers.json()["conforms"], true, "{file}");
        let deep = place.run(&format!("check --checkpoint {NEWEST} --deep --json"));
        at_fault(&deep, &[file, "its checksum differs"]);
        bytes[last as usize] ^= 1;
        fs::write(&path, &bytes).unwrap();
    }
}

/// As a converter writes them that divides 0 by 0.
#[test]
fn nan_codes_are_found_before_any_text() {
    let place = with_folder();
    edit(&place.path("hf/model.safetensors"), |tensors| {
        let mut codes = vec![0x38; 16 * 32];
        codes[5 * 32 + 9] = 0x7F;
        codes[6 * 32..7 * 32].fill(0xFF);
        tensors.insert(DOWN.into(), (Dtype::F8_E4M3, vec![16, 32], codes));
        let scale = (Dtype::F32, vec![1, 1], 0.01f32.to_le_bytes().to_vec());
        tensors.insert(format!("{DOWN}_scale_inv"), scale);
    });
    let generate = place.run("generate --checkpoint hf --prompt a --max-new-tokens 4");
    assert_eq!(generate.stdout, "", "{}", generate.dump());
    generate.failed(2, &[DOWN, "model.safetensors", "NaN code 0x7f", "[5, 9]"]);
    assert_eq!(place.run("check --checkpoint hf --json").ok().json()["conforms"], true);
    let finished = place.run("check --checkpoint hf --deep --json");
    at_fault(&finished, &["33 NaN codes", "[5, 9]"]);
}

#[test]
fn buffers_of_rope_change_no_token() {
    let place = with_folder();
    let generate = || {
        place
            .run("generate --checkpoint hf --prompt a --max-new-tokens 8 --temperature 0 --json")
            .ok()
            .json()["token_ids"]
            .clone()
    };
    let before = generate();
    edit(&place.path("hf/model.safetensors"), |tensors| {
        for layer in 0..3 {
            let name = format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq");
            tensors.insert(name, zeros(Dtype::F32, &[2]));
        }
    });
    assert_eq!(generate(), before);
    let results = place.run("check --checkpoint hf --json").ok().json();
    assert!(results["ignored"].to_string().contains("rotary_emb"), "{results}");
}

/// Tools that do not know MTP leave its weights out and its number in.
#[test]
fn mtp_weights_that_are_missing_are_left_out_or_drawn() {
    let place = with_folder();
    let generate = || {
        place.run("generate --checkpoint hf --prompt a --max-new-tokens 8 --json").ok().json()
            ["token_ids"]
            .clone()
    };
    let before = generate();
    edit(&place.path("hf/model.safetensors"), |tensors| {
        tensors.retain(|name, _| !name.starts_with("model.layers.2."));
    });
    assert_eq!(generate(), before);
    let results = place.run("check --checkpoint hf --json").ok().json();
    assert!(results["remarks"].to_string().contains("1 MTP module"), "{results}");
    place
        .run("generate --checkpoint hf --prompt a --max-new-tokens 8 --speculative")
        .failed(2, &["MTP"]);
    let trained = place.train("--set train.init_from=hf --steps 1").ok();
    assert!(trained.stdout.contains("MTP         1 drawn"), "{}", trained.dump());
    let whole = place.train(&format!("--set train.init_from={NEWEST} --steps 1")).ok();
    assert!(!whole.stdout.contains("drawn"), "{}", whole.dump());
}

#[test]
fn tokens_of_the_folders_files_are_compared() {
    let place = with_folder();
    place.write("hf/tokenizer.json", word_tokenizer(&["a", "b"], 256));
    place.write("hf/tokenizer_config.json", r#"{"eos_token": {"content": "</s>"}}"#);
    place.write("hf/generation_config.json", r#"{"eos_token_id": [256, 257, 999]}"#);
    edit_config(&place, |config| config["eos_token_id"] = json!(256));
    let results = place.run("check --checkpoint hf --json").ok().json();
    assert_eq!(results["tokens"]["tokenizer_size"], 257);
    let ends = &results["tokens"]["end_tokens"];
    assert_eq!(ends[1], json!({"file": "generation_config.json", "tokens": [256, 257, 999]}));
    assert_eq!(ends[2], json!({"file": "tokenizer_config.json", "tokens": [256]}));
    let remarks = results["remarks"].to_string();
    assert!(remarks.contains("end tokens differ") && remarks.contains("999"), "{remarks}");
    place.write("hf/tokenizer.json", word_tokenizer(&["a", "b"], 260));
    let larger = place.run("check --checkpoint hf --json");
    at_fault(&larger, &["tokens up to 260, the model knows 260"]);
    place.write("hf/tokenizer.json", "{}");
    at_fault(&place.run("check --checkpoint hf --json"), &["not a Hugging Face tokenizer.json"]);
}

/// Of a model whose experts are all chosen, so that every page of its files is used. They are not in
/// its last layer, which sees of a prompt the last token alone.
#[cfg(target_os = "linux")]
#[test]
fn the_memory_that_it_says_is_what_decoding_takes() {
    use std::process::Stdio;

    use burn::tensor::Device;
    use burn_deepseek::fp8::ScaleFormat;
    use burn_deepseek::weights::{SaveDType, SaveOptions, save_model};
    use burn_deepseek::{DeepSeek, DeepSeekConfig};

    let config = json!({
        "model_type": "deepseek_v3", "vocab_size": 260, "hidden_size": 512,
        "intermediate_size": 1024, "moe_intermediate_size": 512, "num_hidden_layers": 4, "moe_layer_freq": 2,
        "num_attention_heads": 4, "n_shared_experts": 1, "n_routed_experts": 192,
        "num_experts_per_tok": 8, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
        "routed_scaling_factor": 1.0, "q_lora_rank": 64, "kv_lora_rank": 64,
        "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 32,
        "max_position_embeddings": 1024, "num_nextn_predict_layers": 0, "eos_token_id": null,
    });
    let config = DeepSeekConfig::from_hugging_face_json(&config.to_string()).unwrap();
    let model = DeepSeek::init(&config, 1, &Device::flex()).unwrap();
    let place = Workplace::new();
    let prompt: String = (0..300u32).map(|i| char::from(33 + (i * 37 % 90) as u8)).collect();
    for dtype in [SaveDType::F32, SaveDType::Bf16, SaveDType::Fp8(ScaleFormat::F32)] {
        let options = SaveOptions { dtype, ..SaveOptions::default() };
        save_model(&model, place.path("large"), &options).unwrap();
        let said = place.run("check --checkpoint large --json").ok().json();
        let said = number(&said["memory"][0], "resident_bytes");
        let mut command = place.command("generate --checkpoint large --max-new-tokens 8 --prompt");
        command.arg(&prompt).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (peak, finished) = peak_bytes(command.spawn().unwrap());
        finished.ok();
        let ratio = peak as f64 / said;
        println!("{dtype:?}: {peak} bytes, {said} said, {ratio:.3}");
        // What is not said: the program itself, and buffers of threads, which take turns by chance.
        let most = 1.05 * said + 48e6;
        assert!(ratio > 0.9 && peak as f64 <= most, "{dtype:?}: {peak} bytes, {said} said");
        place.remove("large");
    }
}
