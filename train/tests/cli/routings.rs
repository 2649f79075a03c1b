//! Saved routings: a replay has the bits of what was saved, in training and in evaluation, resumed
//! and over ranks; files that do not belong are refused by name.

use std::fs;

use serde_json::Value;

use crate::workplace::{Workplace, number};

const FP8: &str = "--set precision.format=fp8";

fn losses(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["kind"] == "step").map(|line| &line["loss"]).collect()
}

/// In FP32 and in FP8 a run that replays its own routing has the same record, evaluations too.
#[test]
fn a_replayed_run_has_the_same_losses_bit_for_bit() {
    let place = Workplace::new();
    for (name, precision) in [("f32", ""), ("fp8", FP8)] {
        let saved = place
            .train(&format!("{precision} --run-dir {name} --save-routing {name}.routing --json"))
            .ok();
        let bytes = fs::metadata(place.path(&format!("{name}.routing"))).unwrap().len();
        assert_eq!(saved.json()["routing_bytes"], bytes);
        // Saving changes nothing.
        place.train(&format!("{precision} --run-dir {name}-alone")).ok();
        assert_eq!(place.metrics(name), place.metrics(&format!("{name}-alone")));
        place.train(&format!("{precision} --run-dir {name}-again --routing {name}.routing")).ok();
        assert_eq!(place.metrics(name), place.metrics(&format!("{name}-again")), "{name}");
    }
    // FP32's routing in FP8: the loads of every step are FP32's, the losses FP8's own.
    place.train(&format!("{FP8} --run-dir fixed --routing f32.routing")).ok();
    let (f32, fixed, fp8) = (place.metrics("f32"), place.metrics("fixed"), place.metrics("fp8"));
    let loads = |lines: &[Value]| -> Vec<Value> {
        lines.iter().map(|line| line["expert_loads"].clone()).collect()
    };
    assert_eq!(loads(&f32), loads(&fixed));
    assert_ne!(losses(&f32), losses(&fixed));
    assert_eq!(losses(&fixed).len(), losses(&fp8).len());
}

/// Recomputation, ranks and other micro-batches replay the same file; a run over ranks saves one.
#[test]
fn a_layout_does_not_show_in_a_routing() {
    let place = Workplace::new();
    // Two micro-batches a pipeline, whatever there is of pipelines.
    let batch = "--set schedule.global_batch=8 --steps 3";
    place.train(&format!("{batch} --run-dir one --save-routing one.routing")).ok();
    let loads = |run: &str| -> Vec<Value> {
        place.metrics(run).iter().map(|line| line["expert_loads"].clone()).collect()
    };
    let lengths = |name: &str| fs::metadata(place.path(&format!("{name}.routing"))).unwrap().len();
    for (name, layout) in [
        ("recompute", "--set precision.recompute=true"),
        ("pipeline", "--set parallel.pipeline=2 --set parallel.schedule=1f1b"),
        ("expert", "--set parallel.expert=2"),
    ] {
        let train = |more: &str| place.train(&format!("{batch} {layout} {more}")).ok();
        train(&format!("--run-dir {name} --save-routing {name}.routing"));
        train(&format!("--run-dir {name}-again --routing {name}.routing"));
        assert_eq!(place.metrics(name), place.metrics(&format!("{name}-again")), "{name}");
        train(&format!("--run-dir {name}-of-one --routing one.routing"));
        assert_eq!(loads(&format!("{name}-of-one")), loads("one"), "{name}");
        // The same windows in the same chunks, but for how well they are packed.
        assert!(lengths(name).abs_diff(lengths("one")) < 200, "{name}");
    }
    // Evaluations count micro-batches: of one window each, the same windows are twice as many.
    let split = "--set train.micro_batch=1 --set train.eval_batches=4";
    place.train(&format!("{batch} {split} --run-dir split --routing one.routing")).ok();
    assert_eq!(loads("split"), loads("one"));
}

/// A run that is stopped and resumed goes on saving and replaying where it was.
#[test]
fn a_resumed_run_goes_on() {
    let place = Workplace::new();
    place.train("--run-dir whole --save-routing whole.routing").ok();
    place.train("--run-dir parts --save-routing parts.routing --steps 6").ok();
    // Back to the checkpoint of step 4: what came after is made again.
    let resume = "train --resume parts/checkpoints/step-00000004";
    place.run(&format!("{resume} --save-routing parts.routing")).ok();
    let read = |name: &str| fs::read(place.path(name)).unwrap();
    assert!(read("whole.routing") == read("parts.routing"));
    place.run(&format!("{resume} --routing whole.routing")).ok();
    assert_eq!(place.metrics("whole"), place.metrics("parts"));
    // A new file of a resumed run has the rest, which is enough for the rest.
    place.run(&format!("{resume} --save-routing rest.routing")).ok();
    place.run(&format!("{resume} --routing rest.routing")).ok();
    assert_eq!(place.metrics("whole"), place.metrics("parts"));
    place.train("--run-dir other --routing rest.routing").failed(
        2,
        &["--routing", "rest.routing: it has no routing of sample 0", "samples 16 to 23"],
    );
    assert!(!place.path("other").exists(), "what is refused makes no folder");
    place.run(&format!("{resume} --save-routing whole.routing --set train.steps=8")).ok();
    assert!(read("whole.routing").len() > read("parts.routing").len());
}

