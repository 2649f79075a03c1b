//! A run that was stopped goes on as if it had not been: the very same losses and the very same weights.

use std::fs;

use crate::workplace::Workplace;

/// Both runs have the same metrics, and the same weights and moments at their last checkpoint.
fn assert_same(place: &Workplace, one: &str, other: &str, steps: u64) {
    let (a, b) = (place.metrics(one), place.metrics(other));
    assert_eq!(a.iter().filter(|line| line["lr"].is_number()).count() as u64, steps);
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a, b);
    }
    assert_eq!(a.len(), b.len());
    for file in ["model.safetensors", "optimizer.safetensors", "config.json"] {
        let bytes = |run: &str| fs::read(place.path(run).join(format!("checkpoints/step-{steps:08}/{file}"))).unwrap();
        assert!(bytes(one) == bytes(other), "{file} differs");
    }
}

/// Two micro-batches a step; the checkpoint lies between two evaluations, so the second part begins inside an epoch of the learner.
#[test]
fn a_resumed_run_has_the_same_losses_bit_for_bit() {
    let place = Workplace::new();
    let settings = "--steps 20 --set train.eval_every=7 --set train.checkpoint_every=10 --run-dir straight --json";
    place.train(settings).ok();
    place.copy("straight", "resumed");
    place.remove("resumed/checkpoints/step-00000020");
    let resumed = place.run("train --resume resumed --json").ok();
    assert!(resumed.stdout.contains("after step 10"), "{}", resumed.dump());
    assert_eq!(resumed.json()["steps"], 20);
    assert_same(&place, "straight", "resumed", 20);
    let steps: Vec<u64> = place.metrics("resumed").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(&steps[6..9], [7, 7, 8], "an evaluation follows step 7");
}

/// One micro-batch a step, and a budget that is raised: ten steps, then ten more.
#[test]
fn a_finished_run_can_be_prolonged() {
    let place = Workplace::new();
    let settings = "--set train.global_batch=2 --set train.eval_every=5 --set optimizer.schedule=constant --set optimizer.warmup_steps=3";
    place.train(&format!("{settings} --steps 20 --run-dir straight")).ok();
    place.train(&format!("{settings} --steps 10 --run-dir prolonged")).ok();
    place.run("train --resume prolonged --steps 20").ok();
    assert_same(&place, "straight", "prolonged", 20);
}

#[test]
fn a_finished_run_that_is_resumed_measures_and_ends() {
    let place = Workplace::trained();
    let before = place.metrics("runs/tiny-001");
    let results = place.run("train --resume --json").ok().json();
    assert_eq!((&results["steps"], &results["interrupted"]), (&6.into(), &false.into()));
    assert_eq!(results["valid_loss"], before.last().unwrap()["valid"]["loss"]);
}

/// Going back to an older checkpoint begins another history; what the first one had saved later must not be taken for its continuation.
#[test]
fn going_back_sets_later_checkpoints_aside() {
    let place = Workplace::trained();
    let run = "runs/tiny-001";
    place.copy(run, "before");
    assert_eq!(place.names("before/checkpoints"), ["step-00000004", "step-00000006"]);
    let results = place.run(&format!("train --resume {run}/checkpoints/step-00000004 --steps 5 --json")).ok().json();
    assert_eq!(results["steps"], 5);
    assert_eq!(place.names(&format!("{run}/checkpoints")), ["step-00000004", "step-00000005", "step-00000006.set-aside"]);
    let eval = place.run(&format!("eval --checkpoint {run} --json")).ok().json();
    assert_eq!(eval["step"], 5);
    let aside = format!("{run}/checkpoints/step-00000006.set-aside");
    assert_eq!(place.run(&format!("eval --checkpoint {aside} --json")).ok().json()["step"], 6);
}

#[cfg(unix)]
mod signals {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::workplace::Finished;

