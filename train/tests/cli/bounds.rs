//! Memory and time follow what is there, never what is claimed: files that are no files, sizes that
//! nobody has, nesting without end, and models that do not fit.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::generate::word_tokenizer;
use crate::workplace::{Finished, Workplace};

/// How long a mistake may take to be seen: none of these needs more than a part of a second.
const AT_ONCE: Duration = Duration::from_secs(5);

impl Workplace {
    /// Runs `deepseek`, which must have ended soon and within a gigabyte of address space more than
    /// it takes to start.
    fn bounded(&self, arguments: &str) -> Finished {
        let begun = Instant::now();
        let finished = self.shell(&format!("ulimit -v 6000000; timeout 20 $DEEPSEEK {arguments}"));
        assert!(begun.elapsed() < AT_ONCE, "{:?}: {}", begun.elapsed(), finished.dump());
        finished
    }

    /// A model's folder `hf`, exported from a run, with a value of its `config.json` changed.
    fn claims(&self, key: &str, value: &Value) {
        let text = std::fs::read_to_string(self.path("kept.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config[key] = value.clone();
        self.write("hf/config.json", config.to_string());
    }

    fn exported() -> Self {
        let place = Self::trained();
        place.run("export --checkpoint runs/tiny-001 --out hf").ok();
        std::fs::copy(place.path("hf/config.json"), place.path("kept.json")).unwrap();
        place
    }
}

/// Every command that reads a folder compares what `config.json` claims with what is there.
#[test]
fn a_small_file_that_claims_a_large_model() {
    let place = Workplace::exported();
    for (key, value) in [
        ("num_hidden_layers", json!(16_000_000)),
        ("num_hidden_layers", json!(500)),
        ("num_nextn_predict_layers", json!(500)),
        ("n_routed_experts", json!(16_000_000)),
        ("n_routed_experts", json!(65_536)),
        ("n_shared_experts", json!(60_000)),
        ("vocab_size", json!(16_000_000)),
        ("hidden_size", json!(16_000_000)),
        ("intermediate_size", json!(16_000_000)),
        ("num_attention_heads", json!(16_000_000)),
        ("kv_lora_rank", json!(u64::MAX)),
        ("qk_nope_head_dim", json!(1e300)),
        ("max_position_embeddings", json!(-1)),
    ] {
        place.claims(key, &value);
        for command in [
            "generate --checkpoint hf --prompt a --max-new-tokens 1",
            "eval --checkpoint hf --data kept.json",
            "check --checkpoint hf",
            "check --checkpoint hf --deep",
            "export --checkpoint hf --out new",
        ] {
            let finished = place.bounded(command);
            assert_eq!(finished.code, Some(2), "{key} = {value}: {}", finished.dump());
            assert!(!finished.stderr.contains("panicked"), "{}", finished.dump());
        }
        assert!(!place.path("new").exists());
        // Of a folder to begin with the weights alone count; they are the run's.
        let begin = "train --config ./tiny.toml --steps 1 --set train.init_from=hf --run-dir new";
        for command in
            [begin, "check --hugging-face hf", "plan cluster --set model.hugging_face=hf"]
        {
            let finished = place.bounded(command);
            assert!(matches!(finished.code, Some(0 | 2)), "{key} = {value}: {}", finished.dump());
        }
        let _ = std::fs::remove_dir_all(place.path("new"));
    }
}

/// A FIFO waits for a writer, and a device may have no end: either is refused by what it is.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_by_what_it_is() {
    let place = Workplace::exported();
    place.shell("mkfifo fifo").ok();
    place.write("text.txt", "the river stone goes home. ".repeat(100));
    for (target, what) in [("fifo", "a FIFO"), ("/dev/zero", "a device"), (".", "a folder")] {
        place.shell(&format!("for n in a.toml a.json; do ln -sfn {target} $n; done")).ok();
        for command in [
            "check --config ./a.toml",
            "check --preset ./a.toml",
            "check --set model.preset=./a.toml",
            "check --set model.hugging_face=a.json",
            "check --hugging-face a.json",
            "plan cluster --cluster ./a.toml",
            "plan experts --loads a.json --replicas 8 --gpus 2",
            "train --config ./tiny.toml --cluster ./a.toml --run-dir new",
            "train --config ./tiny.toml --set data.tokenizer=a.json --run-dir new",
            "train --config ./tiny.toml --devices ws://127.0.0.1:9 --token-file a.json --run-dir new",
            "generate --checkpoint hf --expert-placement a.json --prompt a",
        ] {
            let said = match (what, command) {
                // A folder stands for the config.json, or the log, in it.
                ("a folder", _) if command.contains("hugging") || command.contains("loads") => ".",
                _ => what,
            };
            place.bounded(command).failed(2, &["error: ", said]);
        }
        for file in ["model.safetensors", "tokenizer.json", "config.json", "generation_config.json"]
        {
            place.remove("hf");
            place.run("export --checkpoint runs/tiny-001 --out hf").ok();
            place.shell(&format!("rm hf/{file}; cd hf; ln -s $(realpath ../{target}) {file}")).ok();
            if target == "/dev/zero" {
                place.shell(&format!("ln -sf /dev/zero hf/{file}")).ok();
            }
            for command in ["generate --checkpoint hf --prompt a", "check --checkpoint hf"] {
                let finished = place.bounded(command);
                assert_eq!(finished.code, Some(2), "{file} is {what}: {}", finished.dump());
                let said = format!("{}{}", finished.stdout, finished.stderr);
                assert!(said.contains(file) && said.contains(what), "{}", finished.dump());
            }
        }
        for data in [
            "train --config ./tiny.toml --run-dir new --data",
            "eval --checkpoint runs/tiny-001 --data",
        ] {
            let finished = place.bounded(&format!("{data} {target}"));
            assert!(
                finished.code == Some(2) || target == ".",
                "{data} {target}: {}",
                finished.dump()
            );
        }
        let _ = std::fs::remove_dir_all(place.path("new"));
    }
}

#[test]
fn nesting_without_end() {
    let place = Workplace::new();
    let deep = format!("check --set data.source{}=1", ".a".repeat(10_000));
    place.bounded(&deep).failed(2, &["10002 parts", "no key has more than 8"]);
    let levels = 200_000;
    place.write("a.json", format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels)));
    place.write(
        "a.toml",
        format!("[data]\nsource = {}{}\n", "[".repeat(levels), "]".repeat(levels)),
    );
    place.write("b.toml", format!("[data{}]\nb = 1\n", ".a".repeat(levels)));
    place.write("a.jsonl", format!("{{\"text\":{}{}}}\n", "[".repeat(levels), "]".repeat(levels)));
    for command in [
        "check --hugging-face a.json",
        "check --config ./a.toml",
        "check --config ./b.toml",
        "check --preset ./b.toml",
        "plan cluster --cluster ./b.toml",
        "plan experts --loads a.json --replicas 8 --gpus 2",
        "train --config ./tiny.toml --data a.jsonl --run-dir new",
        "train --config ./tiny.toml --set data.tokenizer=a.json --run-dir new",
    ] {
        place.bounded(command).failed(2, &[]);
    }
}

