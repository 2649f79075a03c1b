//! One training at a time in a folder; whoever reads is not hindered.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::workplace::Workplace;

#[test]
fn a_folder_in_which_another_trains_is_refused_until_that_has_ended() {
    let place = Workplace::new();
    let settings = "--device flex --steps 1000000 --set train.eval_every=0 --set \
                    train.checkpoint_every=20 --set train.keep_checkpoints=100000 --run-dir run";
    let arguments = format!("train --config ./tiny.toml {settings}");
    let mut first = place.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("step     21/")).unwrap().unwrap();
    // Whoever does not read what it says holds it up.
    let reading = std::thread::spawn(move || lines.for_each(drop));

    let who = format!("run: process {} on ", first.id());
    for second in ["--resume run", "--resume run/checkpoints/step-00000020"] {
        let refused = place.run(&format!("train {second} --steps 30 --json"));
        assert_eq!(refused.json()["exit_code"], 2, "{}", refused.dump());
        refused.failed(2, &[&who, ", since 20", " UTC, is training in this folder"]);
    }
    place.train("--run-dir run --steps 1").failed(2, &[&who, "is training in this folder"]);
    for reader in [
        "eval --checkpoint run/checkpoints/step-00000020 --batches 1",
        "generate --checkpoint run/checkpoints/step-00000020 --max-new-tokens 3",
        "check --checkpoint run/checkpoints/step-00000020",
        "export --checkpoint run/checkpoints/step-00000020 --out exported",
    ] {
        place.run(reader).ok();
    }

    // Killed without a chance to let go: the system does.
    first.kill().unwrap();
    first.wait().unwrap();
    reading.join().unwrap();
    let back = "train --resume run/checkpoints/step-00000020 --steps 21 --json";
    assert_eq!(place.run(back).ok().json()["steps"], 21);
    let steps: Vec<u64> =
        place.metrics("run").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=21).chain([21]).collect::<Vec<u64>>(), "steps, and the last evaluation");
}

/// A run that was killed before its first checkpoint has nothing to resume; its folder is no dead
/// end.
#[test]
fn a_folder_without_a_checkpoint_takes_a_run_again() {
    let place = Workplace::new();
    place.train("--run-dir run --steps 2").ok();
    let straight = place.metrics("run");
    fs::rename(
        place.path("run/checkpoints/step-00000002"),
        place.path("run/checkpoints/.step-00000002.partial"),
    )
    .unwrap();
    place
        .run("train --resume run")
        .failed(2, &["run", "no checkpoint here: the run has saved none yet"]);
    let again = place.train("--run-dir run --steps 2").ok();
    let deleted = "deleted     run/checkpoints/.step-00000002.partial";
    assert!(again.stdout.contains(deleted), "{}", again.dump());
    assert_eq!(place.metrics("run"), straight);
    assert_eq!(place.names("run/checkpoints"), ["step-00000002"]);
    assert!(again.stdout.contains("kept        run/metrics.jsonl.1"), "{}", again.dump());
    assert!(place.path("run/metrics.jsonl.1").is_file());
    place.train("--run-dir run").failed(2, &["run already holds a run", "--resume"]);
}

/// A checkpoint that lies alone is not gone on from: the run would be written two folders above it.
#[test]
fn a_checkpoint_outside_of_a_run_is_not_gone_on_from() {
    let place = Workplace::trained();
    place.copy("runs/tiny-001/checkpoints/step-00000006", "alone");
    let refused = place.run("train --resume alone --steps 8");
    refused.failed(2, &["alone: not in the checkpoints of a run", "train.init_from=alone"]);
    place.train("--set train.init_from=alone --steps 1").ok();
}
