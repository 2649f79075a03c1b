//! What a page is told while runs go on.

use std::fs;

use serde_json::json;

use super::client::Server;
use super::recorded::{add, add_text, evaluation, step, text};
use crate::workplace::Workplace;

#[test]
fn what_a_run_adds_is_told() {
    let place = Workplace::trained();
    let run = place.path("runs/tiny-001");
    let server = Server::of_runs(&place);
    let id = server.id_of("tiny-001");
    let series = server.json(&format!("/api/runs/{id}/series"));
    let offset = series["offset"].as_str().unwrap();
    add(&run, &[step(7, 1.25)]);
    let mut events = server.events(&format!("/api/runs/{id}/events?after={offset}"), "");
    let state = events.next().unwrap();
    assert_eq!((&*state.name, &state.data["id"]), ("state", &json!(id)));
    let told = events.named("lines");
    assert_eq!(told.data["lines"][0]["loss"], 1.25);
    assert_eq!(told.data["offset"], told.id);
    add(&run, &[step(8, 1.0), evaluation(8, 0.5)]);
    let told = events.named("lines");
    let kinds: Vec<_> =
        told.data["lines"].as_array().unwrap().iter().map(|line| &line["kind"]).collect();
    assert_eq!(kinds, ["step", "evaluation"]);
    let row = events.named("state").data;
    assert_eq!((&row["step"], &row["valid_loss"]), (&json!(8), &json!(0.5)));

    // A browser that comes again says where it was, and is told what it missed.
    drop(events);
    add_text(&run, &format!("broken\n{}", text(&[step(9, 0.75)])));
    let again = format!("Last-Event-ID: {}\r\n", told.id);
    let mut events = server.events(&format!("/api/runs/{id}/events?after={offset}"), &again);
    let told = events.named("lines");
    assert_eq!(told.data["lines"].as_array().unwrap().len(), 1, "{told:?}");
    assert_eq!(told.data["lines"][0]["step"], 9);
    // Another process writes labels.
    place.run("runs tag runs/tiny-001 seen").ok();
    while events.named("state").data["tags"] != json!(["seen"]) {}
    for after in ["x", "12", "-1-00000000", "1-"] {
        assert_eq!(
            server.get(&format!("/api/runs/{id}/events?after={after}")).status,
            400,
            "{after}"
        );
    }
}

/// A run that goes on from an earlier checkpoint takes back what it had told.
#[test]
fn a_run_that_is_resumed_is_loaded_again() {
    let place = Workplace::trained();
    let run = place.path("runs/tiny-001");
    let server = Server::of_runs(&place);
    let id = server.id_of("tiny-001");
    let offset =
        server.json(&format!("/api/runs/{id}/series"))["offset"].as_str().unwrap().to_owned();
    let address = format!("/api/runs/{id}/events?after={offset}");
    let mut events = server.events(&address, "");
    events.named("state");
    // Once a line has come the stream stands at the record's end: cut before, it may be told of
    // the cut twice, and of what follows by the second.
    add(&run, &[step(100, 0.5)]);
    events.named("lines");
    let record = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let half: String = record.split_inclusive('\n').take(3).collect();
    // Cut, and grown beyond what it was, between two looks.
    let more: Vec<_> = (3..40).map(|number| step(number, 0.5)).collect();
    fs::write(run.join("other"), half + &text(&more)).unwrap();
    fs::rename(run.join("other"), run.join("metrics.jsonl")).unwrap();
    events.named("rewound");
    add(&run, &[step(40, 0.25)]);
    assert_eq!(events.named("lines").data["lines"][0]["step"], 40);
    // Whoever comes with an offset from before is told at once.
    server.events(&address, "").named("rewound");
    let steps = server.json(&format!("/api/runs/{id}/series"))["steps"]["step"].clone();
    assert_eq!(steps.as_array().unwrap().last(), Some(&json!(40)));

    // A step that goes back within the file does the same.
    add(&run, &[step(20, 9.0)]);
    events.named("rewound");
    let series = server.json(&format!("/api/runs/{id}/series"));
    assert_eq!(series["steps"]["step"].as_array().unwrap().last(), Some(&json!(20)));

    // Its folder is deleted while a page is open.
    fs::remove_dir_all(&run).unwrap();
    events.named("rewound");
    assert_eq!(server.get(&address).status, 404);
}

#[test]
fn the_table_is_told_what_changes() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    let mut events = server.events("/api/events", "");
    let told = events.named("runs").data;
    assert_eq!(told["runs"].as_array().unwrap().len(), 1);
    place.copy("runs/tiny-001", "runs/tiny-002");
    let is_copy = |run: &serde_json::Value| run["name"] == "tiny-002";
    while !events.named("runs").data["runs"].as_array().unwrap().iter().any(is_copy) {}
    add(&place.path("runs/tiny-001"), &[step(7, 1.25)]);
    let row = loop {
        let told = events.named("runs").data;
        let rows = told["runs"].as_array().unwrap();
        if let Some(row) = rows.iter().find(|row| row["name"] == "tiny-001" && row["step"] == 7) {
            break row.clone();
        }
    };
    assert_eq!(row["loss"], 1.25);
    let id = server.id_of("tiny-002");
    place.remove("runs/tiny-002");
    loop {
        if events.named("runs").data["removed"] == json!([id]) {
            break;
        }
    }
}
