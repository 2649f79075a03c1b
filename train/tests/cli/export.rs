//! Models for other programs: what `export` writes, that it says what the model says here, and what
//! it refuses.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::generate::word_tokenizer;
use crate::workplace::{Workplace, number};

const NEWEST: &str = "runs/tiny-001/checkpoints/step-00000006";

/// The prompt's tokens and those that follow.
fn said(place: &Workplace, folder: &str, more: &str) -> (Value, Value) {
    let arguments =
        format!("generate --checkpoint {folder} --prompt a --max-new-tokens 8 --json {more}");
    let results = place.run(&arguments).ok().json();
    (results["prompt_token_ids"].clone(), results["token_ids"].clone())
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A run over bytes, as it is kept and as it is exported.
#[test]
fn an_export_says_what_the_run_says() {
    let place = Workplace::trained();
    let finished =
        place.run("export --checkpoint runs/tiny-001 --out out/f32 --dtype f32 --json").ok();
    let results = finished.json();
    let files = [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(place.names("out/f32"), files);
    assert_eq!(place.names("out"), ["f32"], "nothing is left of the making");
    assert_eq!(results["files"], json!(files));
    assert_eq!((&results["dtype"], &results["step"]), (&json!("f32"), &json!(6)));
    assert!(finished.stdout.contains("read back and compared"), "{}", finished.dump());
    let weights = |folder: &str| fs::read(place.path(folder).join("model.safetensors")).unwrap();
    assert!(weights("out/f32") == weights(NEWEST), "nothing is lost in F32");
    for folder in ["out/f32", NEWEST] {
        let config = json_of(&place.path(folder).join("config.json"));
        assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&json!(256), &json!(256)));
    }
    let generation = json_of(&place.path("out/f32/generation_config.json"));
    assert_eq!(generation, json!({"bos_token_id": 256, "eos_token_id": 256}));
    assert_eq!(said(&place, "out/f32", ""), said(&place, "runs/tiny-001", ""));
    assert_eq!(said(&place, "out/f32", "").0, json!([256, 97]));
    let card = fs::read_to_string(place.path("out/f32/README.md")).unwrap();
    assert!(card.contains("6 steps, 384 tokens") && card.contains("hidden_size = 16"), "{card}");
    let here = place.path("").display().to_string();
    assert!(!card.contains(here.trim_end_matches('/')), "{card}");

    for (dtype, bytes) in [("bf16", 2.0), ("f16", 2.0), ("fp8", 1.0)] {
        let arguments =
            format!("export --checkpoint runs/tiny-001 --out out/{dtype} --dtype {dtype} --json");
        let smaller = place.run(&arguments).ok().json();
        let ratio = number(&smaller, "bytes") / number(&results, "bytes");
        assert!(ratio < bytes / 4.0 + 0.2 && ratio > bytes / 4.0, "{dtype} {ratio}");
        assert_eq!(said(&place, &format!("out/{dtype}"), "").0, json!([256, 97]));
    }
    let quantization = &json_of(&place.path("out/fp8/config.json"))["quantization_config"];
    assert_eq!(quantization["weight_block_size"], json!([128, 128]));
}

