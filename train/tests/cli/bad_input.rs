//! Mistakes of the user: exit code 2, one line that names the thing, and no run folder left behind.

use crate::generate::word_tokenizer;
use crate::workplace::{DEEPSEEK, Workplace};

#[test]
fn a_configuration_that_is_wrong() {
    let place = Workplace::new();
    place.write("typo.toml", "[model]\npreset = \"tiny\"\n[train]\nstepz = 3\n");
    place.write("broken.toml", "[model\n");
    for (arguments, parts) in [
        (
            "train --config ./tiny.toml --set train.stpes=1",
            ["train.stpes", "did you mean `train.steps`"],
        ),
        ("train --config ./tiny.toml --set schedule.lr=fast", ["schedule", "fast"]),
        (
            "train --config ./tiny.toml --set train.micro_batch=3",
            ["schedule.global_batch = 4", "multiple of train.micro_batch = 3"],
        ),
        (
            "train --config ./tiny.toml --set model.num_experts_per_tok=5",
            ["model.num_experts_per_tok", "5"],
        ),
        (
            "train --config ./tiny.toml --set model.qk_rope_head_dim=3",
            ["model.qk_rope_head_dim", "3"],
        ),
        (
            "train --config ./tiny.toml --set train.seq_len=500",
            ["train.seq_len = 500", "max_position_embeddings"],
        ),
        (
            "train --config ./tiny.toml --steps 9223372036854775807",
            ["train.steps", "more than can be counted"],
        ),
        (
            &format!("train --config ./tiny.toml --set output.sample_prompt={}", "a".repeat(130)),
            ["output.sample_prompt", "131 tokens"],
        ),
        (
            "train --config ./tiny.toml --set optimizer.lr=1",
            ["optimizer.lr", "did you mean `schedule.lr`"],
        ),
        (
            "train --config ./tiny.toml --set schedule.lr=[{until=5,at=1},{until=4,at=1}]",
            ["schedule.lr[1].until", "after \"5\""],
        ),
        (
            "train --config ./tiny.toml --set schedule.global_batch=[{until=50,to=4}]",
            ["schedule.global_batch[0] = 0", "from 1"],
        ),
        (
            "train --config ./tiny.toml --set train.tokens=1.5",
            ["train.tokens: ", "number of tokens"],
        ),
        ("train --config ./tiny.toml --set train.steps=abc", ["train.steps: \"abc\"", "1.5M"]),
        ("train --config ./tiny.toml --set ema.decay=1", ["ema.decay = 1", "below 1"]),
        ("train --config ./tiny.toml --set ema.every=0", ["ema.every = 0", "from 1"]),
        (
            "train --config ./tiny.toml --set optimizer.moments=bf16 --set optimizer.beta2=0.999",
            ["optimizer.moments", "optimizer.beta2 = 0.999"],
        ),
        ("train --config ./typo.toml", ["typo.toml", "stepz"]),
        ("train --config ./broken.toml", ["broken.toml", "line 1"]),
        ("train --config ./none.toml", ["none.toml", "cannot be read"]),
        ("train --config tinny", ["tinny", "tiny-text"]),
        ("train --config tinytext", ["tinytext", "did you mean tiny-text?"]),
        ("train --config tiny", ["tiny is a model", "--set model.preset=tiny"]),
        ("train --config ./tiny.toml --set lr=1", ["--set lr=1", "did you mean schedule.lr=1?"]),
        (
            "train --config ./tiny.toml --set training.lr=1",
            ["unknown key `training`", "did you mean `schedule.lr`?"],
        ),
        ("compare-precision --runs f32,fp9", ["fp9", "did you mean fp8?"]),
        ("check --config ./typo.toml", ["typo.toml", "stepz"]),
        ("check --preset tinny", ["tinny", "tiny"]),
        ("bench train --set model.vocab_size=0", ["model.vocab_size", "0"]),
        ("plan cluster --cluster h900", ["h900", "h800-2048"]),
        ("plan cluster --preset tiny", ["plan.expert = 64", "model.n_routed_experts = 8"]),
        ("plan cluster --set plan.piepline=4", ["plan.piepline", "did you mean `plan.pipeline`"]),
        ("plan cluster --set rates.memory=2", ["rates.memory = 2", "at most 1"]),
        ("plan cluster --set tokens=1T", ["--set tokens=1T", "did you mean plan.tokens?"]),
        ("plan cluster --set train.seq_len=64", ["train.seq_len", "need --config"]),
        ("plan cluster --cluster ./typo.toml", ["typo.toml", "unknown key `model`"]),
    ] {
        place.run(arguments).failed(2, &parts);
    }
    assert!(!place.path("runs").exists());
}

