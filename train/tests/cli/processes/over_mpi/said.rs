//! What processes say: logs, traces, measurements of the links between them.

use std::fs;

use super::{failed, run, train};
use crate::workplace::{Workplace, number};

/// The others speak in files of the run, a line with the time and the rank for each thing.
#[test]
fn ranks_log_in_the_run() {
    let place = Workplace::new();
    let trained = train(&place, 2, "--set parallel.expert=2 --run-dir run").ok();
    assert!(!trained.stdout.contains("rank 1 "), "{}", trained.dump());
    let log = fs::read_to_string(place.path("run/ranks/rank-1.log")).unwrap();
    assert!(!place.path("run/ranks/rank-0.log").exists());
    let lines: Vec<&str> = log.lines().collect();
    for line in &lines {
        let (time, said) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && said.starts_with("rank 1 "), "{line}");
    }
    assert!(log.contains("CUDA-aware"), "{log}");
    let said = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(said(" begins: of 2 ranks, process "), 1, "{log}");
    assert_eq!((said(" a step: "), said(" an update: ")), (6, 6), "{log}");
    assert_eq!(said(" of a checkpoint, in "), 3, "{log}");
    assert_eq!(said(" bytes of memory"), 1, "{log}");
    assert!(lines.last().unwrap().ends_with("rank 1 ends"), "{log}");
}

/// Each rank measures itself; rank 0 has all of it.
#[test]
fn a_trace_has_the_ranks_of_all_processes() {
    let place = Workplace::new();
    let traced = train(
        &place,
        2,
        "--set parallel.pipeline=2 --set schedule.global_batch=8 --steps 2 --trace trace.json \
         --json",
    )
    .ok();
    let timeline = &traced.json()["timeline"];
    let busy: Vec<f64> = serde_json::from_value(timeline["busy"].clone()).unwrap();
    assert!(busy.len() == 2 && busy.iter().all(|&time| time > 0.0), "{timeline}");
    assert!(place.path("trace.json").is_file());
}

/// The same measurements between processes, with the library's own calls beside the messages.
#[test]
fn bench_links_measures_processes() {
    let place = Workplace::new();
    let links = "bench links --config ./tiny.toml --device flex --reps 2 --warmup 0 --json \
                 --out machine.toml";
    let finished = run(&place, 2, links).ok();
    crate::bench::measures_links(&place, &finished, 2, 1);
    let finished = run(&place, 4, &format!("{links} --ranks-per-node 2")).ok();
    crate::bench::measures_links(&place, &finished, 4, 2);
    let results = finished.json();
    let all_to_alls = results["all_to_alls"].as_array().unwrap();
    assert_eq!(all_to_alls.len(), 4, "{results}");
    for key in ["messages_us", "collective_us", "two_lanes_messages_us", "two_lanes_collective_us"]
    {
        assert!(all_to_alls.iter().all(|row| number(row, key) > 0.0), "{key}: {results}");
    }
    for reduction in results["reductions"].as_array().unwrap() {
        assert!(number(reduction, "collective_us") > 0.0, "{reduction}");
    }
    failed(&run(&place, 3, links), 2, &["3 ranks", "4 experts"]);
    let wrong = run(&place, 2, &format!("{links} --set parallel.expertise=2"));
    failed(&wrong, 2, &["parallel.expertise"]);
}

/// One thread makes all calls of MPI, beside the one that computes: rows travel meanwhile.
#[test]
fn the_exchange_is_hidden_between_processes_too() {
    let place = Workplace::new();
    let more = "--steps 12 --run-dir run --trace run.json --set parallel.pipeline=2 \
                --set parallel.expert=2 --set model.num_hidden_layers=4 \
                --set schedule.global_batch=16 --json";
    let finished = train(&place, 4, more).ok();
    crate::exchange::hides(&place, "run", &finished, true);
}