#[test]
fn numbers_near_the_end_of_counting() {
    let place = Workplace::new();
    let most = i64::MAX;
    for (arguments, part) in [
        (format!("--set parallel.timeout_s={most}"), "parallel.timeout_s"),
        (format!("--set parallel.timeout_s={}", 1_u64 << 33), "31536000, which is a year"),
        (format!("--set data.builtin_bytes={most}"), "data.builtin_bytes"),
        (format!("--set model.num_hidden_layers={most}"), "model.num_hidden_layers"),
        (format!("--set train.seq_len={most}"), "train.seq_len"),
        (format!("--set parallel.data={most}"), "parallel.data"),
    ] {
        let command = format!("train --config ./tiny.toml --run-dir new {arguments}");
        place.bounded(&command).failed(2, &[part]);
    }
}

/// A pipeline that is too large to be worked out is refused with its keys; the largest one takes a
/// moment.
#[test]
fn planning_is_bounded() {
    let place = Workplace::new();
    place
        .bounded("plan schedule --kind 1f1b --ranks 1024 --chunks 1024")
        .failed(2, &["--ranks 1024 times --chunks 1024", "32768"]);
    place
        .bounded("plan schedule --kind 1f1b --ranks 65536 --chunks 1")
        .failed(2, &["--ranks 65536 is more than is worked out, 1024"]);
    for kind in ["1f1b --ranks 128 --chunks 128", "dualpipev --ranks 64 --chunks 256"] {
        place.bounded(&format!("plan schedule --kind {kind} --json")).ok();
    }
    let ramp = "check --config deepseek-v3 --set parallel.pipeline=16 --set parallel.schedule=zb1p";
    place.bounded(ramp).ok();
    place.bounded("check --set schedule.global_batch=16777216 --set train.micro_batch=1").ok();
    place
        .bounded("check --set model.num_hidden_layers=16777216")
        .failed(2, &["model.num_hidden_layers = 16777216 is too large; the most is 512"]);
}