#[test]
fn data_that_cannot_be_used() {
    let place = Workplace::new();
    place.write("empty.txt", "");
    place.write("binary.txt", b"some text\0\xff\xfe");
    place.write("latin.txt", b"caf\xe9 and more");
    place.write("short.txt", "too short");
    place.write("bad.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n");
    std::fs::create_dir(place.path("folder")).unwrap();
    for (data, parts) in [
        ("empty.txt", ["empty.txt", "empty"]),
        ("binary.txt", ["binary.txt", "byte offset 9"]),
        ("latin.txt", ["latin.txt", "byte offset 3"]),
        ("missing.txt", ["missing.txt", "no such file"]),
        ("bad.jsonl", ["bad.jsonl", "line 2"]),
        ("folder", ["folder", "no usable files"]),
        ("short.txt", ["tokens", "seq_len"]),
        (DEEPSEEK, [DEEPSEEK, "must be UTF-8"]),
    ] {
        place.train(&format!("--data {data}")).failed(2, &parts);
    }
    assert!(!place.path("runs").exists());
}

#[test]
fn a_tokenizer_that_does_not_fit() {
    let place = Workplace::new();
    place.write("large.json", word_tokenizer(&["a"], 300));
    place.write("endless.json", word_tokenizer(&["a"], 300).replace("</s>", "<end>"));
    place.write("broken.json", "{");
    for (file, parts) in [
        ("large.json", ["large.json", "vocabulary of 301 but the model's vocab_size is 260"]),
        ("endless.json", ["endless.json", "data.eod_token"]),
        ("broken.json", ["broken.json", "not a Hugging Face tokenizer.json"]),
        ("none.json", ["none.json", "no such file"]),
    ] {
        place.train(&format!("--set data.tokenizer={file}")).failed(2, &parts);
    }
    place.train("--set model.vocab_size=200").failed(2, &["vocabulary of 260", "200"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn a_run_that_is_not_there() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("void")).unwrap();
    for (arguments, parts) in [
        ("train --resume", ["--resume", "runs"]),
        ("train --resume void", ["void", "no checkpoint"]),
        ("eval --checkpoint void", ["void", "no model here"]),
        ("eval --checkpoint nowhere", ["nowhere", "no model here"]),
        ("generate --checkpoint void", ["void", "Hugging Face folder"]),
        ("train --config tiny-text --resume void", ["--resume", "--config"]),
        ("train --run-dir elsewhere --resume void", ["--resume", "--run-dir"]),
    ] {
        place.run(arguments).failed(2, &parts);
    }
}

#[test]
fn what_does_not_fit_a_run() {
    let place = Workplace::trained();
    let run = "runs/tiny-001";
    place.train(&format!("--run-dir {run}")).failed(2, &[run, "already holds a run", "--resume"]);
    place
        .run(&format!("train --resume {run} --set model.hidden_size=32"))
        .failed(2, &["--set", "model.hidden_size from 16 to 32", "train.init_from="]);
    place.run(&format!("train --resume {run} --set train.stepz=3")).failed(2, &["train.stepz"]);
    place.run(&format!("eval --checkpoint {run} --data none.txt")).failed(2, &["none.txt"]);
    place
        .run(&format!("generate --checkpoint {run} --max-new-tokens 128"))
        .failed(2, &["max_new_tokens 128", "max_position_embeddings 128"]);
    place.train("--steps 1 --set model.num_nextn_predict_layers=0 --run-dir plain").ok();
    place
        .run("generate --checkpoint plain --speculative --max-new-tokens 4")
        .failed(2, &["speculative", "num_nextn_predict_layers"]);
    place.run(&format!("eval --checkpoint {run} --device rocm")).failed(2, &["rocm"]);
}

/// With `--json` the mistake is told to programs too.
#[test]
fn a_mistake_in_json() {
    let place = Workplace::new();
    let finished = place.train("--json --data none.txt");
    finished.failed(2, &["none.txt"]);
    assert_eq!(finished.json()["exit_code"], 2);
    assert!(finished.json()["error"].as_str().unwrap().contains("none.txt"));
}
