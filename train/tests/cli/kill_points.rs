//! A run that is killed at any place between two changes of its files, and goes on: the record and
//! the weights of a run that was not killed, and the events of its record.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::bounded::Bounded;
use crate::workplace::{Finished, Workplace};

/// See `train/src/kill_point.rs`.
const KILL_AT: &str = "DEEPSEEK_TEST_KILL_AT";
/// Checkpoints after steps 2, 4 and 5, of which one is kept; each step of them owes an evaluation.
const RUN: &str = "train --config ./tiny.toml --device flex --steps 5 --set train.eval_every=2 \
                   --set train.eval_batches=1 --set train.checkpoint_every=2 --set \
                   train.keep_checkpoints=1 --set ema.decay=0.5 --set data.builtin_bytes=2000 \
                   --set output.sample_tokens=0 --set output.tensorboard=true";
/// Runs that are killed side by side.
const SIDE_BY_SIDE: usize = 2;

/// Runs the program, which is killed at the given place; whether it came to its end.
fn survives(place: &Workplace, arguments: &str, kill_at: u64) -> bool {
    let output = place.command(arguments).env(KILL_AT, kill_at.to_string()).ended();
    let finished = Finished::of(arguments, output);
    match finished.code {
        None => false,
        Some(_) => {
            finished.ok();
            true
        }
    }
}

/// What goes on with a run, or begins it again where it has no checkpoint yet.
fn next(place: &Workplace, run: &str) -> String {
    let checkpoints = place.path(run).join("checkpoints");
    let saved = checkpoints.is_dir()
        && place.names(&format!("{run}/checkpoints")).iter().any(|name| name.starts_with("step-"));
    if saved { format!("train --resume {run} --device flex") } else { begin(run) }
}

fn begin(run: &str) -> String {
    format!("{RUN} --run-dir {run}")
}

/// The run is what the straight one is, with nothing left half done.
fn assert_whole(place: &Workplace, run: &str, what: &str) {
    assert_eq!(place.record(run), place.record("straight"), "{what}");
    // Beside the record of a run that was killed before it had a checkpoint, which is kept.
    let mut names = place.names(run);
    names.retain(|name| name != "metrics.jsonl.1" && name != "metrics.jsonl.2");
    assert_eq!(names, place.names("straight"), "{what}");
    let newest = "checkpoints/step-00000005";
    assert_eq!(place.names(&format!("{run}/checkpoints")), ["step-00000005"], "{what}");
    // One that was emptied may stand beside the last one.
    let events = place.names(&format!("{run}/tensorboard")).pop().unwrap();
    let exported = format!("events-{run}");
    let told = place.run(&format!("runs export {run} --tensorboard {exported} --json")).ok().json();
    let of = |file: &str| fs::read(place.path(file)).unwrap();
    assert!(
        of(&format!("{run}/tensorboard/{events}")) == of(told["file"].as_str().unwrap()),
        "{what}: {events}"
    );
    place.remove(&exported);
    for file in ["model.safetensors", "optimizer.safetensors", "ema/model.safetensors"] {
        let bytes = |run: &str| fs::read(place.path(run).join(newest).join(file)).unwrap();
        assert!(bytes(run) == bytes("straight"), "{what}: {file}");
    }
}

/// Killed at each place in turn, killed a second time while it goes on, and resumed.
#[test]
fn a_run_that_is_killed_at_any_place_is_made_whole() {
    let place = Workplace::new();
    place.run(&begin("straight")).ok();
    let steps: Vec<(u64, bool)> = place
        .metrics("straight")
        .iter()
        .map(|line| (line["step"].as_u64().unwrap(), line["kind"] == "evaluation"))
        .collect();
    let expected =
        [1, 2, 2, 3, 4, 4, 5, 5].into_iter().zip([0, 0, 1, 0, 0, 1, 0, 1].map(|e| e == 1));
    assert!(steps.iter().copied().eq(expected), "{steps:?}");

    let (next_place, ended) = (AtomicU64::new(1), AtomicBool::new(false));
    let walk = || {
        while !ended.load(Ordering::Relaxed) {
            let at = next_place.fetch_add(1, Ordering::Relaxed);
            let run = format!("killed-{at}");
            if survives(&place, &begin(&run), at) {
                next_place.fetch_min(at, Ordering::Relaxed);
                ended.store(true, Ordering::Relaxed);
                return;
            }
            let again = 1 + at * 7 % 41;
            let what = format!("killed at place {at}, then at {again}");
            if !survives(&place, &next(&place, &run), again) {
                place.run(&next(&place, &run)).ok();
            }
            assert_whole(&place, &run, &what);
            if at % 8 == 0 {
                let metrics = |run: &str| fs::read(place.path(run).join("metrics.jsonl")).unwrap();
                let before = metrics(&run);
                let resumed = place.run(&next(&place, &run)).ok();
                assert!(resumed.stdout.contains("finished    "), "{}", resumed.dump());
                assert!(metrics(&run) == before, "{what}, then resumed at its end");
            }
            place.remove(&run);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(walk);
        }
    });
    let places = next_place.load(Ordering::Relaxed) - 1;
    println!("{places} places");
    assert!((80..300).contains(&places), "{places} places");
}

/// Killed while it goes back to an older checkpoint, and sent back again.
#[test]
fn a_run_that_goes_back_may_be_killed_as_well() {
    let place = Workplace::new();
    let keep = "--set train.keep_checkpoints=9";
    place.run(&format!("{} {keep}", begin("straight"))).ok();
    let (mut killed, mut at) = (true, 0);
    while killed && at < 24 {
        at += 1;
        place.copy("straight", "back");
        let back = "train --resume back/checkpoints/step-00000002 --device flex";
        killed = !survives(&place, back, at);
        if killed {
            place.run(back).ok();
        }
        assert_eq!(place.record("back"), place.record("straight"), "place {at}");
        let names = place.names("back/checkpoints");
        let expected = [
            "step-00000002",
            "step-00000004",
            "step-00000004.set-aside",
            "step-00000005",
            "step-00000005.set-aside",
        ];
        assert_eq!(names, expected, "place {at}");
        place.remove("back");
    }
    assert_eq!(at, 24, "the first step and what comes before it have more places");
}
