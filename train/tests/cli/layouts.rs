//! Runs over several ranks: their losses, their checkpoints, which know no layout, and their
//! timeline.

use serde_json::Value;

use crate::workplace::Workplace;

/// The losses of a run's steps.
fn losses(place: &Workplace, run: &str) -> Vec<f64> {
    let steps = place.metrics(run).into_iter().filter(|line| line["kind"] == "step");
    steps.map(|line| line["loss"].as_f64().unwrap_or_else(|| panic!("{line}"))).collect()
}

const EIGHT_MICRO_BATCHES: &str = "--set schedule.global_batch=8 --set train.micro_batch=1";

#[test]
fn a_checkpoint_of_one_layout_goes_on_under_another() {
    let place = Workplace::new();
    let more = format!(
        "{EIGHT_MICRO_BATCHES} --set model.num_hidden_layers=4 --set train.checkpoint_every=3"
    );
    place.train(&format!("{more} --run-dir alone")).ok();
    let alone = losses(&place, "alone");
    assert_eq!(alone.len(), 6);

    // Three steps on one device, then as a pipeline, then the other way round: one direction gives
    // the same bits.
    place.copy("alone", "begun");
    place.remove("begun/checkpoints/step-00000006");
    let pipeline = "--set parallel.pipeline=2 --set parallel.schedule=dualpipev";
    place.run(&format!("train --resume begun {pipeline}")).ok();
    assert_eq!(losses(&place, "begun"), alone);
    place.train(&format!("{more} {pipeline} --run-dir folded")).ok();
    assert_eq!(losses(&place, "folded"), alone);
    place.remove("folded/checkpoints/step-00000006");
    place.run("train --resume folded --set parallel.pipeline=1").ok();
    assert_eq!(losses(&place, "folded"), alone);

    // Both directions and shared experts add up in another order.
    place.remove("folded/checkpoints/step-00000006");
    place
        .run(
            "train --resume folded --set parallel.pipeline=2 --set parallel.schedule=dualpipe \
               --set parallel.expert=2",
        )
        .ok();
    for (got, want) in losses(&place, "folded").into_iter().zip(&alone) {
        assert!((got / want - 1.0).abs() < 1e-5, "{got} instead of {want}");
    }
}

#[test]
fn a_trace_has_what_was_measured_beside_what_was_to_be_expected() {
    let place = Workplace::new();
    let more = "--set parallel.pipeline=2 --set schedule.global_batch=8 --set train.micro_batch=1 \
                --steps 2 --trace trace.json --json";
    let finished = place.train(more).ok();
    let results = finished.json();
    let timeline = &results["timeline"];
    let numbers = |key: &str| -> Vec<f64> {
        serde_json::from_value(timeline[key].clone())
            .unwrap_or_else(|error| panic!("{key}: {error}"))
    };
    let makespan = timeline["makespan"].as_f64().unwrap();
    for (busy, idle) in numbers("busy").into_iter().zip(numbers("idle")) {
        assert!(busy > 0.0 && idle >= 0.0 && (busy + idle - makespan).abs() < 1e-6, "{timeline}");
    }
    assert_eq!((numbers("idle").len(), numbers("idle_simulated").len()), (2, 2));
    assert!(
        timeline["idle_formula"].as_f64().unwrap() >= 0.0
            && timeline["costs"]["forward"].as_f64().unwrap() > 0.0,
        "{timeline}"
    );
    assert!(
        finished.stdout.contains("simulated     formula")
            && finished.stdout.contains("trace       trace.json"),
        "{}",
        finished.dump()
    );

    let trace: Value =
        serde_json::from_slice(&std::fs::read(place.path("trace.json")).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    // Eight micro-batches go forward and backward on both ranks.
    for process in [0, 1] {
        let slices = events.iter().filter(|event| {
            event["ph"] == "X" && event["pid"] == process && event["name"] != "wait"
        });
        let passes: usize =
            slices.map(|event| event["name"].as_str().unwrap().matches(['F', 'B']).count()).sum();
        assert_eq!(passes, 2 * 8 * 2, "process {process}");
    }
    let unwritten = place
        .train("--set parallel.pipeline=2 --set train.micro_batch=1 --steps 1 --trace /dev/full");
    assert!(
        unwritten.stdout.contains("checkpoint  runs/")
            && unwritten.stdout.contains("timeline    rank"),
        "{}",
        unwritten.dump()
    );
    unwritten.failed(3, &["/dev/full: cannot write the trace"]);
    place.train("--trace other.json").failed(2, &["--trace", "parallel.pipeline"]);
}
