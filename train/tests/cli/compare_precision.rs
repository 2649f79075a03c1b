//! `deepseek compare-precision`: the files, the table, the object; runs that end early; and what it
//! refuses.

use std::fs;

use crate::workplace::Workplace;

const FILES: [&str; 3] =
    ["compare-precision.json", "compare-precision.md", "compare-precision.svg"];

#[test]
fn two_precisions_are_trained_and_compared() {
    let place = Workplace::new();
    let finished = place
        .run("compare-precision --config ./tiny.toml --runs f32,fp8 --out compared --json")
        .ok();
    let results = finished.json();
    assert_eq!(
        (&results["baseline"], &results["steps"], &results["tokens"]),
        (&"f32".into(), &6.into(), &(6 * 4 * 16).into())
    );
    let runs = results["runs"].as_array().unwrap();
    assert_eq!(
        runs.iter().map(|run| run["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["f32", "fp8"]
    );
    for run in runs {
        assert_eq!((&run["ended"], &run["steps"]), (&"complete".into(), &6.into()), "{run}");
        for key in ["train_loss", "valid_loss", "step_ms", "time_ratio", "seconds"] {
            assert!(run[key].as_f64().unwrap() > 0.0, "{key}: {run}");
        }
    }
    let error = runs[1]["relative_error_max_percent"].as_f64().unwrap();
    assert!(error > 0.0 && error < 5.0, "FP8 is near FP32 and not equal: {error}");
    assert!(
        runs[0]["relative_error_max_percent"].is_null(),
        "the baseline has nothing to differ from"
    );

    assert_eq!(place.names("compared"), [&FILES[..], &["f32", "fp8"]].concat());
    assert_eq!(
        place.names("compared/fp8"),
        ["lock", "metrics.jsonl", "run.toml"],
        "checkpoints are gone"
    );
    let read = |name: &str| fs::read_to_string(place.path("compared").join(name)).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&read(FILES[0])).unwrap(), results);
    let table = read(FILES[1]);
    assert!(
        table.contains("| fp8 |")
            && table.contains("](compare-precision.svg)")
            && !table.contains("nterrupted"),
        "{table}"
    );
    assert!(
        table.contains("deepseek compare-precision --config ./tiny.toml --runs f32,fp8"),
        "{table}"
    );
    assert!(read(FILES[2]).starts_with("<svg ") && read(FILES[2]).contains("relative error (%)"));
    assert!(finished.stdout.contains("run 2 of 2: fp8"), "{}", finished.dump());

    // The same again is the same, and what is there is not overwritten.
    let again = place
        .run("compare-precision --config ./tiny.toml --runs f32,fp8 --out again --json")
        .ok()
        .json();
    assert_eq!(again["runs"][1]["train_loss"], runs[1]["train_loss"]);
    assert_eq!(place.metrics("again/fp8"), place.metrics("compared/fp8"));
    place
        .run("compare-precision --config ./tiny.toml --out compared")
        .failed(2, &["compared already holds a comparison", "--out"]);
}

/// The baseline of this run stays as it is in `train`, so it is not the comparison that moves the
/// numbers.
#[test]
fn the_baseline_is_what_train_trains() {
    let place = Workplace::new();
    place
        .run(
            "compare-precision --config ./tiny.toml --runs bf16,f32 --out compared --set \
               train.steps=3",
        )
        .ok();
    place.train("--steps 3 --run-dir plain --set train.eval_every=0").ok();
    assert_eq!(place.metrics("compared/f32"), place.metrics("plain"));
}

/// A run in another order of sums has the same losses but for rounding, and an evaluation of
/// the same windows.
#[test]
fn split_micro_batches_change_rounding_alone() {
    let place = Workplace::new();
    let results = place
        .run("compare-precision --config ./tiny.toml --runs f32,f32-split --out out --json")
        .ok()
        .json();
    for key in ["train_loss", "valid_loss"] {
        let of = |run: usize| results["runs"][run][key].as_f64().unwrap();
        assert!((of(0) / of(1) - 1.0).abs() < 1e-4, "{key}: {results}");
    }
    let (whole, split) = (place.metrics("out/f32"), place.metrics("out/f32-split"));
    assert_ne!(whole, split, "it is another order");
    assert_eq!(whole.last().unwrap()["valid"]["tokens"], split.last().unwrap()["valid"]["tokens"]);
}

#[test]
fn seeds_are_averaged() {
    let place = Workplace::new();
    let compare = |more: &str| {
        let finished = place
            .run(&format!("compare-precision --config ./tiny.toml --runs f32,fp8 --json {more}"))
            .ok();
        let losses = finished.json()["runs"][1]["train_loss"].as_f64().unwrap();
        (finished, losses)
    };
    let (both, mean) = compare("--seeds 2 --out both");
    let (_, first) = compare("--out first");
    let (_, second) = compare("--set train.seed=1 --out second");
    assert!(
        first != second && (mean - (first + second) / 2.0).abs() < 1e-12,
        "{mean}: {first}, {second}"
    );
    assert_eq!(both.json()["runs"][0]["seeds"], 2);
    assert!(both.stdout.contains("fp8, seed 2 of 2"), "{}", both.dump());
    assert_eq!(place.metrics("both/f32/seed-0").len(), place.metrics("both/f32/seed-1").len());
    // Weights that are given are the same whatever the seed: the order of the data is not.
    place.train("--steps 2 --run-dir trained").ok();
    compare("--seeds 2 --set train.init_from=trained --out from");
    let first_loss =
        |seed: &str| place.metrics(&format!("from/f32/{seed}"))[0]["loss"].as_f64().unwrap();
    assert_ne!(first_loss("seed-0"), first_loss("seed-1"));
}

#[test]
fn a_run_that_diverges_is_a_result() {
    let place = Workplace::new();
    let results = place
        .run(
            "compare-precision --config ./tiny.toml --runs f32,bf16 --out out \
                             --set schedule.lr=1e30 --json",
        )
        .ok()
        .json();
    for run in results["runs"].as_array().unwrap() {
        assert_eq!(run["ended"], "diverged", "{results}");
        assert!(run["steps"].as_u64().unwrap() < 6 && run["train_loss"].is_null(), "{results}");
    }
    assert_eq!(results["interrupted"], false);
    assert!(
        fs::read_to_string(place.path("out").join(FILES[1]))
            .unwrap()
            .contains("f32 (diverged after")
    );
}

#[test]
fn names_and_settings_that_are_wrong() {
    let place = Workplace::new();
    for (arguments, parts) in [
        ("--runs f32,fp9", ["\"fp9\" is unknown", "known: f32, f32-split, bf16, fp8, fp8-14bit,"]),
        ("--runs f32,fp8,f32", ["\"f32\"", "twice"]),
        ("--runs fp8", ["--runs", "at least two"]),
        ("--set precision.kept=coloms", ["precision", "coloms"]),
        ("--tokens 3", ["train.tokens = 3", "one step of 64 tokens"]),
        ("--data none.txt", ["none.txt", "no such file"]),
    ] {
        place.run(&format!("compare-precision --config ./tiny.toml {arguments}")).failed(2, &parts);
    }
    assert!(!place.path("runs").exists());
}
