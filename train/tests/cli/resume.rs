//! A run that was stopped goes on as if it had not been: the very same losses and the very same
//! weights.

use std::fs;

use crate::workplace::Workplace;

/// Both runs have the same metrics, and the same weights and moments at their last checkpoint.
fn assert_same(place: &Workplace, one: &str, other: &str, steps: u64) {
    let (a, b) = (place.metrics(one), place.metrics(other));
    assert_eq!(a.iter().filter(|line| line["kind"] == "step").count() as u64, steps);
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a, b);
    }
    assert_eq!(a.len(), b.len());
    let checkpoint = |run: &str| place.path(run).join(format!("checkpoints/step-{steps:08}"));
    let averaged = checkpoint(one).join("ema").exists();
    assert_eq!(averaged, checkpoint(other).join("ema").exists());
    let average: &[&str] = if averaged { &["ema/model.safetensors"] } else { &[] };
    for file in ["model.safetensors", "optimizer.safetensors", "config.json"].iter().chain(average)
    {
        let bytes = |run: &str| fs::read(checkpoint(run).join(file)).unwrap();
        assert!(bytes(one) == bytes(other), "{file} differs");
    }
}

/// Two micro-batches a step; the checkpoint lies between two evaluations, so the second part begins
/// inside an epoch of the learner.
#[test]
fn a_resumed_run_has_the_same_losses_bit_for_bit() {
    let place = Workplace::new();
    let settings = "--steps 20 --set train.eval_every=7 --set train.checkpoint_every=10 --run-dir \
                    straight --json";
    place.train(settings).ok();
    place.copy("straight", "resumed");
    place.remove("resumed/checkpoints/step-00000020");
    let resumed = place.run("train --resume resumed --json").ok();
    assert!(resumed.stdout.contains("after step 10"), "{}", resumed.dump());
    assert_eq!(resumed.json()["steps"], 20);
    assert_same(&place, "straight", "resumed", 20);
    let steps: Vec<u64> =
        place.metrics("resumed").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(&steps[6..9], [7, 7, 8], "an evaluation follows step 7");
}

/// An average that is updated every third step, and a stop in between two updates.
#[test]
fn an_average_is_resumed_bit_for_bit() {
    let place = Workplace::new();
    let settings =
        "--steps 20 --set ema.decay=0.9 --set ema.every=3 --set train.checkpoint_every=10";
    place.train(&format!("{settings} --run-dir straight")).ok();
    place.copy("straight", "resumed");
    place.remove("resumed/checkpoints/step-00000020");
    place.run("train --resume resumed").ok();
    assert_same(&place, "straight", "resumed", 20);
    // Without an average the weights are the same: it only watches.
    place.train("--steps 20 --set train.checkpoint_every=10 --run-dir plain").ok();
    let weights = |run: &str| {
        fs::read(place.path(run).join("checkpoints/step-00000020/model.safetensors")).unwrap()
    };
    assert!(weights("straight") == weights("plain"));
    // It can begin and end where a run is resumed.
    place.run("train --resume plain --steps 22 --set ema.decay=0.9").ok();
    assert!(place.path("plain/checkpoints/step-00000022/ema/model.safetensors").is_file());
    place.run("train --resume plain --steps 24 --set ema.decay=none").ok();
    assert!(!place.path("plain/checkpoints/step-00000024/ema").exists());
}

/// All that changes in the course of a run at once: a batch that ramps by tokens, a learning rate
/// by steps and by percent, gamma, alpha and lambda that are switched off, moments in BF16, an
/// average every second step; stopped in the middle of the ramp.
#[test]
fn a_run_is_resumed_in_the_middle_of_everything() {
    let place = Workplace::new();
    let toml = fs::read_to_string(place.path("tiny.toml")).unwrap();
    let (head, output) = toml.split_once("[schedule]").unwrap();
    let schedule = r#"[schedule]
lr = [
    { until = "5 steps", to = 1e-2 },
    { until = "60%", at = 1e-2 },
    { to = 1e-3, shape = "cosine" },
]
global_batch = [{ until = 1000, from = 2, to = 10 }, { at = 6 }]
bias_update_speed = [{ until = "80%", at = 1e-2 }, { at = 0 }]
seq_aux_alpha = [{ until = "8 steps", at = 1e-2 }, { at = 0 }]
mtp_lambda = [{ until = 700, at = 0.5 }, { to = 0.1 }]
[optimizer]
moments = "bf16"
[ema]
decay = 0.9
every = 2
"#;
    let output = output.split_once("[output]").unwrap().1;
    place.write(
        "course.toml",
        format!("{}{schedule}[output]{output}", head.replace("steps = 6", "tokens = \"1.9K\"")),
    );
    let checked = place.run("check --config ./course.toml --json").ok();
    let steps = checked.json()["steps"].as_u64().unwrap();
    for heading in ["lambda", "schedule"] {
        assert!(checked.stdout.contains(heading), "{}", checked.dump());
    }
    place
        .run(
            "train --config ./course.toml --set train.checkpoint_every=1 --set \
               train.keep_checkpoints=99 --run-dir straight",
        )
        .ok();
    let lines = place.metrics("straight");
    let of =
        |key: &str| -> Vec<f64> { lines.iter().filter_map(|line| line[key].as_f64()).collect() };
    // Batches of 2 to 10 sequences of 16 tokens, in pairs, then of 6; rates up to their peak and
    // down again.
    let expected = [(32, 8), (64, 4), (96, 3), (128, 2), (96, 8)]
        .map(|(tokens, steps)| vec![f64::from(tokens); steps])
        .concat();
    assert_eq!(of("batch_tokens"), expected);
    assert!(
        of("lr")[..5] == [2e-3, 4e-3, 6e-3, 8e-3, 1e-2] && of("lr").last().unwrap() < &2e-3,
        "{:?}",
        of("lr")
    );
    for stop in [4, 13, steps - 2] {
        let run = format!("stopped-{stop}");
        place.copy("straight", &run);
        for step in stop + 1..=steps {
            place.remove(&format!("{run}/checkpoints/step-{step:08}"));
        }
        let resumed = place.run(&format!("train --resume {run}")).ok();
        assert!(resumed.stdout.contains(&format!("after step {stop}")), "{}", resumed.dump());
        assert_same(&place, "straight", &run, steps);
    }
}

