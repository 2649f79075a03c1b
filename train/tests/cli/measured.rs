//! What a run records of itself beside losses: norms by part, the seconds of its passes, entropies
//! and biases of routers, casts to FP8, what ranks do.

use serde_json::Value;

use crate::workplace::{Workplace, number, numbers};

const PARTS: [&str; 8] =
    ["embedding", "attention", "router", "experts", "mlp", "norms", "mtp", "head"];
const CASTS: [&str; 3] = ["activations", "weights", "gradients"];
/// Every step in full, an evaluation after each, every checkpoint kept.
const ALL: &str = "--set metrics.every=1 --set train.eval_every=1 --set train.checkpoint_every=1 \
                   --set train.keep_checkpoints=9 --set output.sample_tokens=0";

/// The lines of a kind, the clock's numbers among them.
fn lines(place: &Workplace, run: &str, kind: &str) -> Vec<Value> {
    let lines = place.lines(&format!("{run}/metrics.jsonl"));
    lines.into_iter().filter(|line| line["kind"] == kind).collect()
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * b.abs()
}

/// The root of the sum of the squares of the parts that a line has.
fn of_parts(line: &Value, what: &str) -> f64 {
    let part = |part| line[format!("{what}_{part}")].as_f64();
    PARTS.iter().filter_map(part).map(|norm| norm * norm).sum::<f64>().sqrt()
}

#[test]
fn norms_times_and_entropies_are_recorded_every_so_many_steps() {
    let place = Workplace::new();
    place.train("--set metrics.every=3 --run-dir run").ok();
    let steps = lines(&place, "run", "step");
    assert_eq!(steps.len(), 6);
    for step in &steps {
        let [forward, backward, compute] =
            ["forward_seconds", "backward_seconds", "compute_seconds"].map(|key| number(step, key));
        assert!(forward > 0.0 && backward > 0.0 && forward + backward <= compute, "{step}");
        assert!(
            step["exchange_seconds"].is_null() && step["rank_sent_bytes"] == serde_json::json!([])
        );
        let detailed = step["step"].as_u64().unwrap() % 3 == 0;
        for part in PARTS {
            for norm in ["grad_norm", "param_norm"].map(|what| &step[format!("{what}_{part}")]) {
                assert_eq!(
                    norm.as_f64().is_some_and(|norm| norm > 0.0),
                    detailed,
                    "{part}: {step}"
                );
            }
        }
        for cast in CASTS {
            assert!(step[format!("fp8_{cast}_saturated")].is_null(), "nothing is cast: {step}");
        }
        let entropies = numbers(&step["gate_entropy"]);
        if !detailed {
            assert!(step["param_norm"].is_null() && entropies.is_empty(), "{step}");
            continue;
        }
        assert!(near(of_parts(step, "grad_norm"), number(step, "grad_norm"), 1e-6), "{step}");
        assert!(near(of_parts(step, "param_norm"), number(step, "param_norm"), 1e-6), "{step}");
        // Scores of a new model are nearly even; there are 4 experts in layer 1 and in MTP 1.
        assert_eq!(entropies.len(), 2);
        let most = 4f64.ln();
        assert!(entropies.iter().all(|e| (0.9 * most..=most + 1e-6).contains(e)), "{entropies:?}");
    }
}

#[test]
fn biases_drift_from_one_evaluation_to_the_next() {
    let place = Workplace::new();
    place.train(&format!("{ALL} --run-dir run")).ok();
    let evaluations = lines(&place, "run", "evaluation");
    assert_eq!(evaluations[0]["bias_drift"], serde_json::json!([]));
    let biases = |line: &serde_json::Value| -> Vec<Vec<f32>> {
        serde_json::from_value(line["expert_biases"].clone()).unwrap()
    };
    let mut moved = false;
    for pair in evaluations.windows(2) {
        let drift = numbers(&pair[1]["bias_drift"]);
        let expected: Vec<f64> = biases(&pair[0])
            .iter()
            .zip(biases(&pair[1]))
            .map(|(before, now)| {
                before.iter().zip(&now).map(|(a, b)| f64::from((b - a).abs())).sum::<f64>() / 4.0
            })
            .collect();
        assert_eq!(drift.len(), expected.len());
        assert!(
            drift.iter().zip(&expected).all(|(got, want)| near(*got, *want, 1e-9)),
            "{drift:?}"
        );
        moved |= drift.iter().any(|&drift| drift > 0.0);
    }
    assert!(moved);
}

