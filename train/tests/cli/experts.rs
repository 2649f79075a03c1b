//! Loads of experts, measured and written, and the placements made of them.

use serde_json::{Value, json};

use crate::workplace::Workplace;

/// The loads of a run's last evaluation, and those that `eval` writes, give the same placement;
/// every layer's maps are whole.
#[test]
fn experts_are_placed_by_the_loads_of_a_run() {
    let place = Workplace::trained();
    let plan =
        |more: &str| place.run(&format!("plan experts --replicas 6 --gpus 2 --json {more}")).ok();
    let of_run = plan("--loads runs/tiny-001 --out placement.json");
    let results = of_run.json();
    assert_eq!(results["experts"], 4);
    let layers = results["layers"].as_array().unwrap();
    assert_eq!(
        layers.iter().map(|layer| &layer["layer"]).collect::<Vec<_>>(),
        [1, 2],
        "the MoE layer and the MTP module's"
    );
    for layer in layers {
        let counts: Vec<u64> = serde_json::from_value(layer["logcnt"].clone()).unwrap();
        assert!(
            counts.iter().sum::<u64>() == 6 && counts.iter().all(|&count| count > 0),
            "{layer}"
        );
        let ratio =
            |key: &str| layer[key]["max"].as_f64().unwrap() / layer[key]["mean"].as_f64().unwrap();
        assert!(ratio("placed") >= 1.0 && ratio("in_order") >= 1.0, "{layer}");
        let line = format!(
            "{:<5} {:>10.4} {:>9.4}",
            layer["layer"].to_string(),
            ratio("in_order"),
            ratio("placed")
        );
        assert!(of_run.stdout.contains(&line), "{line}: {}", of_run.dump());
    }
    let written: Value =
        serde_json::from_slice(&std::fs::read(place.path("placement.json")).unwrap()).unwrap();
    assert_eq!(written["layers"], results["layers"]);

    let batches = "eval --checkpoint runs/tiny-001 --batches 2 --expert-loads loads.json --json";
    assert_eq!(place.run(batches).ok().json()["expert_loads"], "loads.json");
    assert_eq!(
        plan("--loads loads.json").json()["layers"],
        results["layers"],
        "the batches that training evaluates on"
    );
    let loads: Value =
        serde_json::from_slice(&std::fs::read(place.path("loads.json")).unwrap()).unwrap();
    let closing = place.metrics("runs/tiny-001").pop().unwrap();
    let layers = closing["layers"].as_array().unwrap().iter();
    let of_run: Vec<Value> = layers
        .zip(closing["expert_loads"].as_array().unwrap())
        .map(|(layer, loads)| json!({ "layer": layer, "loads": loads }))
        .collect();
    assert_eq!(loads["layer_loads"], json!(of_run));
    let total: u64 = loads["layer_loads"][0]["loads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|load| load.as_u64().unwrap())
        .sum();
    assert_eq!(total, 2 * 2 * 16 * 2, "windows, tokens and experts a token of two batches");
}

/// Loads whose placement is known: groups stay on their node, unless nodes cannot share them.
#[test]
fn groups_come_from_the_loads_or_the_command_line() {
    let place = Workplace::new();
    let loads = json!({ "n_group": 2, "layer_loads": [{ "layer": 3, "loads": [8, 1, 1, 1] }] });
    place.write("loads.json", loads.to_string());
    let plan = |more: &str| {
        place
            .run(&format!(
                "plan experts --loads loads.json --replicas 8 --gpus 4 --nodes 2 --json {more}"
            ))
            .ok()
            .json()
    };
    let grouped = plan("");
    assert_eq!((&grouped["policy"], &grouped["groups"]), (&json!("hierarchical"), &json!(2)));
    assert_eq!(grouped["layers"][0]["logcnt"], json!([3, 1, 2, 2]));
    let free = plan("--groups 1");
    assert_eq!(
        (&free["policy"], &free["layers"][0]["logcnt"]),
        (&json!("global"), &json!([5, 1, 1, 1]))
    );
}

#[test]
fn loads_and_numbers_that_cannot_be_placed_are_refused() {
    let place = Workplace::new();
    place.write(
        "loads.json",
        json!({ "layer_loads": [{ "layer": 1, "loads": [1, 2, 3, 4] }] }).to_string(),
    );
    place.write(
        "negative.json",
        json!({ "layer_loads": [{ "layer": 1, "loads": [1, -2] }] }).to_string(),
    );
    place.write("none.json", json!({ "layer_loads": [] }).to_string());
    place.write(
        "uneven.json",
        json!({ "layer_loads": [{ "layer": 1, "loads": [1] }, { "layer": 2, "loads": [1, 2] }] })
            .to_string(),
    );
    std::fs::create_dir(place.path("dense")).unwrap();
    place
        .write("dense/metrics.jsonl", "{\"step\":3,\"valid\":{\"loss\":1.0,\"layer_loads\":[]}}\n");
    for (arguments, parts) in [
        ("nowhere --replicas 4 --gpus 2", ["nowhere", "no loads here"]),
        (". --replicas 4 --gpus 2", [".", "no loads here"]),
        ("dense --replicas 4 --gpus 2", ["dense/metrics.jsonl", "no evaluation in it"]),
        ("negative.json --replicas 4 --gpus 2", ["negative.json", "-2"]),
        ("none.json --replicas 4 --gpus 2", ["none.json", "there are no loads"]),
        (
            "uneven.json --replicas 4 --gpus 2",
            ["uneven.json", "layer 1 of the loads has 2 experts"],
        ),
        (
            "loads.json --replicas 3 --gpus 1",
            ["loads.json", "3 replicas are too few for 4 experts"],
        ),
        (
            "loads.json --replicas 5 --gpus 2",
            ["loads.json", "5 replicas cannot be divided evenly among 2 GPUs"],
        ),
        ("loads.json --replicas 4 --gpus 0", ["loads.json", "gpus must be at least 1"]),
        ("loads.json --replicas 99999999999 --gpus 1", ["loads.json", "65536"]),
    ] {
        place.run(&format!("plan experts --loads {arguments}")).failed(2, &parts);
    }
    let dense = "--steps 1 --set model.n_routed_experts=0 --set model.n_shared_experts=0 --set \
                 model.num_experts_per_tok=0";
    place.train(dense).ok();
    place
        .run("eval --checkpoint runs/tiny-001 --expert-loads loads.json")
        .failed(2, &["--expert-loads", "no routed experts"]);
}

/// With experts on three GPUs, drafts or none, the text is that of the plain model.
#[test]
fn text_is_the_same_wherever_experts_are() {
    let place = Workplace::trained();
    place.run("plan experts --loads runs/tiny-001 --replicas 6 --gpus 3 --out placement.json").ok();
    let generate = |more: &str| {
        place
            .run(&format!(
                "generate --checkpoint runs/tiny-001 --prompt the --max-new-tokens 12 --json {more}"
            ))
            .ok()
    };
    let plain = generate("").json();
    assert_eq!(plain["gpu_rows"], Value::Null);
    for more in ["", "--speculative", "--devices flex", "--devices flex,flex,flex"] {
        let placed = generate(&format!("--expert-placement placement.json {more}"));
        assert!(
            placed.stderr.contains("experts     on 3 GPUs, max load / mean load: layer 1 "),
            "{}",
            placed.dump()
        );
        let placed = placed.json();
        assert_eq!(placed["token_ids"], plain["token_ids"], "{more}");
        let rows: Vec<u64> = serde_json::from_value(placed["gpu_rows"][0]["rows"].clone()).unwrap();
        assert_eq!(rows.len(), 3);
        if more.is_empty() {
            assert_eq!(
                rows.iter().sum::<u64>(),
                (1 + 11) * 2,
                "two experts for each token that the last layer has seen: of the prompt the last"
            );
        }
    }

    place.write(
        "other.json",
        json!({ "experts": 3, "gpus": 1, "layers": [{ "layer": 1, "phy2log": [0, 1, 2] }] })
            .to_string(),
    );
    place.write("none.json", json!({ "experts": 3, "gpus": u64::MAX, "layers": [] }).to_string());
    place.write(
        "uneven.json",
        json!({ "experts": 2, "gpus": 2, "layers": [{ "layer": 1, "phy2log": [0, 1, 1] }] })
            .to_string(),
    );
    place.write("text.json", "the placement");
    place.write("bytes.json", b"\xff\xfe");
    for (arguments, parts) in [
        ("nowhere.json", ["nowhere.json", "no such file"]),
        ("other.json", ["other.json", "has 3 experts, but the layer has 4"]),
        ("none.json", ["none.json", "no layers"]),
        ("uneven.json", ["uneven.json", "layer 1: 3 replicas cannot be spread evenly over 2 GPUs"]),
        ("text.json", ["text.json", "not a file of `deepseek plan experts --out`"]),
        ("bytes.json", ["bytes.json", "not a file of `deepseek plan experts --out`"]),
        ("placement.json --devices flex,flex,flex,flex", ["--devices has 4 devices", "3 GPUs"]),
    ] {
        place
            .run(&format!("generate --checkpoint runs/tiny-001 --expert-placement {arguments}"))
            .failed(2, &parts);
    }
}
