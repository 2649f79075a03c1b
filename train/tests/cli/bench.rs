//! What `bench` prints: a row a figure, and what each is compared with.

use serde_json::json;

use crate::workplace::{Finished, Workplace, number};

#[test]
fn bench_prints_a_row_a_figure() {
    let place = Workplace::new();
    let small = "--device flex --reps 1 --warmup 0 --json --set model.hidden_size=32 \
                 --set model.vocab_size=300 --set train.seq_len=16";
    for (target, more, rows, compared) in [
        ("train", "", 9, "forward"),
        ("train", "--set ema.decay=0.9", 10, "step, weights averaged"),
        ("train", "--set precision.format=fp8", 9, "rate"),
        // Of two models there is no peak of memory.
        ("train", "--beside precision.format=bf16", 9, "step, precision.format=bf16"),
        ("train", "--beside train.seed=3 --beside train.seed=4", 10, "step, train.seed=4"),
        // Two ranks have no forward pass of the whole model.
        ("train", "--set parallel.expert=2 --set train.micro_batch=2", 8, "rate"),
        (
            "train",
            "--set parallel.pipeline=2 --set model.num_hidden_layers=4 --set train.micro_batch=1",
            8,
            "forward and backward",
        ),
        ("generate", "", 8, "decode"),
    ] {
        let finished = place.run(&format!("bench {target} {small} {more}")).ok();
        let results = finished.json();
        let products = results["products"].as_str().unwrap();
        assert!(products.starts_with("in BF16 and FP8: "), "{products}");
        let found = results["rows"].as_array().unwrap();
        assert_eq!(found.len(), rows, "{results}");
        for row in found {
            assert!(
                number(row, "value") > 0.0
                    && ["ms", "tokens/s", "MiB", "GFLOP", "GFLOP/s"]
                        .contains(&row["unit"].as_str().unwrap()),
                "{row}"
            );
            assert!(finished.stdout.contains(row["name"].as_str().unwrap()));
        }
        let row = found.iter().find(|row| row["name"] == compared).unwrap();
        assert!(
            row["ratios"].as_object().unwrap().values().all(|ratio| ratio.as_f64().unwrap() > 0.0),
            "{row}"
        );
        assert_eq!(row["ratios"].as_object().unwrap().len(), 1);
    }
}

#[test]
fn what_bench_train_cannot_time_beside_is_named() {
    let place = Workplace::new();
    for (value, named) in [
        ("precision.format=fp9", "precision.format"),
        ("precision.size=3", "precision.size"),
        ("train.micro_batch=3", "train.micro_batch"),
    ] {
        place.run(&format!("bench train --device flex --beside {value}")).failed(2, &[named]);
    }
}

#[test]
fn bench_times_kernels_beside_burn_s_own() {
    let place = Workplace::new();
    let kernels =
        |more: &str| place.run(&format!("bench kernels --device flex --reps 1 --warmup 0 {more}"));
    // What has 256 as its last size: casts and products of the training shapes.
    let finished = kernels("--only x256 --json").ok();
    let results = finished.json();
    let rows = results["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(
        names[..6],
        [
            "quantize rows 2048x256",
            "quantize both 2048x256",
            "quantize weight 1024x256",
            "fprop 2048x1024x256",
            "dgrad 2048x1024x256",
            "wgrad 2048x1024x256",
        ]
    );
    assert!(names.contains(&"grouped wgrad 2048x512x256"), "{names:?}");
    for row in rows {
        let product = !row["name"].as_str().unwrap().starts_with("quantize");
        assert!(
            number(row, "us") > 0.0
                && number(row, "gb_per_s") > 0.0
                && number(row, "times_as_fast") > 0.0,
            "{row}"
        );
        assert_eq!(row["tflop_per_s"].is_number(), product, "{row}");
        let diff = number(row, "calc_diff");
        assert!((if product { 5e-4..1e-3 } else { 2e-4..5e-4 }).contains(&diff), "{row}");
        assert!(
            finished.stdout.contains(&format!(
                "{} ",
                row["name"].as_str().unwrap().rsplit(' ').next().unwrap()
            )),
            "{}",
            finished.dump()
        );
    }
    kernels("--only nothing").failed(2, &["--only nothing", "no row is called so"]);
}