/// The tokenizer goes with the checkpoint: neither its own place nor the optimizer is needed any
/// more, and the same prompt has the same tokens wherever the files are.
#[test]
fn a_checkpoint_has_its_tokenizer() {
    let place = Workplace::new();
    place.write("words.json", word_tokenizer(&["?", "a", "b"], 200));
    place.write("text.txt", "a b a b b a ".repeat(100));
    place
        .train("--set data.tokenizer=words.json --data text.txt --set data.split=position --set ema.decay=0.5")
        .ok();
    let ours = said(&place, "runs/tiny-001", "");
    assert_eq!(ours.0, json!([200, 1]));
    let eval = |what: &str| {
        let arguments = format!("eval --checkpoint {what} --data text.txt --json");
        place.run(&arguments).ok().json()["loss"].clone()
    };
    let (loss, average) = (eval("runs/tiny-001"), eval("runs/tiny-001 --ema"));

    // As people copy it by hand, with the file that they trained with.
    fs::create_dir(place.path("by-hand")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(place.path(NEWEST).join(file), place.path("by-hand").join(file)).unwrap();
    }
    fs::copy(place.path("words.json"), place.path("by-hand/tokenizer.json")).unwrap();
    let config = json_of(&place.path("by-hand/config.json"));
    assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&json!(200), &json!(200)));
    assert_eq!(said(&place, "by-hand", ""), ours);

    fs::remove_file(place.path("words.json")).unwrap();
    for file in ["optimizer.safetensors", "ema/config.json"] {
        fs::remove_file(place.path(NEWEST).join(file)).unwrap();
    }
    assert_eq!(said(&place, "runs/tiny-001", ""), ours);
    assert_eq!(eval("runs/tiny-001"), loss);
    fs::write(place.path(NEWEST).join("ema/config.json"), config.to_string()).unwrap();
    // That one is not what it was.
    place
        .run("generate --checkpoint runs/tiny-001 --ema")
        .failed(2, &["ema/config.json", "damaged"]);
    place.run("train --resume runs/tiny-001 --steps 8").failed(2, &["ema/config.json", "damaged"]);
    assert_ne!(loss, average);

    place.run("export --checkpoint runs/tiny-001 --out out --dtype f32").ok();
    assert_eq!(said(&place, "out", ""), ours);
    assert_eq!(eval("out --seq-len 16 --micro-batch 2"), loss);
    let tokenizer = json_of(&place.path("out/tokenizer.json"));
    assert_eq!(tokenizer["post_processor"]["special_tokens"]["</s>"]["ids"], json!([200]));
    assert_eq!(json_of(&place.path("out/tokenizer_config.json"))["bos_token"], "</s>");
}

/// A file that was changed after the training is not the run's tokenizer any more.
#[test]
fn a_tokenizer_that_was_changed_later_is_not_the_runs() {
    let place = Workplace::new();
    place.write("words.json", word_tokenizer(&["?", "a", "b"], 200));
    place.write("text.txt", "a b a b b a ".repeat(100));
    place.train("--set data.tokenizer=words.json --data text.txt --set data.split=position").ok();
    place.write("words.json", word_tokenizer(&["?", "c", "a"], 201));
    assert_eq!(said(&place, "runs/tiny-001", "").0, json!([200, 1]));
}

/// From folder to folder, FP8 as it is.
#[test]
fn an_export_can_be_exported() {
    let place = Workplace::new();
    place.train("--set ema.decay=0.5").ok();
    let export = |from: &str, to: &str, more: &str| {
        place.run(&format!("export --checkpoint {from} --out {to} --json {more}")).ok().json()
    };
    let fp8 = export("runs/tiny-001", "fp8", "--dtype fp8 --scale-format ue8m0 --ema");
    assert_eq!((&fp8["scale_format"], &fp8["ema"]), (&json!("ue8m0"), &json!(true)));
    let again = export("fp8", "again", "--dtype fp8");
    assert_eq!(again["scale_format"], "ue8m0", "as the model has them");
    for file in place.names("fp8").iter().filter(|file| *file != "README.md") {
        let bytes = |folder: &str| fs::read(place.path(folder).join(file)).unwrap();
        assert!(bytes("again") == bytes("fp8"), "{file}");
    }
    let shards = export("fp8", "shards", "--dtype bf16 --max-shard-size 5KB");
    assert!(shards["weight_files"].as_array().unwrap().len() > 3, "{shards}");
    assert!(place.names("shards").contains(&"model.safetensors.index.json".to_string()));
    assert_eq!(said(&place, "fp8", "").0, said(&place, "shards", "").0);

    let average = export("runs/tiny-001", "average", "--dtype f32 --ema");
    assert_eq!(average["step"], 6);
    assert_eq!(said(&place, "average", ""), said(&place, "runs/tiny-001", "--ema"));
}

