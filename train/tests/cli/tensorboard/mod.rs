//! Event files: their frames and messages, that they say what the record says, and that
//! TensorBoard's own reader finds it in them.

mod events;

use std::fs;
use std::process::Command;

use chrono::DateTime;
use serde_json::Value;

use crate::workplace::{Workplace, number};
use events::{Contents, contents, events, only_file};

const FOLDER: &str = "runs/tiny-001/tensorboard";
const RECORD: &str = "runs/tiny-001/metrics.jsonl";

/// How many numbers a line has that are to be curves.
fn numbers(line: &Value) -> usize {
    let line = line.as_object().unwrap();
    let of = |(key, value): (&String, &Value)| match (key.as_str(), value) {
        ("version" | "step" | "layers" | "temperature", _) => 0,
        (_, Value::Number(_)) => 1,
        (_, Value::Array(row)) => row.iter().filter(|value| value.is_number()).count(),
        _ => 0,
    };
    line.iter().map(of).sum()
}

/// A place in which a run has written event files.
fn watched() -> Workplace {
    let place = Workplace::new();
    place.train("--set output.tensorboard=true --set metrics.every=2").ok();
    place
}

#[test]
fn events_say_what_the_record_says() {
    let place = watched();
    let events = events(&place.path(FOLDER));
    assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
    assert_eq!(events[1].session_log.as_ref().map(|log| log.status), Some(1), "START");
    let found = contents(&events);
    let lines = place.lines(RECORD);
    for line in &lines {
        same(&found, line);
    }
    // Stamps of the same step are the same, whichever line they stand on.
    let stamped = |line: &&Value| line["kind"] == "alert";
    assert_eq!(lines.iter().filter(stamped).count(), 0, "an alert would have a stamp, no curves");
    let mut expected: usize = lines.iter().map(numbers).sum();
    let steps = lines.iter().filter(|line| line["kind"] == "step").count();
    expected -= 3 * (lines.len() - steps);
    assert_eq!(found.scalars.len(), expected, "{:#?}", found.scalars.keys());
    let configuration = &found.texts[&("configuration".into(), 0)];
    assert!(configuration.contains("    [train]") && configuration.contains("seq_len = 16"));
    for plugin in ["experiment", "session_start_info", "session_end_info"] {
        assert!(found.plugins.contains_key(&format!("_hparams_/{plugin}")), "{plugin}");
    }
}

/// The events have a line's numbers, loads, text and time.
fn same(found: &Contents, line: &Value) {
    let step = line["step"].as_i64().unwrap();
    let scalar = |tag: &str, key: &str| {
        nearest(found.scalars[&(tag.into(), step)], number(line, key), &format!("{tag} of {step}"));
    };
    let time = DateTime::parse_from_rfc3339(line["time"].as_str().unwrap()).unwrap();
    assert!(found.times[&step] >= time.timestamp_millis() as f64 / 1e3 - 1e-6);
    match line["kind"].as_str().unwrap() {
        "step" => {
            for (tag, key) in [
                ("train/loss", "loss"),
                ("train/grad_norm", "grad_norm"),
                ("schedule/lr", "lr"),
                ("time/step_seconds", "step_seconds"),
                ("moe/max_violation", "max_violation"),
                ("progress/tokens", "tokens"),
            ] {
                scalar(tag, key);
            }
            let first = found.scalars[&("train/mtp_loss/1".into(), step)];
            nearest(first, line["mtp_losses"][0].as_f64().unwrap(), "MTP");
            loads(found, line, "moe", step);
        }
        "evaluation" => {
            scalar("valid/loss", "valid_loss");
            loads(found, line, "valid_moe", step);
        }
        "system" => scalar("system/disk_free_bytes", "disk_free_bytes"),
        "sample" => {
            let shown = &found.texts[&("sample/text".into(), step)];
            let text: Vec<&str> = shown.split('\n').map(|line| &line[4..]).collect();
            assert_eq!(text.join("\n"), line["text"]);
        }
        kind => assert_eq!(kind, "alert"),
    }
}

/// An event's number is the FP32 number nearest to the record's: either of two, where that lies half
/// way between them, as a mean of two FP32 numbers may. (What is read here of the record is off by
/// its last place.)
fn nearest(single: f32, recorded: f64, what: &str) {
    let gap = f64::from(single.next_up()) - f64::from(single);
    let off = (f64::from(single) - recorded).abs();
    assert!(off <= gap * (0.5 + 1e-6), "{what}: {single:e} of {recorded:e}");
}

fn loads(found: &Contents, line: &Value, group: &str, step: i64) {
    let layers = line["layers"].as_array().unwrap();
    for (index, layer) in layers.iter().enumerate() {
        let at = |name: &str| (format!("{group}/{name}/layer_{layer}"), step);
        let Some(row) = line["expert_loads"][index].as_array() else {
            assert!(!found.histograms.contains_key(&at("choices")));
            continue;
        };
        let tokens: Vec<f64> = row.iter().map(|load| load.as_f64().unwrap()).collect();
        let choices = &found.histograms[&at("choices")];
        assert_eq!((&choices.bucket, choices.bucket_limit.len()), (&tokens, tokens.len()));
        assert_eq!(choices.num, tokens.iter().sum::<f64>());
        let load = &found.histograms[&at("load")];
        assert_eq!(load.bucket.iter().sum::<f64>(), tokens.len() as f64);
        let violation = line["layer_violation"][index].as_f64().unwrap();
        let scalar = found.scalars[&(format!("{group}/max_violation/layer_{layer}"), step)];
        nearest(scalar, violation, "violation");
        if tokens.iter().any(|load| *load != tokens[0]) {
            assert!((load.bucket_limit.last().unwrap() - 1.0 - violation).abs() < 1e-9);
        }
    }
}