/// In FP8, and over ranks that share experts: the columns are there, and the same wherever the run
/// was stopped.
#[test]
fn what_is_measured_is_the_same_wherever_a_run_was_stopped() {
    let place = Workplace::new();
    let fp8 = "--set precision.format=fp8";
    let ranks = "--set model.num_hidden_layers=4 --set schedule.global_batch=8 --set \
                 train.micro_batch=1 --set parallel.pipeline=2 --set parallel.expert=2";
    for (run, more) in [("fp8", fp8.to_string()), ("ranks", format!("{fp8} {ranks}"))] {
        place.train(&format!("{ALL} --steps 4 {more} --run-dir {run}")).ok();
        let record = place.record(run);
        for step in lines(&place, run, "step") {
            for cast in CASTS {
                let of = |what: &str| number(&step, &format!("fp8_{cast}_{what}"));
                assert_eq!(of("saturated"), 0.0, "{step}");
                assert!((0.0..0.5).contains(&of("underflowed")), "{step}");
                assert!(of("scale_min") > 0.0 && of("scale_min") < of("scale_max"), "{step}");
            }
        }
        for stop in [1, 3] {
            place.copy(run, "stopped");
            for step in stop + 1..=4 {
                place.remove(&format!("stopped/checkpoints/step-{step:08}"));
            }
            place.run("train --resume stopped").ok();
            assert_eq!(place.record("stopped"), record, "{run} stopped after {stop}");
            place.remove("stopped");
        }
    }
}

#[test]
fn ranks_say_what_they_do() {
    let place = Workplace::new();
    let more = "--set metrics.every=2 --set model.num_hidden_layers=4 --set \
                schedule.global_batch=8 --set train.micro_batch=1 --steps 2 --set \
                output.sample_tokens=0";
    place.train(&format!("{more} --run-dir alone")).ok();
    let alone = &lines(&place, "alone", "step")[1];
    let four = "--set parallel.pipeline=2 --set parallel.expert=2";
    for (run, ranks, layout) in [
        ("folded", 2, "--set parallel.pipeline=2 --set parallel.schedule=dualpipev"),
        ("four", 4, four),
    ] {
        place.train(&format!("{more} {layout} --run-dir {run}")).ok();
        let steps = lines(&place, run, "step");
        assert_eq!(steps[0]["rank_busy_seconds"], serde_json::json!([]));
        let step = &steps[1];
        let [busy, waiting, sent] = ["busy_seconds", "waiting_seconds", "sent_bytes"]
            .map(|what| numbers(&step[format!("rank_{what}")]));
        assert_eq!([busy.len(), waiting.len(), sent.len()], [ranks; 3]);
        let compute = number(step, "compute_seconds");
        for (busy, waiting) in busy.iter().zip(&waiting) {
            assert!(*busy > 0.0 && *waiting >= 0.0 && busy + waiting <= compute, "{step}");
        }
        assert!(sent.iter().all(|&bytes| bytes > 0.0), "{step}");
        assert!(number(step, "forward_seconds") > 0.0 && number(step, "backward_seconds") > 0.0);
        assert_eq!(step["exchange_seconds"].is_null(), run == "folded", "{step}");
        // What two ranks hold counts once: the norms are those of one device.
        for part in PARTS.iter().map(|part| format!("_{part}")).chain([String::new()]) {
            for what in ["grad_norm", "param_norm"].map(|what| format!("{what}{part}")) {
                let (got, want) = (number(step, &what), number(alone, &what));
                assert!(near(got, want, 1e-4), "{what}: {got} instead of {want}");
            }
        }
        let (got, want) = (numbers(&step["gate_entropy"]), numbers(&alone["gate_entropy"]));
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(&want).all(|(got, want)| near(*got, *want, 1e-5)), "{step}");
    }
}