/// A checkpoint holds the moments in their own type; with the other one it is converted, and the
/// run goes on.
#[test]
fn moments_are_converted_where_a_run_goes_on_with_the_other_type() {
    let place = Workplace::new();
    place.train("--steps 4 --set train.keep_checkpoints=9 --run-dir run").ok();
    let size = |step: u64| {
        fs::metadata(place.path(&format!("run/checkpoints/step-{step:08}/optimizer.safetensors")))
            .unwrap()
            .len()
    };
    let stored = fs::read_to_string(place.path("run/checkpoints/step-00000004/run.toml")).unwrap();
    assert!(stored.contains("moments = \"bf16\""), "a run says what it took: {stored}");
    place.run("train --resume run --steps 5 --set optimizer.moments=f32").ok();
    assert!(size(5) > size(4) * 3 / 2, "{} and {} bytes", size(4), size(5));
    place.run("train --resume run --steps 6 --set optimizer.moments=bf16").ok();
    assert_eq!(size(6), size(4));
}

/// One micro-batch a step, and a budget that is raised: ten steps, then ten more.
#[test]
fn a_finished_run_can_be_prolonged() {
    let place = Workplace::new();
    let settings = "--set schedule.global_batch=2 --set train.eval_every=5 --set \
                    schedule.lr=[{until=\"3steps\",to=1e-2},{at=1e-2}]";
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
    assert_eq!(results["valid_loss"], before.last().unwrap()["valid_loss"]);
}

/// The newest run is meant where none is named. One that has saved nothing cannot go on, and an older
/// one is not trained further in its place.
#[test]
fn an_older_run_is_not_gone_on_with_unasked() {
    let place = Workplace::trained();
    place.train("--steps 2 --set train.checkpoint_every=0 --set train.eval_every=0").ok();
    place.remove("runs/tiny-002/checkpoints");
    let refused = place.run("train --resume --steps 8");
    refused.failed(2, &["runs/tiny-002, has saved no checkpoint", "--resume runs/tiny-001"]);
    assert_eq!(place.names("runs/tiny-001/checkpoints"), ["step-00000004", "step-00000006"]);
    place.run("train --resume runs/tiny-001 --steps 7").ok();
}

/// What is held out of a text is what was held out at the beginning, or a loss on it would say
/// nothing; what a run has from its beginning cannot be changed.
#[test]
fn settings_of_a_runs_beginning_stay() {
    let place = Workplace::trained();
    let resume = "train --resume runs/tiny-001 --steps 7";
    for setting in ["data.seed=9", "data.valid_fraction=0.4", "data.split=position"] {
        let key = setting.split_once('=').unwrap().0;
        let refused = place.run(&format!("{resume} --set {setting}"));
        refused.failed(2, &["has changed since it was saved", key, "--allow-changed-data"]);
    }
    for setting in [
        "output.run_dir=there",
        "output.name=other",
        "train.init_from=runs/tiny-001",
        "train.seed=9",
    ] {
        let key = setting.split_once('=').unwrap().0;
        place.run(&format!("{resume} --set {setting}")).failed(2, &[key, "from its beginning"]);
    }
    let changed = place.run(&format!("{resume} --set data.seed=9 --allow-changed-data")).ok();
    assert!(changed.stdout.contains("data.seed from 0 to 9"), "{}", changed.dump());
}