#[test]
fn bench_times_an_exchange_beside_a_copy() {
    let place = Workplace::new();
    let dispatch = |more: &str| {
        place.run(&format!("bench dispatch --device flex --scale cpu --reps 1 --warmup 0 {more}"))
    };
    let finished = dispatch("--only fp8 --json").ok();
    let results = finished.json();
    let rows = results["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pack fp8", "exchange fp8", "unpack fp8"]);
    for row in rows {
        assert!(
            number(row, "us") > 0.0
                && number(row, "gb_per_s") > 0.0
                && number(row, "of_copy") > 0.0,
            "{row}"
        );
        assert!(finished.stdout.contains(row["name"].as_str().unwrap()), "{}", finished.dump());
    }
    // 512 tokens to 8 experts: 1792 codes and 14 scales, which fill 4 words.
    assert_eq!(number(&rows[1], "bytes"), 2.0 * 4096.0 * (1792.0 + 16.0));
    dispatch("--only nothing").failed(2, &["--only nothing", "no row is called so"]);
}

/// What `bench links` prints and writes of ranks, and that `plan cluster` takes it.
pub fn measures_links(place: &Workplace, finished: &Finished, ranks: u64, nodes: u64) {
    let results = finished.json();
    assert_eq!(results["ranks"], ranks, "{results}");
    assert_eq!(results["ranks_per_node"], ranks / nodes, "{results}");
    let messages = results["messages"].as_array().unwrap();
    assert_eq!((number(&messages[0], "bytes"), messages.len()), (256.0, 7));
    for message in messages {
        assert!(number(message, "us") > 0.0, "{message}");
        assert_eq!(message["between_nodes_us"].is_number(), nodes > 1, "{message}");
    }
    // Rows of a quarter and of all of a micro-batch's 32 tokens, by one route or by both.
    let exchanges = results["exchanges"].as_array().unwrap();
    assert_eq!(exchanges.len(), 3 * if nodes > 1 { 2 } else { 1 }, "{results}");
    for exchange in exchanges {
        assert!(number(exchange, "us") > 0.0 && number(exchange, "fast_bytes") > 0.0);
        assert_eq!(number(exchange, "slow_bytes") > 0.0, nodes > 1, "{exchange}");
    }
    if nodes > 1 {
        let [direct, two_hops] = &exchanges[4..] else { panic!("{results}") };
        assert_eq!((&direct["route"], &two_hops["route"]), (&json!("direct"), &json!("two hops")));
        assert!(number(two_hops, "slow_bytes") < number(direct, "slow_bytes"), "{results}");
    }
    for reduction in results["reductions"].as_array().unwrap() {
        assert!(number(reduction, "us") > 0.0, "{reduction}");
    }
    for key in ["products_tflops", "memory_gb_per_s", "all_ms", "one_ms", "update_ms"] {
        assert!(number(&results["rank"], key) > 0.0, "{key}: {results}");
    }
    for title in ["message", "exchange of a layer", "sums of gradients", "a rank alone"] {
        assert!(finished.stdout.contains(title), "{}", finished.dump());
    }
    // In whatever layout of these ranks.
    for layout in ["pipeline", "expert", "data"] {
        let planned = place
            .run(&format!(
                "plan cluster --config ./tiny.toml --cluster ./machine.toml --json \
                 --set schedule.global_batch=16 --set model.num_hidden_layers=8 \
                 --set parallel.{layout}={ranks}"
            ))
            .ok()
            .json();
        assert!(number(&planned["step"], "total_s") > 0.0, "{planned}");
    }
}

#[test]
fn bench_links_measures_a_machine_for_plan_cluster() {
    let place = Workplace::new();
    let links = "bench links --config ./tiny.toml --device flex --reps 2 --warmup 0 --json \
                 --out machine.toml";
    let finished = place.run(links).ok();
    assert_eq!(finished.json()["all_to_alls"], json!([]), "threads have no library between them");
    measures_links(&place, &finished, 2, 1);
    let finished = place.run(&format!("{links} --ranks 4 --ranks-per-node 2")).ok();
    measures_links(&place, &finished, 4, 2);

    place.run(&format!("{links} --ranks 3")).failed(2, &["3 ranks", "4 experts"]);
    place
        .run(&format!("{links} --ranks 4 --ranks-per-node 3"))
        .failed(2, &["4 ranks are not nodes of 3", "--ranks-per-node"]);
    place.run(&format!("{links} --set parallel.expertise=2")).failed(2, &["parallel.expertise"]);
}

