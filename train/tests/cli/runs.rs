//! `runs`, `completions` and `man`.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bounded::Bounded;
use crate::workplace::{Workplace, number};

/// Two finished runs that differ in a seed and a rate.
fn two() -> Workplace {
    let place = Workplace::trained();
    place.train("--set train.seed=7 --set optimizer.beta2=0.9").ok();
    place
}

#[test]
fn runs_are_listed_sorted_and_found_by_tag() {
    let place = two();
    let listed = place.run("runs list --json").ok().json();
    let runs = listed["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    let last = place.metrics("runs/tiny-001").pop().unwrap();
    assert_eq!(runs[0]["run"], "runs/tiny-001");
    assert_eq!(runs[0]["valid_loss"], last["valid_loss"]);
    assert_eq!((&runs[0]["state"], &runs[0]["steps"]), (&json!("finished"), &json!(6)));

    place.run("runs tag runs/tiny-002 seed-7 good").ok();
    let refused = place.run("runs note runs/tiny-002");
    assert!(refused.code == Some(2) && refused.stderr.contains("<TEXT>"), "{}", refused.dump());
    let noted = place.command("runs note runs/tiny-002").arg("went well").ended();
    assert!(noted.status.success());
    let tagged = place.run("runs list --tag seed-7 --json").ok().json();
    assert_eq!(tagged["runs"][0]["note"], "went well");
    assert_eq!(tagged["runs"].as_array().unwrap().len(), 1);
    place.run("runs tag runs/tiny-002 good --remove").ok();
    assert_eq!(place.run("runs show runs/tiny-002 --json").ok().json()["tags"], json!(["seed-7"]));
    let refused = place.command("runs tag runs/tiny-002").arg("two words").ended();
    assert_eq!(refused.status.code(), Some(2));
    place.run("runs tag runs/tiny-002 a\u{1b}[2J").failed(2, &["must be a word"]);

    place.run("runs archive runs/tiny-001").ok();
    let text = place.run("runs list").ok().stdout;
    assert!(!text.contains("tiny-001") && text.contains("tiny-002"), "{text}");
    assert!(place.run("runs list --all").ok().stdout.contains("tiny-001"));
    place.run("runs archive runs/tiny-001 --undo").ok();
    let by_valid = place.run("runs list --sort valid --json").ok().json();
    let losses: Vec<f64> =
        by_valid["runs"].as_array().unwrap().iter().map(|run| number(run, "valid_loss")).collect();
    assert!(losses[0] <= losses[1], "{losses:?}");
    place.run("runs list nowhere").failed(2, &["nowhere: no such folder"]);
    place.run("runs show runs").failed(2, &["runs: no run here"]);
}

#[test]
fn a_run_that_is_trained_is_listed_as_such_and_not_deleted() {
    let place = Workplace::new();
    let mut command = place.command("train --config ./tiny.toml --steps 1000000 --run-dir long");
    let mut training = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let run = loop {
        let listed = place.run("runs list . --json").ok().json();
        let run = listed["runs"][0].clone();
        if run["steps"].as_u64() > Some(10) {
            break run;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{listed}");
    };
    assert_eq!((&run["state"], &run["planned_steps"]), (&json!("training"), &json!(1_000_000)));
    assert!(number(&run, "seconds_left") > 1.0, "{run}");
    place.run("runs delete long --yes").failed(2, &["a training is going on there"]);
    training.kill().unwrap();
    training.wait().unwrap();
    assert_eq!(place.run("runs show long --json").ok().json()["state"], "stopped");
}

#[test]
fn a_run_is_shown_from_its_folder_alone() {
    let place = Workplace::trained();
    fs::remove_dir_all(place.path("runs/tiny-001/checkpoints")).unwrap();
    let shown = place.run("runs show runs/tiny-001").ok().stdout;
    let record = place.record("runs/tiny-001");
    let (evaluation, sample) = (&record[8], &record[9]);
    for part in [
        "finished: step 6 of 6",
        "[schedule]",
        &format!("validation  {:.4} nats", number(evaluation, "valid_loss")),
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let results = place.run("runs show runs/tiny-001 --json").ok().json();
    assert_eq!(results["sample"]["text"], sample["text"]);
    assert_eq!(results["config"]["train.seq_len"], "16");
}

#[test]
fn what_differs_between_runs_is_told() {
    let place = two();
    let results = place.run("runs compare runs --json").ok().json();
    let expected = json!({"optimizer.beta2": ["0.95", "0.9"], "train.seed": ["0", "7"]});
    assert_eq!(results["differences"], expected);
    let text = place.run("runs compare runs/tiny-001 runs/tiny-002").ok().stdout;
    for part in ["train.seed", "0.95", "finished"] {
        assert!(text.contains(part), "{text}");
    }
    place.run("runs compare runs/tiny-001").failed(2, &["at least two runs; 1 was found"]);
}

#[test]
fn lines_are_exported_as_tables() {
    let place = Workplace::trained();
    place.run("runs export runs/tiny-001 --out steps.csv").ok();
    let mut table = csv::Reader::from_path(place.path("steps.csv")).unwrap();
    let names: Vec<String> = table.headers().unwrap().iter().map(String::from).collect();
    let column = |name: &str| names.iter().position(|column| column == name).unwrap();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let steps: Vec<Value> =
        place.metrics("runs/tiny-001").into_iter().filter(|line| line["kind"] == "step").collect();
    assert_eq!(rows.len(), 6);
    for (row, step) in rows.iter().zip(&steps) {
        for key in ["loss", "step", "grad_norm"] {
            let cell: f64 = row[column(key)].parse().unwrap();
            assert_eq!(cell, number(step, key), "{key}");
        }
        assert_eq!(row[column("layer_violation")], step["layer_violation"].to_string());
    }
    place.run("runs export runs/tiny-001 --out steps.csv").failed(2, &["is there already"]);
    place.run("runs export runs/tiny-001 --out steps.txt").failed(2, &[".csv or .parquet"]);

    let written = place
        .run("runs export runs/tiny-001 --out valid.parquet --kind evaluation --json")
        .ok()
        .json();
    assert_eq!(written["lines"], 2);
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    let file = fs::File::open(place.path("valid.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let columns = written["columns"].as_array().unwrap();
    let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let evaluations: Vec<Value> = place
        .metrics("runs/tiny-001")
        .into_iter()
        .filter(|line| line["kind"] == "evaluation")
        .collect();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2);
    for (row, evaluation) in rows.iter().zip(&evaluations) {
        assert_eq!(row.get_double(at("valid_loss")).unwrap(), number(evaluation, "valid_loss"));
        assert_eq!(row.get_long(at("step")).unwrap() as f64, number(evaluation, "step"));
        assert_eq!(*row.get_string(at("bias_max")).unwrap(), evaluation["bias_max"].to_string());
    }
}

#[test]
fn a_run_is_deleted_only_where_that_is_said() {
    let place = Workplace::trained();
    place.run("runs delete runs/tiny-001").failed(2, &["6 steps", "--yes"]);
    place.write("runs/kept.txt", "");
    place.run("runs delete runs --yes").failed(2, &["no run here"]);
    place.run("runs delete runs/tiny-001 --yes").ok();
    assert_eq!(place.names("runs"), ["kept.txt"]);
}

#[test]
fn shells_and_manuals_are_served() {
    let place = Workplace::new();
    for (shell, part) in
        [("bash", "complete -F"), ("zsh", "#compdef deepseek"), ("fish", "complete -c deepseek")]
    {
        let script = place.run(&format!("completions {shell}")).ok().stdout;
        assert!(script.contains(part) && script.contains("compare-precision"), "{shell}");
    }
    let refused = place.run("completions tcsh");
    assert!(refused.code == Some(2) && refused.stderr.contains("zsh"), "{}", refused.dump());
    assert!(place.run("man").ok().stdout.contains(".TH deepseek 1"));
    place.run("man --out pages").ok();
    let pages = place.names("pages");
    for page in ["deepseek.1", "deepseek-train.1", "deepseek-runs-list.1"] {
        assert!(pages.contains(&page.to_string()), "{pages:?}");
    }
}
