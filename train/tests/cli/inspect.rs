//! `deepseek inspect`: tables and lines of a text, what-ifs, another checkpoint beside it, saved
//! routings, and what it refuses.

use serde_json::Value;

use crate::bounded::Bounded;
use crate::workplace::{Workplace, number};

const RUN: &str = "runs/tiny-001";
const TEXT: &str = "--prompt the_small_cat_sees_the_dog";

/// `deepseek inspect` of the run and the text, and more.
fn inspect(more: &str) -> String {
    format!("inspect --checkpoint {RUN} {TEXT} {more}")
}

fn of<'a>(lines: &'a [Value], kind: &'a str, variant: &'a str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind && line["variant"] == variant).collect()
}

fn chosen(token: &Value, layer: usize) -> Option<Vec<u64>> {
    let layers = token["layers"].as_array().unwrap();
    let of = layers.iter().find(|of| of["layer"] == layer)?;
    Some(of["chosen"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect())
}

#[test]
fn a_text_is_shown_token_by_token_and_written_whole() {
    let place = Workplace::trained();
    let finished = place.run(&inspect("--out all.jsonl --json")).ok();
    let results = finished.json();
    assert_eq!(
        (&results["tokens"], &results["layers"], &results["format"], &results["step"]),
        (&27.into(), &serde_json::json!([1, 2]), &"f32".into(), &6.into())
    );
    assert!(
        finished.stdout.lines().all(|line| line.starts_with('{') || line.chars().count() <= 80)
    );
    for part in
        ["experts     2 of 4 a token, in layers 1, 2", "\"<end>\"", "layer 1  layer 2", "loss  MTP"]
    {
        assert!(finished.stdout.contains(part), "{part}: {}", finished.dump());
    }

    let all = place.lines("all.jsonl");
    let [heading] = of(&all, "inspection", "base")[..] else { panic!("one inspection") };
    assert_eq!((&heading["version"], &heading["what_if"]), (&1.into(), &Value::Null));
    assert_eq!(of(&all, "layer", "base").len(), 2);
    let tokens = of(&all, "token", "base");
    assert_eq!(tokens.len(), 27);
    assert_eq!((&tokens[0]["id"], &tokens[0]["loss"]), (&256.into(), &Value::Null));
    assert_eq!(tokens[1]["text"], "t");
    let losses: Vec<f64> = tokens[1..].iter().map(|token| number(token, "loss")).collect();
    let mean = losses.iter().sum::<f64>() / 26.0;
    assert!((mean - number(&results, "mean_loss")).abs() < 1e-6);
    // Depth 1 says nothing of the first two tokens, and its module does not see the last.
    let agrees = |token: usize| &tokens[token]["mtp_agrees"][0];
    assert!(agrees(1).is_null() && agrees(2).is_boolean() && agrees(26).is_boolean());
    let agreed = (2..27).filter(|&token| agrees(token) == true).count() as f64 / 25.0;
    assert!((agreed - results["mtp_agreement"][0].as_f64().unwrap()).abs() < 1e-9);
    assert!(chosen(tokens[25], 2).is_some() && chosen(tokens[26], 2).is_none());
    for token in &tokens {
        let of = &token["layers"][0];
        let sum = |key: &str| {
            of[key].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).sum::<f64>()
        };
        assert_eq!(of["scores"].as_array().unwrap().len(), 4);
        assert!(chosen(token, 1).unwrap().is_sorted());
        assert!(sum("gates") > 0.0, "{of}");
    }

    // One layer in full, from a file; the same text has the same tokens.
    place.write("text.txt", "the_small_cat_sees_the_dog");
    let layer =
        place.run(&format!("inspect --checkpoint {RUN} --text text.txt --layer 2 --json")).ok();
    assert_eq!(layer.json()["mean_loss"], results["mean_loss"]);
    assert!(layer.stdout.contains("experts: gate values"), "{}", layer.dump());
}

