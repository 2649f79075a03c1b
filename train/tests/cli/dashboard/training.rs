//! `train --dashboard`: pages about a run while it is trained.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Server;
use crate::workplace::{Workplace, number};

/// The server of a training, whose output is piped and read on.
pub fn server_of(training: &mut Child) -> Server {
    let mut out = BufReader::new(training.stdout.take().unwrap());
    let mut text = String::new();
    let address = loop {
        let mut line = String::new();
        assert!(out.read_line(&mut line).unwrap() > 0, "no address in: {text}");
        text += &line;
        if let Some(url) = line.strip_prefix("dashboard   http://") {
            break url.trim().trim_end_matches('/').to_owned();
        }
    };
    std::thread::spawn(move || out.read_to_string(&mut text).unwrap());
    Server::elsewhere(address)
}

#[test]
fn a_run_is_watched_while_it_is_trained() {
    let place = Workplace::trained();
    let mut command = place.command(
        "train --config ./tiny.toml --steps 1000000 --run-dir runs/live --dashboard 127.0.0.1:0 \
         --set metrics.every=5",
    );
    let mut training = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let server = server_of(&mut training);
    let id = server.id_of("live");
    assert_eq!(server.json("/api/session")["live"], json!(id));
    let mut events = server.events(&format!("/api/runs/{id}/events"), "");
    let row = events.named("state").data;
    assert_eq!((&row["state"], &row["planned_steps"]), (&json!("training"), &json!(1_000_000)));
    let lines = events.named("lines").data;
    assert!(
        lines["lines"].as_array().unwrap().iter().any(|line| line["kind"] == "step"),
        "{lines}"
    );
    let rows = server.json("/api/runs");
    let rows = rows["runs"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "and the run beside it");
    assert!(number(rows.iter().find(|row| row["id"] == json!(id)).unwrap(), "seconds_left") > 0.0);
    let begun = Instant::now();
    loop {
        let experts = server.json(&format!("/api/runs/{id}/experts"));
        if let Some(step) = experts["steps"].as_array().unwrap().first() {
            assert_eq!(step.as_u64().unwrap() % 5, 0);
            let loads = experts["loads"][0][0].as_array().unwrap();
            let sum: f64 = loads.iter().map(|share| share.as_f64().unwrap()).sum();
            assert!(loads.len() == 4 && (sum - 4.0).abs() < 0.01, "{loads:?}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{experts}");
    }
    training.kill().unwrap();
    training.wait().unwrap();
}

#[test]
fn it_ends_with_the_run() {
    let place = Workplace::new();
    let run = place.train("--dashboard 127.0.0.1:0 --json").ok();
    let line = run.stdout.lines().find(|line| line.starts_with("dashboard   ")).unwrap();
    let address = line.trim_start_matches("dashboard   http://").trim_end_matches('/');
    assert!(TcpStream::connect(address).is_err(), "{address}");
    place
        .train("--dashboard 0.0.0.0:0")
        .failed(2, &["--dashboard 0.0.0.0:0", "--dashboard-token-file"]);
    place.train("--dashboard nowhere").failed(2, &["--dashboard nowhere", "HOST:PORT"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    place.train(&format!("--dashboard {taken}")).failed(3, &["--dashboard 127.0.0.1"]);
    assert_eq!(place.names("runs"), ["tiny-001"], "nothing is begun where it cannot be shown");
}

/// A run over several ranks keeps the timeline of its last detailed step.
#[test]
fn a_pipeline_is_shown_beside_its_simulation() {
    let place = Workplace::new();
    place
        .train(
            "--set parallel.pipeline=2 --set train.micro_batch=1 --set metrics.every=2 --steps 5",
        )
        .ok();
    let server = Server::of_runs(&place);
    let id = server.id_of("tiny-001");
    let shown = server.json(&format!("/api/runs/{id}/pipeline"));
    for which in ["measured", "simulated"] {
        let timeline = &shown[which];
        assert_eq!(timeline["step"], 4, "{which}");
        let ranks = timeline["ranks"].as_array().unwrap();
        assert_eq!(ranks.len(), 2);
        for rank in ranks {
            let slices = rank["slices"].as_array().unwrap();
            let busy: f64 = slices
                .iter()
                .filter(|slice| slice["kind"] != "wait")
                .map(|slice| number(slice, "end_us") - number(slice, "start_us"))
                .sum();
            assert!((busy - number(rank, "busy_us")).abs() < 1.0, "{rank}");
            let total = number(rank, "busy_us") + number(rank, "idle_us");
            assert!((total - number(timeline, "total_us")).abs() < 1.0, "{rank}");
        }
    }
    let computed = |which: &str| -> usize {
        let slices = shown[which]["ranks"][0]["slices"].as_array().unwrap();
        slices.iter().filter(|slice| slice["kind"] != "wait").count()
    };
    assert!(computed("measured") > 0 && computed("measured") == computed("simulated"));
    let lone: Value = server.json("/api/session");
    assert_eq!(lone["live"], Value::Null);
}
