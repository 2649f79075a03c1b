//! What a page is told of runs.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Server;
use super::recorded::{add_text, alert, evaluation, sample, step, text, write_long};
use crate::workplace::{Workplace, number, numbers};

/// Much longer than anything may take that somebody waits for, on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_run_is_told_as_its_record_has_it() {
    let place = Workplace::trained();
    place.train("--set train.seed=7").ok();
    let server = Server::of_runs(&place);
    let session = server.json("/api/session");
    assert_eq!((&session["folders"], &session["live"]), (&json!(["runs"]), &Value::Null));

    let listed = place.run("runs list --json").ok().json();
    let rows = server.json("/api/runs");
    let rows = rows["runs"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for (row, run) in rows.iter().zip(listed["runs"].as_array().unwrap()) {
        assert_eq!(row["folder"], run["run"]);
        for key in ["state", "planned_steps", "loss", "valid_loss", "best_valid_loss", "best_step"]
        {
            assert_eq!(row[key], run[key], "{key}");
        }
        assert_eq!((&row["step"], &row["elapsed_seconds"]), (&run["steps"], &run["seconds"]));
        assert_eq!((&row["started"], &row["updated"]), (&run["begun"], &run["updated"]));
    }
    assert_eq!(rows[1]["changed"]["train.seed"], "7");
    assert_eq!((&rows[0]["format"], &rows[0]["state"]), (&json!("fp32"), &json!("finished")));
    assert_eq!(rows[0]["sparkline"].as_array().unwrap().len(), 6);

    let id = rows[0]["id"].as_str().unwrap();
    assert!(id.len() == 12 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    let detail = server.json(&format!("/api/runs/{id}"));
    assert_eq!(detail["row"], rows[0]);
    assert_eq!(detail["config"]["train"]["steps"], 6);
    assert_eq!((&detail["layers"], &detail["experts"]), (&json!([1, 2]), &json!(4)));
    let steps: Vec<u64> = detail["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|checkpoint| {
            assert!(number(checkpoint, "bytes") > 10_000.0, "{checkpoint}");
            checkpoint["step"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(steps.last(), Some(&6));
    let files: Vec<&str> = detail["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["name"].as_str().unwrap())
        .collect();
    assert!(files.contains(&"metrics.jsonl") && files.contains(&"run.toml"), "{files:?}");

    let lines = place.metrics("runs/tiny-001");
    let series = server.json(&format!("/api/runs/{id}/series"));
    let of_steps: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "step").collect();
    assert_eq!((&series["total_steps"], &series["rows_are"]), (&json!(6), &json!("every")));
    for key in ["step", "loss", "grad_norm", "lr", "tokens"] {
        let recorded: Vec<f64> = of_steps.iter().map(|line| number(line, key)).collect();
        assert_eq!(numbers(&series["steps"][key]), recorded, "{key}");
    }
    assert_eq!(numbers(&series["steps"]["mtp_losses_1"])[0], of_steps[0]["mtp_losses"][0]);
    assert_eq!(numbers(&series["evaluations"]["step"]), [3.0, 6.0]);
    assert!(series["steps"].get("exchange_fast_bytes").is_none(), "no column without a number");

    let experts = server.json(&format!("/api/runs/{id}/experts"));
    assert_eq!((&experts["layers"], &experts["experts"]), (&json!([1, 2]), &json!(4)));
    assert_eq!(experts["evaluations"]["steps"], json!([3, 6]));
    let samples = server.json(&format!("/api/runs/{id}/samples"));
    assert_eq!(samples["samples"].as_array().unwrap().len(), 2);
    assert_eq!(server.json(&format!("/api/runs/{id}/alerts"))["alerts"], json!([]));
    let pipeline = server.json(&format!("/api/runs/{id}/pipeline"));
    assert_eq!(pipeline["measured"], Value::Null);
}

/// The command of a run makes the same run again.
#[test]
fn a_run_is_made_again_by_its_command() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    let detail = server.json(&format!("/api/runs/{}", server.id_of("tiny-001")));
    let command = detail["command"].as_str().unwrap();
    assert_eq!(command, "deepseek train --config runs/tiny-001/run.toml");
    place.run(command.trim_start_matches("deepseek ")).ok();
    assert_eq!(place.record("runs/tiny-002"), place.record("runs/tiny-001"));
}

#[test]
fn runs_are_compared_by_what_differs() {
    let place = Workplace::trained();
    place.train("--set train.seed=7 --set optimizer.beta2=0.9").ok();
    let server = Server::of_runs(&place);
    let (one, two) = (server.id_of("tiny-001"), server.id_of("tiny-002"));
    let compared = server.json(&format!("/api/compare?ids={one},{two}"));
    assert_eq!(compared["runs"].as_array().unwrap().len(), 2);
    let differences = compared["differences"].as_array().unwrap();
    let keys: Vec<&str> =
        differences.iter().map(|difference| difference["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["optimizer.beta2", "train.seed"]);
    assert_eq!(differences[1]["values"], json!(["0", "7"]));
    let results = compared["results"].as_array().unwrap();
    let valid = results.iter().find(|result| result["key"] == "valid_loss").unwrap();
    for (at, run) in ["runs/tiny-001", "runs/tiny-002"].iter().enumerate() {
        let last = place.metrics(run).pop().unwrap();
        assert_eq!(valid["values"][at], last["valid_loss"]);
    }
    assert_eq!(server.get("/api/compare?ids=").status, 400);
    assert_eq!(server.get("/api/compare").status, 400);
    assert_eq!(server.get("/api/compare?ids=000000000000").status, 404);
}

#[test]
fn labels_are_written_and_those_of_others_are_seen() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    let address = format!("/api/runs/{}/labels", server.id_of("tiny-001"));
    let row = server.post(&address, &json!({"tags": ["good", "seed-0"], "note": "well\nso"}));
    assert_eq!((row.status, &row.json()["tags"]), (200, &json!(["good", "seed-0"])));
    place.run("runs tag runs/tiny-001 later").ok();
    let row = server.json("/api/runs")["runs"][0].clone();
    assert_eq!(row["tags"], json!(["good", "later", "seed-0"]));
    assert_eq!(row["note"], "well\nso");
    let row = server.post(&address, &json!({"archived": true})).json();
    assert_eq!((&row["archived"], &row["note"]), (&json!(true), &json!("well\nso")));
    let shown = place.run("runs show runs/tiny-001 --json").ok().json();
    assert_eq!((&shown["archived"], &shown["note"]), (&json!(true), &json!("well\nso")));

    for (body, status, said) in [
        (json!({"tags": ["two words"]}), 422, "must be a word"),
        (json!({"tag": ["a"]}), 422, "unknown field"),
        (json!({"note": 3}), 422, "invalid type"),
        (json!([]), 422, ""),
    ] {
        let refused = server.post(&address, &body);
        let told = refused.json()["error"].as_str().unwrap().to_owned();
        assert!(
            refused.status == status && told.contains(said),
            "{body}: {} {told}",
            refused.status
        );
    }
    assert_eq!(
        place.run("runs show runs/tiny-001 --json").ok().json()["tags"].as_array().unwrap().len(),
        3
    );
}

/// A spike of one step in a hundred thousand is in the few points that are shown; what is read for
/// them is bounded.
#[test]
fn a_hundred_thousand_steps_open_in_a_second() {
    let place = Workplace::trained();
    let run = place.path("runs/tiny-001");
    write_long(&run, 100_000, 77_777);
    let server = Server::of_runs(&place);
    let id = server.id_of("tiny-001");
    let begun = Instant::now();
    let answer = server.asked("GET", &format!("/api/runs/{id}/series"), "", "");
    let first = begun.elapsed();
    let series = answer.json();
    println!("{} KB in {first:?}", answer.body.len() >> 10);
    assert!(first < PATIENCE, "{first:?}");
    let steps = numbers(&series["steps"]["step"]);
    assert!((1000..=2002).contains(&steps.len()), "{}", steps.len());
    assert_eq!((steps[0], steps[steps.len() - 1]), (1.0, 100_000.0));
    assert_eq!(
        (&series["total_steps"], &series["rows_are"]),
        (&json!(100_000), &json!("decimated"))
    );
    let losses = numbers(&series["steps"]["loss"]);
    let spike = steps.iter().position(|&step| step == 77_777.0).expect("the spike is shown");
    assert_eq!(losses[spike], 50.0);
    assert_eq!(numbers(&series["evaluations"]["step"]).len(), 1000);

    let near = format!("/api/runs/{id}/series?from_step=77700&to_step=77800&points=500");
    let near = server.json(&near);
    assert_eq!((&near["total_steps"], &near["rows_are"]), (&json!(101), &json!("every")));
    let experts = server.json(&format!("/api/runs/{id}/experts?points=50"));
    assert_eq!(experts["steps"].as_array().unwrap().len(), 50);
    assert_eq!(experts["loads"][0].as_array().unwrap().len(), 2);
    assert_eq!(number(&server.json("/api/runs")["runs"][0], "step"), 100_000.0);
}

#[test]
fn broken_lines_are_counted_and_the_rest_is_shown() {
    let place = Workplace::trained();
    let run = place.path("runs/tiny-001");
    let server = Server::of_runs(&place);
    let id = server.id_of("tiny-001");
    add_text(&run, "{\"kind\":\"step\",\"version\":1,\n\u{1b}[2J\nnull\n[[[[\n");
    add_text(&run, &text(&[step(7, 1.0), alert(7, "<script>"), sample(7, "\r\n\u{1b}")]));
    add_text(&run, &"x".repeat(100)); // being written
    let row = server.json("/api/runs")["runs"][0].clone();
    assert_eq!((&row["step"], &row["unreadable_lines"]), (&json!(7), &json!(4)));
    assert_eq!(row["alerts"]["warning"], 1);
    let alerts = server.json(&format!("/api/runs/{id}/alerts"));
    assert_eq!(alerts["alerts"][0]["message"], "<script>");
    let samples = server.json(&format!("/api/runs/{id}/samples"));
    assert_eq!(samples["samples"].as_array().unwrap().last().unwrap()["text"], "\r\n\u{1b}");

    fs::write(place.path("runs/tiny-001/run.toml"), "[model").unwrap();
    let row = server.json("/api/runs")["runs"][0].clone();
    assert!(row["error"].as_str().unwrap().contains("run.toml"), "{row}");
    assert_eq!(server.get(&format!("/api/runs/{id}")).status, 422);
    fs::remove_dir_all(&run).unwrap();
    assert_eq!(server.get(&format!("/api/runs/{id}/series")).status, 404);
}

/// Hundreds of runs: what has not changed is not read again.
#[test]
fn hundreds_of_runs_are_listed() {
    let place = Workplace::trained();
    let toml = fs::read(place.path("runs/tiny-001/run.toml")).unwrap();
    let mut lines: Vec<_> = (1..=300).map(|number| step(number, 2.0)).collect();
    lines.push(evaluation(300, 1.5));
    let record = text(&lines);
    for number in 2..=300 {
        let run = place.path(&format!("runs/tiny-{number:03}"));
        fs::create_dir(&run).unwrap();
        fs::write(run.join("run.toml"), &toml).unwrap();
        fs::write(run.join("metrics.jsonl"), &record).unwrap();
    }
    let server = Server::of_runs(&place);
    let begun = Instant::now();
    assert_eq!(server.json("/api/runs")["runs"].as_array().unwrap().len(), 300);
    let first = begun.elapsed();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let begun = Instant::now();
    let rows = server.json("/api/runs");
    let again = begun.elapsed();
    println!("300 runs: first {first:?}, then {again:?}");
    assert!(first < PATIENCE && again < PATIENCE, "{first:?}, {again:?}");
    assert_eq!(rows["runs"][299]["best_valid_loss"], 1.5);
}
