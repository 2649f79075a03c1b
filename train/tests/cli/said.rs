//! What a run says of itself: its configuration, its speed, what it has left to do, how it failed.

use std::fs;

use crate::workplace::{Workplace, number};

/// What is no default, section by section; the file has all of it and is a run file.
#[test]
fn a_run_says_what_of_its_configuration_is_no_default() {
    let place = Workplace::new();
    let finished = place.run("train --steps 1 --set train.eval_batches=1 --set ema.decay=0.5").ok();
    let (said, _) = finished.stdout.split_once("\nmodel  ").unwrap();
    for part in ["[model] preset = \"quickstart\"", "[train] ", "steps = 1", "[ema] decay = 0.5"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(!said.contains("kv_lora_rank") && !said.contains("beta1"), "{said}");
    assert!(said.lines().count() < 16, "{said}");
    let stored = fs::read_to_string(place.path("runs/quickstart-001/run.toml")).unwrap();
    assert!(stored.contains("kv_lora_rank") && stored.contains("beta1"), "{stored}");
}

/// Paths of a run do not depend on the folder that it was started or resumed in.
#[test]
fn paths_are_stored_absolute_on_every_way_in() {
    let place = Workplace::new();
    for name in ["one.txt", "two.txt"] {
        place.write(name, "To be, or not to be: that is the question. ".repeat(20));
    }
    place.train("--steps 1 --data one.txt --run-dir run").ok();
    let stored = |step: u64| {
        let file = format!("run/checkpoints/step-{step:08}/run.toml");
        fs::read_to_string(place.path(&file)).unwrap()
    };
    let absolute = |name: &str| format!("{:?}", place.path(name).canonicalize().unwrap());
    assert!(stored(1).contains(&absolute("one.txt")), "{}", stored(1));
    place.run("train --resume run --steps 2 --data two.txt --set train.init_from=none").ok();
    assert!(stored(2).contains(&absolute("two.txt")), "{}", stored(2));
    place.run("train --resume run --steps 3 --set data.source=one.txt").ok();
    assert!(stored(3).contains(&absolute("one.txt")), "{}", stored(3));
}

/// The speed is this session's, and so are the tokens and seconds beside it.
#[test]
fn speed_is_of_the_session_and_the_run_is_told_apart() {
    let place = Workplace::trained();
    let finished = place.run("train --resume runs/tiny-001 --steps 8 --json").ok();
    let results = finished.json();
    assert_eq!(results["tokens"], 8 * 64);
    assert_eq!(results["session_tokens"], 2 * 64);
    let speed = number(&results, "session_tokens") / number(&results, "session_seconds");
    assert!((speed / number(&results, "tokens_per_second") - 1.0).abs() < 1e-9, "{results}");
    assert!(number(&results, "seconds") > number(&results, "session_seconds"), "{results}");
    let line = |label: &str| finished.stdout.lines().find(|line| line.starts_with(label));
    assert!(line("speed  ").unwrap().contains(" 128 tokens in "), "{}", finished.dump());
    assert!(line("in all  ").unwrap().contains(" 512 tokens in "), "{}", finished.dump());
}

/// A run that has made more steps than it is asked for says so, trains nothing and saves nothing.
#[test]
fn fewer_steps_than_are_done_are_said() {
    let place = Workplace::trained();
    let before = place.names("runs/tiny-001/checkpoints");
    let configured = std::fs::read(place.path("runs/tiny-001/run.toml")).unwrap();
    for (steps, end) in [("--steps 4", "after step 4"), ("", "after step 6")] {
        let finished = place.run(&format!("train --resume runs/tiny-001 {steps} --json")).ok();
        let text = finished.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains(&format!("finished the run was to end {end} and has made 6")),
            "{}",
            finished.dump()
        );
        let results = finished.json();
        assert_eq!((&results["steps"], &results["session_tokens"]), (&6.into(), &0.into()));
        assert!(results["tokens_per_second"].is_null() && number(&results, "valid_loss") > 0.0);
        assert_eq!(results["checkpoint"], "runs/tiny-001/checkpoints/step-00000006");
        assert_eq!(place.names("runs/tiny-001/checkpoints"), before);
        assert_eq!(std::fs::read(place.path("runs/tiny-001/run.toml")).unwrap(), configured);
    }
    let listed = place.run("runs list --json").ok().json();
    assert_eq!(listed["runs"][0]["planned_steps"], 6);
}

/// What diverged is what is not finite, and a checkpoint is named where there is one.
#[test]
fn a_diverged_run_says_what_is_left() {
    let place = Workplace::new();
    let wild = "--steps 40 --set schedule.lr=1e30 --set optimizer.clip_grad_norm=0 --set \
                train.eval_every=0";
    let finished = place.train(&format!("{wild} --set train.checkpoint_every=0 --json"));
    finished.failed(3, &["training has diverged", "nothing had been saved before it"]);
    assert!(!finished.stderr.contains("last good checkpoint"), "{}", finished.dump());

    place.train("--steps 2 --run-dir run").ok();
    let resumed = place.run(&format!("train --resume run {wild} --set train.checkpoint_every=0"));
    resumed.failed(3, &["diverged; the last good checkpoint is run/checkpoints/step-00000002"]);
}

/// Perplexity and bits are those of the loss, not of the four decimals that are shown.
#[test]
fn plain_lines_are_exact() {
    let place = Workplace::new();
    let finished = place.train("--set train.eval_batches=3 --plain --json").ok();
    let metrics = place.metrics("runs/tiny-001");
    let evaluations: Vec<_> = metrics.iter().filter(|line| line["kind"] == "evaluation").collect();
    let lines: Vec<&str> =
        finished.stdout.lines().filter(|line| line.contains("validation loss")).collect();
    assert_eq!((evaluations.len(), lines.len()), (2, 2), "{}", finished.dump());
    for (evaluation, line) in evaluations.into_iter().zip(lines) {
        let loss = number(evaluation, "valid_loss");
        let text = format!("loss {loss:.4} nats, perplexity {:.3}, ", loss.exp());
        assert!(line.contains(&text), "{text} is not in {line}");
    }
}

/// A placement with two replicas of an expert on a GPU says so, and parts them where it is asked to.
#[test]
fn replicas_that_share_a_gpu_are_said() {
    let place = Workplace::new();
    let loads = r#"{"layer_loads": [{"layer": 1, "loads": [9, 5, 1, 3]}]}"#;
    place.write("loads.json", loads);
    let plan = "plan experts --loads loads.json --replicas 6 --gpus 2 --json";
    let published = place.run(plan).ok();
    let text = published.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("layer 1: 2 of expert 1 on GPU 1") && text.contains("--distinct"),
        "{}",
        published.dump()
    );
    let layer = &published.json()["layers"][0];
    assert_eq!(layer["phy2log"], serde_json::json!([0, 3, 2, 0, 1, 1]));
    assert_eq!(layer["avoidable_duplicates"], 1);
    let distinct = place.run(&format!("{plan} --distinct")).ok();
    assert!(!distinct.stdout.contains("twice"), "{}", distinct.dump());
    assert_eq!(distinct.json()["layers"][0]["phy2log"], serde_json::json!([0, 1, 2, 0, 1, 3]));
}