/// What `inspect` says of a window of the held-out text is what `eval` measures of it.
#[test]
fn the_loss_is_that_of_eval() {
    let place = Workplace::trained();
    // Of 16 bytes each: the second window of eval is the end of the first text and all of the
    // other, which is what inspect looks at.
    place.write("before.txt", "the_old_dog_runs");
    place.write("text.txt", "0123456789abcdef");
    let eval = |windows: u32| {
        let files = "--data before.txt text.txt --seq-len 16 --micro-batch 1";
        let told =
            place.run(&format!("eval --checkpoint {RUN} {files} --batches {windows} --json"));
        let told = told.ok().json();
        assert_eq!(told["tokens"], 16 * windows);
        number(&told, "loss") * f64::from(windows)
    };
    let inspected =
        place.run(&format!("inspect --checkpoint {RUN} --text text.txt --json")).ok().json();
    assert_eq!(inspected["tokens"], 17);
    let (second, loss) = (eval(2) - eval(1), number(&inspected, "mean_loss"));
    assert!((second - loss).abs() < 1e-5, "{second} and {loss}");
}

#[test]
fn what_if_shows_what_moved() {
    let place = Workplace::trained();
    let base = place.run(&inspect("--json")).ok().json();

    // Nothing is other: no bit is.
    for nothing in ["--bias 1:0:0", "--what-if-format f32"] {
        let same = place.run(&inspect(&format!("{nothing} --json"))).ok().json();
        let what_if = &same["what_if"];
        assert_eq!(what_if["mean_loss"], base["mean_loss"], "{nothing}");
        assert_eq!(
            (&what_if["moved_tokens"], &what_if["mean_loss_change"]),
            (&0.into(), &0.0.into())
        );
    }

    let finished = place.run(&inspect("--disable 1:0 --disable 2:3 --out off.jsonl --json")).ok();
    let results = finished.json();
    assert!(finished.stdout.contains("expert 0 of layer 1 off; expert 3 of layer 2 off"));
    assert!(
        finished.stdout.lines().all(|line| line.starts_with('{') || line.chars().count() <= 80)
    );
    let moved = number(&results["what_if"], "moved_tokens");
    assert!(moved > 0.0, "{}", finished.dump());
    let all = place.lines("off.jsonl");
    let (before, after) = (of(&all, "token", "base"), of(&all, "token", "what-if"));
    let mut counted = 0;
    for (before, after) in before.iter().zip(&after) {
        assert!(!chosen(after, 1).unwrap().contains(&0), "{after}");
        assert!(!chosen(after, 2).unwrap_or_default().contains(&3), "{after}");
        let layers = [1, 2].iter().any(|&layer| chosen(before, layer) != chosen(after, layer));
        counted += usize::from(layers);
        // Who kept the experts of layer 1 has the same scores there.
        assert_eq!(before["layers"][0]["scores"], after["layers"][0]["scores"]);
    }
    assert_eq!(counted as f64, moved);
    let [biases, _] = of(&all, "layer", "what-if")[..] else { panic!("two layers") };
    assert!(biases["bias"][0].is_null() && biases["bias"][1].is_number(), "{biases}");

    // A bias that is large enough takes every token.
    place.run(&inspect("--bias 1:2:5 --out taken.jsonl")).ok();
    let taken = place.lines("taken.jsonl");
    for token in of(&taken, "token", "what-if") {
        assert!(chosen(token, 1).unwrap().contains(&2), "{token}");
    }

    let fp8 = place.run(&inspect("--what-if-format fp8 --json")).ok().json();
    assert_eq!((&fp8["format"], &fp8["what_if"]["format"]), (&"f32".into(), &"fp8".into()));
    let change = number(&fp8["what_if"], "mean_loss_change");
    assert!(change != 0.0 && change.abs() < 0.1, "{change}");
}

#[test]
fn another_checkpoint_stands_beside() {
    let place = Workplace::trained();
    let earlier = format!("{RUN}/checkpoints/step-00000004");
    let finished = place.run(&inspect(&format!("--other {earlier} --json"))).ok();
    let results = finished.json();
    assert!(number(&results["other"], "mean_loss_change") != 0.0);
    assert!(finished.stdout.contains("step-00000004"), "{}", finished.dump());
    let same = place.run(&inspect(&format!("--other {RUN} --json"))).ok().json();
    assert_eq!(same["other"]["mean_loss_change"], 0.0);
    place.train("--set model.n_routed_experts=6 --run-dir six --steps 2").ok();
    place
        .run(&inspect("--other six"))
        .failed(2, &["the other checkpoint has 2 of 6 experts", "2 of 4 experts"]);
}

