//! Experts shared between ranks: what their exchange says of itself, and what it refuses.

use serde_json::Value;

use crate::workplace::{Workplace, number};

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
    assert!(
        place.train("--steps 1 --json").ok().json()["exchange"].is_null(),
        "a run on one rank exchanges nothing"
    );
}

#[test]
fn nodes_that_ranks_do_not_fill_are_refused() {
    let place = Workplace::new();
    let problem = ["parallel.ranks_per_node = 3", "parallel.expert = 2"];
    place.train("--set parallel.expert=2 --set parallel.ranks_per_node=3").failed(2, &problem);
}