/// What a forward pass keeps for a backward pass that never comes is not kept until the next step.
#[cfg(target_os = "linux")]
#[test]
fn bench_train_has_the_memory_of_one_micro_batch() {
    let place = Workplace::new();
    let peak_of = |sequences: usize| {
        let setting = format!(
            "bench train --device flex --reps 1 --warmup 1 --json --set train.micro_batch=2 --set \
             schedule.global_batch={sequences}"
        );
        let results = place.run(&setting).ok().json();
        let rows = results["rows"].as_array().unwrap();
        number(rows.iter().find(|row| row["name"] == "peak memory").unwrap(), "value")
    };
    let (one, eight) = (peak_of(2), peak_of(16));
    assert!(eight < 1.4 * one, "{one} MiB of one micro-batch, {eight} of eight");
}

/// Two points of two axes, and ranks.
#[test]
fn bench_scale_has_a_row_a_point_and_what_it_must_be() {
    let place = Workplace::new();
    let small = "--device flex --reps 1 --warmup 0 --json --set model.hidden_size=32 \
                 --set model.vocab_size=300 --set train.seq_len=16 --set train.micro_batch=1";
    let finished =
        place.run(&format!("bench scale --axis experts,depth,ranks --max 16 {small}")).ok();
    let results = finished.json();
    let axes = results["axes"].as_array().unwrap();
    let labels: Vec<Vec<&str>> = axes
        .iter()
        .map(|axis| {
            let points = axis["points"].as_array().unwrap();
            points.iter().map(|point| point["label"].as_str().unwrap()).collect()
        })
        .collect();
    assert_eq!(
        labels,
        [vec!["8", "16"], vec!["2", "4", "8", "16"], vec!["1", "pipeline=2", "expert=2"]]
    );
    for point in axes.iter().flat_map(|axis| axis["points"].as_array().unwrap()) {
        for key in ["step_ms", "tokens_per_s", "memory_bytes", "gflop_per_s", "least_ms"] {
            assert!(number(point, key) > 0.0, "{key}: {point}");
        }
        let parts = number(point, "gradients_ms") + number(point, "optimizer_ms");
        assert!((parts / number(point, "step_ms") - 1.0).abs() < 1e-9, "{point}");
    }
    let last = &axes[1]["points"][3];
    let step = &last["exponents"]["step"];
    let exponent = (number(last, "step_ms") / number(&axes[1]["points"][2], "step_ms")).log2();
    assert!((number(step, "is") - exponent).abs() < 1e-9, "{step}");
    assert!((0.5..1.1).contains(&number(step, "must")), "{step}");
    assert!(axes[2]["points"][1]["times_one"]["step"].as_f64().unwrap() > 0.0);
    assert!(number(&results, "peak_gflop_per_s") > 0.0 && number(&results, "copy_gb_per_s") > 0.0);
    for text in ["experts: routed experts, 2 of them a token", "grows", "pipeline=2"] {
        assert!(finished.stdout.contains(text), "{}", finished.dump());
    }
    assert!(finished.stderr.starts_with("point 1 of 9: experts = 8, about "));
    assert_eq!(finished.stderr.lines().count(), 9, "{}", finished.dump());
}

#[test]
fn what_does_not_fit_into_memory_is_a_row_that_says_so() {
    let place = Workplace::new();
    let large = "--set model.hidden_size=16384 --set model.intermediate_size=1048576";
    let finished =
        place.run(&format!("bench scale --axis seq --max 256 --device flex --json {large}")).ok();
    let point = finished.json()["axes"][0]["points"][0].clone();
    let why = point["left_out"].as_str().unwrap();
    assert!(why.contains("of memory, of which") && point["step_ms"].is_null(), "{point}");
    assert!(finished.stdout.contains("seq = 256: left out: "), "{}", finished.dump());
}

#[test]
fn a_scale_that_cannot_be_is_refused_before_anything_is_timed() {
    let place = Workplace::new();
    let scale = |more: &str| place.run(&format!("bench scale --device flex {more}"));
    scale("--axis seq --max 100").failed(2, &["--max 100", "seq begins at 256", "--axis"]);
    let groups = "--set model.n_routed_experts=24 --set model.n_group=3 --set model.topk_group=2";
    let parts = ["--axis experts: 8", "n_group", "does not divide n_routed_experts = 8"];
    scale(&format!("--axis experts {groups}")).failed(2, &parts);
    scale("--set model.n_experts=9").failed(2, &["model.n_experts"]);
}