/// The routing of FP32 replayed in FP8: no token has another expert.
#[test]
fn a_text_s_routing_is_saved_and_replayed() {
    let place = Workplace::trained();
    let free = place.run(&inspect("--routing-out a.routing --json")).ok().json();
    let again = place.run(&inspect("--routing a.routing --what-if-format fp8 --json")).ok().json();
    assert_eq!(free["mean_loss"], again["mean_loss"]);
    assert_eq!(again["what_if"]["moved_tokens"], 0);
    assert!(number(&again["what_if"], "mean_loss_change") != 0.0);
    place
        .run(&format!("inspect --checkpoint {RUN} --prompt other --routing a.routing"))
        .failed(2, &["a.routing: window 0", "tokens there and"]);
    place
        .run(&format!(
            "inspect --checkpoint {RUN} --prompt the_small_cat_sees_the_fog --routing a.routing"
        ))
        .failed(2, &["a.routing: window 0 was saved of other tokens"]);
    place
        .run(&format!("eval --checkpoint {RUN} --routing a.routing"))
        .failed(2, &["a.routing: saved by `inspect --routing-out`"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = Workplace::trained();
    place.write("long.txt", "x".repeat(200));
    let text = |more: &str| format!("inspect --checkpoint {RUN} {more}");
    for (arguments, parts) in [
        (inspect("--layer 0"), &["--layer 0", "layers that have: 1, 2"][..]),
        (inspect("--disable 0:1"), &["layer 0 has no routed experts", "1, 2"]),
        (inspect("--disable 1:4"), &["expert 4 of layer 1: there are 4, 0 to 3"]),
        (inspect("--disable 1:0 --disable 1:1 --disable 1:2"), &["may find 1 of the 2"]),
        (inspect("--topk-group 2"), &["topk_group = 2", "1 groups"]),
        (inspect("--other nowhere"), &["--other nowhere", "nowhere"]),
        (inspect("--routing nowhere"), &["--routing", "nowhere: no such file"]),
        (inspect("--routing long.txt"), &["long.txt: not a file of saved routings"]),
        (text("--text nowhere.txt"), &["--text nowhere.txt"]),
        (text("--text runs"), &["--text runs", "a folder"]),
        (text("--text long.txt"), &["the text has 201 tokens; 128 are the most"]),
        ("inspect --checkpoint nowhere --prompt a".into(), &["nowhere"]),
    ] {
        place.run(&arguments).failed(2, parts);
    }
    // What clap says has more lines than one.
    for (arguments, part) in [
        (inspect("--disable 1"), "a layer and an expert, as in 3:17"),
        (inspect("--bias 1:2"), "as in 3:17:-0.05"),
        (inspect("--bias 1:2:NaN"), "as in 3:17:-0.05"),
        (inspect("--format f16"), "f32, bf16 or fp8"),
        (inspect("--text long.txt"), "cannot be used with"),
        (format!("inspect --checkpoint {RUN}"), "--text"),
    ] {
        let finished = place.run(&arguments);
        assert_eq!(finished.code, Some(2), "{}", finished.dump());
        assert!(finished.stderr.contains(part), "{part}: {}", finished.dump());
    }
    let mut empty = place.command(&format!("inspect --checkpoint {RUN} --prompt"));
    let output = empty.arg("").ended();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no token to predict"));
}

/// A model without experts has losses all the same.
#[test]
fn a_dense_model_has_losses_and_no_layers() {
    let place = Workplace::new();
    place
        .train("--set model.n_routed_experts=0 --set model.first_k_dense_replace=2 --steps 2")
        .ok();
    let finished = place.run(&inspect("--json")).ok();
    assert_eq!(finished.json()["layers"], serde_json::json!([]));
    assert!(finished.stdout.contains("the model is dense"), "{}", finished.dump());
    place
        .run(&inspect("--routing-out a.routing"))
        .failed(2, &["--routing-out", "no routed experts"]);
}