/// `eval` replays what it saved, whatever the micro-batch; FP8 with FP32's experts is nearer to
/// FP32 than what rounding alone explains, or as near.
#[test]
fn an_evaluation_is_replayed() {
    let place = Workplace::trained();
    let eval = |more: &str| {
        place.run(&format!("eval --checkpoint runs/tiny-001 {more} --json")).ok().json()
    };
    let saved = eval("--save-routing a.routing");
    assert_eq!(eval("")["loss"], saved["loss"]);
    assert_eq!(saved["routing_bytes"], fs::metadata(place.path("a.routing")).unwrap().len());
    for more in ["", "--micro-batch 1"] {
        let again = eval(&format!("--routing a.routing {more}"));
        for key in ["tokens", "max_violation"] {
            assert_eq!(again[key], saved[key], "{key}");
        }
        if more.is_empty() {
            assert_eq!(
                (&again["loss"], &again["mtp_losses"]),
                (&saved["loss"], &saved["mtp_losses"])
            );
        }
    }
    let fp8 = eval("--format fp8 --save-routing fp8.routing");
    assert_eq!(fp8["format"], "fp8");
    assert_eq!(eval("--format fp8 --routing fp8.routing")["loss"], fp8["loss"]);
    let fixed = eval("--format fp8 --routing a.routing");
    assert_eq!(fixed["max_violation"], saved["max_violation"]);
    assert!(fixed["loss"] != saved["loss"]);
    assert!((number(&fixed, "loss") - number(&saved, "loss")).abs() < 0.05);

    let refused = |more: &str, parts: &[&str]| {
        place.run(&format!("eval --checkpoint runs/tiny-001 {more}")).failed(2, parts);
    };
    place.write("text.txt", "other text than the run's, but as long as a window of it");
    refused("--data text.txt --routing a.routing", &["a.routing: window 0 was saved of other"]);
    refused("--seq-len 8 --routing a.routing", &["window 0 has 16 tokens there and 8 here"]);
    eval("--batches 1 --save-routing short.routing");
    refused(
        "--routing short.routing",
        &["short.routing: it has no routing of window", "it has windows 0 to"],
    );
    refused("--routing a.routing --save-routing a.routing", &["the same file as --routing"]);
    refused("--save-routing nowhere/a", &["--save-routing", "nowhere/a"]);
}

/// Every kind of wrong file, to the commands that take one.
#[test]
fn wrong_files_are_refused() {
    let place = Workplace::trained();
    place.train("--run-dir saved --save-routing a.routing --steps 2").ok();
    let bytes = fs::read(place.path("a.routing")).unwrap();
    let mut flipped = bytes.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    place.write("flipped", &flipped);
    place.write("cut", &bytes[..bytes.len() - 5]);
    place.write("text", "no routing");
    let (replay, refused) = ("--run-dir no --routing", "--routing");
    for (file, parts) in [
        ("flipped", &[refused, "flipped: damaged at byte", "checksum"][..]),
        ("cut", &[refused, "cut: damaged at byte", "ends inside a chunk"]),
        ("text", &[refused, "text: not a file of saved routings"]),
        ("nowhere", &[refused, "nowhere: no such file"]),
        ("runs", &[refused, "runs", "a folder"]),
    ] {
        place.train(&format!("{replay} {file}")).failed(2, parts);
    }
    let six = "--set model.n_routed_experts=6";
    place
        .train(&format!("{six} {replay} a.routing"))
        .failed(2, &["a.routing: the routing of another model (2 of 4 experts", "2 of 6 experts"]);
    // Further than the file, and other windows.
    place
        .train(&format!("{replay} a.routing"))
        .failed(2, &["no routing of sample 8", "samples 0 to 7 (steps 1 to 2)"]);
    place
        .train(&format!("--steps 2 --set data.seed=9 {replay} a.routing"))
        .failed(2, &["a.routing: sample 0 (step 1) was saved of other tokens"]);
    place
        .train("--run-dir no2 --routing a.routing --save-routing a.routing --steps 2")
        .failed(2, &["the same file as --routing"]);
    place
        .run("eval --checkpoint runs/tiny-001 --routing a.routing")
        .failed(2, &["a.routing: saved by `train --save-routing`"]);
}

#[test]
fn precisions_are_compared_with_fixed_routing() {
    let place = Workplace::new();
    let compare = "compare-precision --config ./tiny.toml --runs f32,fp8 --json";
    let finished = place.run(&format!("{compare} --out both --fixed-routing beside")).ok();
    let results = finished.json();
    let names: Vec<&str> = results["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["f32", "fp8", "fp8-fixed-routing"]);
    assert!(finished.stdout.contains("no token with another expert"), "{}", finished.dump());
    let loads = |run: &str| -> Vec<Value> {
        place.metrics(run).iter().map(|line| line["expert_loads"].clone()).collect()
    };
    assert_eq!(loads("both/f32"), loads("both/fp8-fixed-routing"));
    assert!(place.path("both/f32/saved.routing").exists());
    let table = fs::read_to_string(place.path("both/compare-precision.md")).unwrap();
    assert!(table.contains("| fp8-fixed-routing |") && table.contains("which chooses for itself"));
    let only = place.run(&format!("{compare} --out only --fixed-routing")).ok().json();
    assert_eq!(only["runs"][1]["name"], "fp8-fixed-routing");
    assert_eq!(only["runs"][1]["train_loss"], results["runs"][2]["train_loss"]);
}