    /// Runs until a line begins with `until`, sends the signal, and waits for the end.
    fn interrupted(place: &Workplace, arguments: &str, until: &str, signal: &str) -> Finished {
        let mut child = place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (mut seen, mut rest) = (String::new(), String::new());
        while !seen.lines().last().is_some_and(|line| line.starts_with(until)) {
            assert!(out.read_line(&mut seen).unwrap() > 0, "{until:?} never came: {seen}");
        }
        let killed = Command::new("sh").args(["-c", &format!("kill -s {signal} {}", child.id())]).status().unwrap();
        assert!(killed.success());
        out.read_to_string(&mut rest).unwrap();
        let mut output = child.wait_with_output().unwrap();
        output.stdout = (seen + &rest).into_bytes();
        Finished::of(arguments, output)
    }

    #[test]
    fn a_signal_saves_says_where_and_loses_nothing() {
        let place = Workplace::new();
        let settings = "--steps 40 --set train.eval_every=15 --set train.checkpoint_every=0 --json";
        place.train(&format!("{settings} --run-dir straight")).ok();

        let first = interrupted(&place, &format!("train --config ./tiny.toml {settings} --run-dir stopped"), "step      3/", "INT");
        let second = interrupted(&place, "train --resume stopped --json", "step     18/", "TERM");
        for (finished, least) in [(first, 3), (second, 18)] {
            assert_eq!(finished.code, Some(130), "{}", finished.dump());
            assert!(finished.stderr.starts_with("stopping after this step and saving"), "{}", finished.dump());
            let results = finished.json();
            let step = results["steps"].as_u64().unwrap();
            assert!((least..40).contains(&step), "{}", finished.dump());
            assert_eq!(results["interrupted"], true);
            let saved = format!("stopped/checkpoints/step-{step:08}");
            assert_eq!(results["checkpoint"], saved.as_str());
            assert!(finished.stdout.contains(&saved) && place.path(&saved).join("state.json").is_file(), "{}", finished.dump());
        }
        place.run("train --resume stopped").ok();
        assert_same(&place, "straight", "stopped", 40);
    }

    #[test]
    fn a_comparison_that_is_interrupted_keeps_what_it_has() {
        let place = Workplace::new();
        let arguments = "compare-precision --config ./tiny.toml --set train.steps=600 --runs f32,bf16,fp8 --out out --json";
        let finished = interrupted(&place, arguments, "run 2 of 3: bf16", "INT");
        assert_eq!(finished.code, Some(130), "{}", finished.dump());
        let results = finished.json();
        let ended: Vec<_> = results["runs"].as_array().unwrap().iter().map(|run| run["ended"].as_str().unwrap()).collect();
        // The signal comes before the second run's first step or after it; either way the third is not begun.
        assert_eq!((ended, &results["interrupted"]), (vec!["complete", "interrupted"], &true.into()), "{}", finished.dump());
        let table = fs::read_to_string(place.path("out/compare-precision.md")).unwrap();
        assert!(table.contains("**Interrupted**: 2 of 3 runs") && table.contains("| bf16 (interrupted after"), "{table}");
        assert!(finished.stdout.contains("interrupted: 2 of 3 runs"), "{}", finished.dump());
    }

    #[test]
    fn generate_stops_at_a_token() {
        let place = Workplace::new();
        place.train("--steps 1 --set model.max_position_embeddings=100000").ok();
        let mut child = place
            .command("generate --checkpoint runs/tiny-001 --max-new-tokens 90000 --temperature 5 --json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        Command::new("sh").args(["-c", &format!("kill -s INT {}", child.id())]).status().unwrap();
        let mut output = child.wait_with_output().unwrap();
        output.stdout.insert(0, byte[0]);
        let finished = Finished::of("generate", output);
        let results = finished.json();
        // A token that ends the text may be drawn before the signal arrives; then there is nothing to stop.
        let expected = if results["interrupted"] == true { 130 } else { 0 };
        assert_eq!(finished.code, Some(expected), "{}", finished.dump());
        assert!(results["tokens"].as_u64().unwrap() < 90_000);
    }
}