#[test]
fn a_run_that_does_not_fit_is_refused_with_its_estimate() {
    let place = Workplace::new();
    let large = "--set model.hidden_size=16384 --set model.num_hidden_layers=60 --set \
                 model.intermediate_size=65536 --device flex --run-dir new";
    let batch = "--set train.micro_batch=4194304 --set schedule.global_batch=4194304 --device flex";
    for (command, parts) in [
        (format!("train --config ./tiny.toml {large}"), ["GiB of memory", "--allow-oversize"]),
        (
            format!("train --config ./tiny.toml {batch} --run-dir new"),
            ["train.micro_batch = 4194304 needs about", "--allow-oversize"],
        ),
        (format!("bench train {batch}"), ["train.micro_batch = 4194304 needs about", "GiB"]),
    ] {
        place.bounded(&command).failed(2, &parts);
    }
    assert!(!place.path("new").exists());
    place.train("--allow-oversize --steps 1 --run-dir small").ok();
    place
        .bounded("eval --checkpoint small --device flex --micro-batch 1000000000")
        .failed(2, &["a pass over 16000000000 tokens needs about", "--micro-batch"]);
}

/// The tokenizers library takes what it reads for granted; what it fails on is one line.
#[test]
fn tokenizers_that_are_broken() {
    let place = Workplace::exported();
    let whole: Value = serde_json::from_str(&word_tokenizer(&["a", "b"], 100)).unwrap();
    let with = |key: &str, part: Value| {
        let mut changed = whole.clone();
        changed[key] = part;
        changed.to_string()
    };
    let decoder = with("decoder", json!({"type": "Metaspace", "replacement": "_"}));
    let cut = decoder.find("Metaspace").unwrap() + 4;
    let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    for (name, text) in [
        ("cut inside its decoder", decoder[..cut].to_string()),
        (
            "a map that claims 4 GB",
            with("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "/P///w=="})),
        ),
        (
            "a map that is empty",
            with("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": ""})),
        ),
        (
            "a map whose trie points outside",
            with(
                "normalizer",
                json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}),
            ),
        ),
        ("a pattern that explodes", with("pre_tokenizer", split("((?=a){1000}){1000}"))),
        ("a pattern that is none", with("pre_tokenizer", split("(["))),
        (
            "a decoder that counts backwards",
            with(
                "decoder",
                json!({"type": "Strip", "content": "a", "start": 0, "stop": 1_u64 << 40}),
            ),
        ),
        ("a model that is none", with("model", json!({"type": "BPE"}))),
        ("ids beyond counting", word_tokenizer(&["a"], 100).replace("100", "99999999999")),
        ("no object", "[]".into()),
    ] {
        place.write("a.json", &text);
        place.write("hf/tokenizer.json", &text);
        for command in [
            "train --config ./tiny.toml --set data.tokenizer=a.json --steps 1 --run-dir new",
            "generate --checkpoint hf --prompt ab --max-new-tokens 4",
            "eval --checkpoint hf --data a.json",
            "check --checkpoint hf",
        ] {
            let finished = place.bounded(command);
            assert!(matches!(finished.code, Some(0 | 2)), "{name}: {command}: {}", finished.dump());
            assert!(!finished.stderr.contains("panicked"), "{name}: {}", finished.dump());
            assert!(finished.stderr.lines().count() <= 3, "{name}: {}", finished.dump());
        }
        let _ = std::fs::remove_dir_all(place.path("new"));
    }
}
