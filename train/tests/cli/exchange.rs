//! Experts shared between ranks: what their exchange says of itself, and what it refuses.

use serde_json::Value;

use crate::workplace::{Finished, Workplace, number};

fn bytes(exchange: &Value, route: &str, link: &str) -> u64 {
    exchange[route][link].as_u64().unwrap_or_else(|| panic!("{exchange}"))
}

#[test]
fn bytes_are_counted_by_link_beside_the_direct_route() {
    let place = Workplace::new();
    let run = |name: &str, more: &str| {
        let finished = place
            .train(&format!("--steps 3 --run-dir {name} --json --set parallel.expert=2 {more}"))
            .ok();
        let exchange = finished.json()["exchange"].clone();
        assert!(finished.stdout.contains("exchange    "), "{}", finished.dump());
        let steps: Vec<Value> =
            place.metrics(name).into_iter().filter(|line| line["kind"] == "step").collect();
        assert!(
            steps.len() == 3
                && steps.iter().all(|step| number(step, "exchange_direct_fast_bytes") < 1e6),
            "{steps:?}"
        );
        for (key, route, link) in [
            ("exchange_fast_bytes", "sent", "fast_bytes"),
            ("exchange_slow_bytes", "sent", "slow_bytes"),
            ("exchange_direct_fast_bytes", "direct", "fast_bytes"),
            ("exchange_direct_slow_bytes", "direct", "slow_bytes"),
        ] {
            assert_eq!(steps[2][key], exchange[route][link], "{key}");
        }
        exchange
    };
    let f32 = run("f32", "--set precision.format=f32");
    assert_eq!(
        (&f32["sent"], bytes(&f32, "sent", "slow_bytes")),
        (&f32["direct"], 0),
        "all ranks are in one node"
    );
    assert!(bytes(&f32, "sent", "fast_bytes") > 0);

    // The same tokens in fewer bytes: 16 values are 4 words of codes and one of their scale one
    // way, 8 words the other, of 16 in FP32.
    let fp8 = run("fp8", "--set precision.format=fp8");
    let ratio = bytes(&fp8, "sent", "fast_bytes") as f64 / bytes(&f32, "sent", "fast_bytes") as f64;
    assert!((ratio - (5.0 + 8.0) / 32.0).abs() < 0.02, "{ratio}");

    let nodes = run("nodes", "--set precision.format=fp8 --set parallel.ranks_per_node=1");
    assert_eq!(
        (bytes(&nodes, "sent", "fast_bytes"), bytes(&nodes, "direct", "fast_bytes")),
        (0, 0),
        "each rank is a node"
    );
    assert!(bytes(&nodes, "sent", "slow_bytes") > 0 && nodes["sent"] != nodes["direct"], "{nodes}");
    // The table of the record: the mean over its steps.
    let steps: Vec<Value> =
        place.metrics("nodes").into_iter().filter(|line| line["kind"] == "step").collect();
    let shown = place.run("runs show nodes --json").ok().json()["exchange"].clone();
    for (key, route) in [("exchange_slow_bytes", "sent"), ("exchange_direct_slow_bytes", "direct")]
    {
        let mean = steps.iter().map(|step| number(step, key)).sum::<f64>() / 3.0;
        assert!((number(&shown[route], "slow_bytes") - mean).abs() < 1e-3, "{shown}");
    }
    let text = place.run("runs show nodes").ok().stdout;
    assert!(text.contains("between nodes") && text.contains("straight to each expert"), "{text}");
    assert!(
        place.train("--steps 1 --json").ok().json()["exchange"].is_null(),
        "a run on one rank exchanges nothing"
    );
}

/// DualPipe computes one micro-batch while the other's rows are in flight; in 1F1B there is nothing
/// to compute meanwhile.
#[test]
fn what_is_hidden_of_the_exchange_is_recorded() {
    let place = Workplace::new();
    for (schedule, overlaps) in [("dualpipe", true), ("1f1b", false)] {
        let finished = place
            .train(&format!(
                "--steps 12 --run-dir {schedule} --trace {schedule}.json --set parallel.pipeline=2 \
                 --set parallel.expert=2 --set parallel.schedule={schedule} \
                 --set model.num_hidden_layers=4 --set schedule.global_batch=16 --json"
            ))
            .ok();
        hides(&place, schedule, &finished, overlaps);
    }
}

/// What a run of experts shared by ranks says of the hidden share: in its record, at its end, in
/// its trace and in `runs show`.
pub fn hides(place: &Workplace, run: &str, finished: &Finished, overlaps: bool) {
    let steps: Vec<Value> = place.lines(&format!("{run}/metrics.jsonl"));
    let steps: Vec<&Value> = steps.iter().filter(|line| line["kind"] == "step").collect();
    let sum = |key: &str| steps.iter().map(|step| number(step, key)).sum::<f64>();
    let (in_flight, hidden) = (sum("exchange_seconds"), sum("exchange_hidden_seconds"));
    assert!(in_flight > 0.0 && hidden <= in_flight, "{hidden} of {in_flight} s");
    assert_eq!(hidden > 0.0, overlaps, "{hidden} of {in_flight} s");

    let results = finished.json();
    let last = steps.last().unwrap();
    let share = number(last, "exchange_hidden_seconds") / number(last, "exchange_seconds");
    assert!((number(&results, "exchange_hidden_share") - share).abs() < 1e-9, "{results}");
    assert!(finished.stdout.contains(&format!("hidden      {:.0}% of", 100.0 * share)));

    // The trace has the same step, each action with its part.
    let trace: Value =
        serde_json::from_slice(&std::fs::read(place.path(&format!("{run}.json"))).unwrap())
            .unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let micros =
        |key: &str| events.iter().filter_map(|event| event["args"][key].as_f64()).sum::<f64>();
    let ranks = results["timeline"]["hidden"].as_array().unwrap().len() as f64;
    let (flight_us, hidden_us) = (micros("rows_in_flight_us"), micros("rows_hidden_us"));
    for (us, key) in [(flight_us, "exchange_seconds"), (hidden_us, "exchange_hidden_seconds")] {
        assert!((us / 1e6 / ranks - number(last, key)).abs() < 1e-6, "{key}: {us} us");
    }

    let shown = place.run(&format!("runs show {run} --json")).ok().json();
    let of_run = number(&shown["exchange"], "hidden_share");
    assert!((of_run - hidden / in_flight).abs() < 1e-9, "{shown}");
}

#[test]
fn nodes_that_ranks_do_not_fill_are_refused() {
    let place = Workplace::new();
    let problem = ["parallel.ranks_per_node = 3", "parallel.expert = 2"];
    place.train("--set parallel.expert=2 --set parallel.ranks_per_node=3").failed(2, &problem);
}
