//! Runs of several processes, which mpirun starts on this machine.

mod ends;
mod layouts;
mod memory;
mod said;
mod sums;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bounded::Bounded;
use crate::workplace::{DEEPSEEK, Finished, Workplace};

/// `mpirun -n COUNT deepseek ...`, on this machine alone.
fn mpirun(place: &Workplace, count: usize, arguments: &str) -> Command {
    let own = place.command("");
    let mut command = Command::new("mpirun");
    command
        .args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"])
        .args(["--mca", "btl", "self,vader", "-n", &count.to_string(), DEEPSEEK])
        .args(arguments.split_whitespace())
        .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(own.get_current_dir().unwrap())
        .stdin(Stdio::null());
    command
}

fn run(place: &Workplace, count: usize, arguments: &str) -> Finished {
    let output = mpirun(place, count, arguments).ended();
    Finished::of(&format!("mpirun -n {count} {arguments}"), output)
}

fn train(place: &Workplace, count: usize, more: &str) -> Finished {
    run(place, count, &format!("train --config ./tiny.toml --device flex {more}"))
}

/// Ended with the code, and one line of standard error is an error that has all the parts;
/// mpirun says more.
fn failed(finished: &Finished, code: i32, parts: &[&str]) {
    assert_eq!(finished.code, Some(code), "{}", finished.dump());
    let errors: Vec<&str> =
        finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("one error: {}", finished.dump()) };
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}: {}", finished.dump());
    }
    assert!(!finished.stderr.contains("panicked"), "{}", finished.dump());
}

fn checkpoint(place: &Workplace, run: &str, step: u64, file: &str) -> Vec<u8> {
    let folder = place.path(run).join(format!("checkpoints/step-{step:08}"));
    fs::read(folder.join(file)).unwrap()
}

fn same_checkpoints(place: &Workplace, one: &str, other: &str, step: u64) {
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let same = checkpoint(place, one, step, file) == checkpoint(place, other, step, file);
        assert!(same, "{one} and {other}: {file} differs");
    }
    let average = |run: &str| {
        let folder = place.path(run).join(format!("checkpoints/step-{step:08}/ema"));
        folder.is_dir().then(|| {
            ["model.safetensors", "config.json"].map(|file| fs::read(folder.join(file)).unwrap())
        })
    };
    assert!(average(one) == average(other), "{one} and {other}: other averages");
}

/// The lines of a run's steps.
fn steps(place: &Workplace, run: &str) -> Vec<Value> {
    place.metrics(run).into_iter().filter(|line| line["kind"] == "step").collect()
}