/// What stands beside the weights of a folder goes along; a tokenizer of another kind, too.
#[test]
fn files_of_a_folder_go_along() {
    let place = Workplace::trained();
    place.run("export --checkpoint runs/tiny-001 --out from --dtype f32").ok();
    place.write("from/generation_config.json", r#"{"eos_token_id": [7, 9], "top_p": 0.9}"#);
    place.write("from/modeling.py", "pass\n");
    place.write("from/notes.txt", "mine");
    fs::remove_file(place.path("from/tokenizer.json")).unwrap();
    place.write("from/tiktoken.model", "IQ== 0\n");
    let results = place.run("export --checkpoint from --out to --dtype bf16 --json").ok().json();
    assert_eq!(results["eos_token_id"], json!([256, 7, 9]));
    let generation = json_of(&place.path("to/generation_config.json"));
    assert_eq!(generation["eos_token_id"], json!([256, 7, 9]));
    assert_eq!(generation["top_p"], 0.9);
    let names = place.names("to");
    assert!(["modeling.py", "tiktoken.model"].iter().all(|name| names.contains(&(*name).into())));
    assert!(!names.contains(&"notes.txt".into()));
}

#[test]
fn an_export_that_cannot_be_leaves_nothing() {
    let place = Workplace::trained();
    fs::create_dir(place.path("full")).unwrap();
    place.write("full/file", "");
    place.write("taken", "");
    for (arguments, code, parts) in [
        ("--checkpoint runs/tiny-001 --out full", 2, ["--out full", "not empty"]),
        ("--checkpoint runs/tiny-001 --out taken", 2, ["--out taken", "a file"]),
        ("--checkpoint full --out new", 2, ["full", "no model here"]),
        ("--checkpoint runs/tiny-001 --out new --scale-format f32", 2, ["--scale-format", "fp8"]),
        ("--checkpoint runs/tiny-001 --out new --ema", 2, ["no average", "ema.decay"]),
    ] {
        place.run(&format!("export {arguments}")).failed(code, &parts);
    }
    let finished = place.run("export --checkpoint runs/tiny-001 --out new --max-shard-size lots");
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("as in 5GB"), "{}", finished.dump());
    // A byte of the weights that is not what it was.
    let path = place.path(NEWEST).join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    place
        .run("export --checkpoint runs/tiny-001 --out new")
        .failed(2, &["model.safetensors", "damaged"]);
    let mut left = fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.any(|name| name.to_string_lossy().contains("new")));
}

/// A Hugging Face folder is measured on data that is named, with windows that one may choose.
#[test]
fn eval_takes_hugging_face_folders() {
    let place = Workplace::trained();
    place.run("export --checkpoint runs/tiny-001 --out hf --dtype f32").ok();
    place.write("other.txt", "0123456789".repeat(10));
    let eval = |arguments: &str| place.run(&format!("eval --json --checkpoint {arguments}"));
    let run = eval("runs/tiny-001 --data other.txt").ok().json();
    let folder = eval("hf --data other.txt --seq-len 16 --micro-batch 2").ok();
    assert!(!folder.stdout.contains("after step"), "{}", folder.dump());
    let folder = folder.json();
    for key in ["loss", "mtp_losses", "bits_per_byte", "tokens", "windows", "batches"] {
        assert_eq!(folder[key], run[key], "{key}");
    }
    assert_eq!((&folder["step"], &run["step"]), (&Value::Null, &json!(6)));
    let whole = eval("hf --data other.txt").ok().json();
    assert_eq!(whole["windows"], 1, "of as many tokens as the model has positions");
    let longer = eval("runs/tiny-001 --data other.txt --seq-len 50").ok().json();
    assert_eq!((&longer["tokens"], &longer["windows"]), (&json!(100), &json!(2)));
    eval("hf").failed(2, &["--checkpoint hf", "give --data"]);
    eval("hf --data other.txt --seq-len 129").failed(2, &["--seq-len 129", "128"]);
    eval("hf --data other.txt --ema").failed(2, &["--ema needs a run's checkpoint"]);
}