/// A run that goes on, wherever it was stopped, has the events of its record: the very bytes that
/// an export makes of it.
#[test]
fn events_are_a_function_of_the_record() {
    let place = Workplace::new();
    place.train("--set output.tensorboard=true --steps 5").ok();
    let first = only_file(&place.path(FOLDER));
    let exported = |name: &str| {
        let told = place.run(&format!("runs export runs/tiny-001 --tensorboard {name} --json"));
        let told = told.ok().json();
        let file = only_file(&place.path(name));
        assert_eq!(place.path(told["file"].as_str().unwrap()), file);
        let bytes = fs::read(file).unwrap();
        assert_eq!(told["bytes"], bytes.len());
        bytes
    };
    assert_eq!(fs::read(&first).unwrap(), exported("logs/one"));

    // The last checkpoint is lost, the file cut off, and another one was never finished.
    place.remove("runs/tiny-001/checkpoints/step-00000005");
    let cut = fs::read(&first).unwrap();
    fs::write(&first, &cut[..cut.len() / 3]).unwrap();
    place.write("runs/tiny-001/tensorboard/events.tmp", "half");
    let resumed = place.run("train --resume runs/tiny-001 --steps 7 --set train.eval_every=4").ok();
    assert!(resumed.stdout.contains("after step 4"), "{}", resumed.dump());
    let second = only_file(&place.path(FOLDER));
    assert!(second > first, "TensorBoard reads files in the order of their names");
    assert_eq!(place.names(FOLDER).len(), 2, "the first one is empty");
    place.run("train --resume runs/tiny-001 --steps 8").ok();
    assert_eq!(place.names(FOLDER).len(), 2, "and gone with the next");
    assert!(!first.exists() && fs::read(&second).unwrap().is_empty());
    let third = only_file(&place.path(FOLDER));
    assert_eq!(fs::read(&third).unwrap(), exported("logs/two"));
    let found = contents(&events(&place.path(FOLDER)));
    let losses = found.scalars.keys().filter(|(tag, _)| tag == "train/loss");
    assert_eq!(losses.map(|(_, step)| *step).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());

    place
        .run("runs export runs/tiny-001 --tensorboard logs/two")
        .failed(2, &["--tensorboard logs/two: it is there and is not empty"]);
    let refused = place.run("runs export runs/tiny-001");
    assert!(refused.code == Some(2) && refused.stderr.contains("--out"), "{}", refused.dump());
    place.run("runs export runs --tensorboard logs/three").failed(2, &["no run here"]);
}

#[test]
fn a_folder_that_cannot_be_made_ends_the_run_by_name() {
    let place = Workplace::new();
    fs::create_dir(place.path("run")).unwrap();
    place.write("run/tensorboard", "");
    place
        .train("--set output.tensorboard=true --run-dir run")
        .failed(3, &["run/tensorboard: cannot create"]);
}

/// TensorBoard's own reader, where Python has it.
#[test]
fn tensorboard_reads_the_numbers_of_the_record() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/tensorboard/read.py");
    let python = |arguments: &[&str]| Command::new("python3").args(arguments).output();
    if !python(&["-c", "import tensorboard"]).is_ok_and(|found| found.status.success()) {
        println!("skipped: python3 has no tensorboard here");
        return;
    }
    let place = watched();
    let output = python(&[script, place.path(FOLDER).to_str().unwrap()]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let at = |kind: &str, tag: &str, step: i64| -> Vec<Value> {
        let found = told[kind][tag].as_array().unwrap_or_else(|| panic!("{tag} in {told}"));
        let found = found.iter().filter(|event| event[0] == step);
        found.map(|event| event[1].clone()).collect()
    };
    let mut compared = 0;
    let ours = contents(&events(&place.path(FOLDER)));
    for ((tag, step), value) in &ours.scalars {
        let read = at("scalars", tag, *step);
        assert_eq!(read.len(), 1, "{tag} of step {step}");
        assert_eq!(read[0].as_f64().unwrap() as f32, *value, "{tag} of step {step}");
        compared += 1;
    }
    for line in place.lines(RECORD).iter().filter(|line| line["kind"] == "step") {
        let read = at("scalars", "train/loss", line["step"].as_i64().unwrap());
        nearest(read[0].as_f64().unwrap() as f32, number(line, "loss"), "train/loss");
    }
    for ((tag, step), histogram) in &ours.histograms {
        let read = at("histograms", tag, *step);
        assert_eq!(read, [serde_json::json!(histogram.bucket)], "{tag} of step {step}");
        compared += 1;
    }
    for ((tag, step), text) in &ours.texts {
        assert_eq!(at("texts", tag, *step), [Value::from(text.as_str())]);
        compared += 1;
    }
    assert!(compared > 200, "{compared}");
    assert_eq!(told["hparams"]["train.seq_len"], 16.0);
    assert_eq!(told["hparams"]["precision.format"], "f32");
    assert_eq!(
        told["hparams"].as_object().unwrap().len(),
        told["infos"].as_object().unwrap().len()
    );
    assert!(told["metrics"].as_array().unwrap().contains(&"valid/loss".into()));
    assert_eq!(told["status"], 1, "STATUS_SUCCESS");
}