/// Going back to an older checkpoint begins another history; what the first one had saved later
/// must not be taken for its continuation.
#[test]
fn going_back_sets_later_checkpoints_aside() {
    let place = Workplace::trained();
    let run = "runs/tiny-001";
    place.copy(run, "before");
    assert_eq!(place.names("before/checkpoints"), ["step-00000004", "step-00000006"]);
    let results = place
        .run(&format!("train --resume {run}/checkpoints/step-00000004 --steps 5 --json"))
        .ok()
        .json();
    assert_eq!(results["steps"], 5);
    assert_eq!(
        place.names(&format!("{run}/checkpoints")),
        ["step-00000004", "step-00000005", "step-00000006.set-aside"]
    );
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
    use crate::bounded::outcome;
    use crate::workplace::Finished;

    /// Runs until a line begins with `until`, sends the signal, and waits for the end.
    fn interrupted(place: &Workplace, arguments: &str, until: &str, signal: &str) -> Finished {
        let mut child =
            place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (mut seen, mut rest) = (String::new(), String::new());
        while !seen.lines().last().is_some_and(|line| line.starts_with(until)) {
            assert!(out.read_line(&mut seen).unwrap() > 0, "{until:?} never came: {seen}");
        }
        let killed = Command::new("sh")
            .args(["-c", &format!("kill -s {signal} {}", child.id())])
            .status()
            .unwrap();
        assert!(killed.success());
        out.read_to_string(&mut rest).unwrap();
        let mut output = outcome(child, arguments);
        output.stdout = (seen + &rest).into_bytes();
        Finished::of(arguments, output)
    }

    #[test]
    fn a_signal_saves_says_where_and_loses_nothing() {
        let place = Workplace::new();
        let settings =
            "--steps 300 --set train.eval_every=110 --set train.checkpoint_every=0 --json";
        place.train(&format!("{settings} --run-dir straight")).ok();

        let first = interrupted(
            &place,
            &format!("train --config ./tiny.toml {settings} --run-dir stopped"),
            "step      3/",
            "INT",
        );
        let second = interrupted(&place, "train --resume stopped --json", "step    160/", "TERM");
        for (finished, least) in [(first, 3), (second, 160)] {
            assert_eq!(finished.code, Some(130), "{}", finished.dump());
            assert!(
                finished.stderr.starts_with("stopping after this step and saving"),
                "{}",
                finished.dump()
            );
            let results = finished.json();
            let step = results["steps"].as_u64().unwrap();
            assert!((least..300).contains(&step), "{}", finished.dump());
            assert_eq!(results["interrupted"], true);
            let saved = format!("stopped/checkpoints/step-{step:08}");
            assert_eq!(results["checkpoint"], saved.as_str());
            assert!(
                finished.stdout.contains(&saved) && place.path(&saved).join("state.json").is_file(),
                "{}",
                finished.dump()
            );
        }
        place.run("train --resume stopped").ok();
        assert_same(&place, "straight", "stopped", 300);
    }

    #[test]
    fn a_comparison_that_is_interrupted_keeps_what_it_has() {
        let place = Workplace::new();
        let arguments = "compare-precision --config ./tiny.toml --set train.steps=600 --runs \
                         f32,bf16,fp8 --out out --json";
        let finished = interrupted(&place, arguments, "run 2 of 3: bf16", "INT");
        assert_eq!(finished.code, Some(130), "{}", finished.dump());
        let results = finished.json();
        let ended: Vec<_> = results["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["ended"].as_str().unwrap())
            .collect();
        // The signal comes before the second run's first step or after it; either way the third is
        // not begun.
        assert_eq!(
            (ended, &results["interrupted"]),
            (vec!["complete", "interrupted"], &true.into()),
            "{}",
            finished.dump()
        );
        let table = fs::read_to_string(place.path("out/compare-precision.md")).unwrap();
        assert!(
            table.contains("**Interrupted**: 2 of 3 runs")
                && table.contains("| bf16 (interrupted after"),
            "{table}"
        );
        assert!(finished.stdout.contains("interrupted: 2 of 3 runs"), "{}", finished.dump());
    }

    #[test]
    fn generate_stops_at_a_token() {
        let place = Workplace::new();
        place.train("--steps 1 --set model.max_position_embeddings=100000").ok();
        let mut child = place
            .command(
                "generate --checkpoint runs/tiny-001 --max-new-tokens 90000 --temperature 5 --json",
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        Command::new("sh").args(["-c", &format!("kill -s INT {}", child.id())]).status().unwrap();
        let mut output = outcome(child, "generate");
        output.stdout.insert(0, byte[0]);
        let finished = Finished::of("generate", output);
        let results = finished.json();
        // A token that ends the text may be drawn before the signal arrives; then there is nothing
        // to stop.
        let expected = if results["interrupted"] == true { 130 } else { 0 };
        assert_eq!(finished.code, Some(expected), "{}", finished.dump());
        assert!(results["tokens"].as_u64().unwrap() < 90_000);
    }
}
