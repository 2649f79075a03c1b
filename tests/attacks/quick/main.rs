//! The attacks in short forms; `./attack` has the long ones. `ATTACKS_COUNT` and `ATTACKS_SEED` draw
//! other inputs, and more of them.

// These are tests; a function that they share is not a test, which is all that clippy sees.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// Runs an attack, which must find nothing.
fn finds_nothing(attack: &str, count: u64) {
    let variable = |name| std::env::var(name).ok();
    let count = variable("ATTACKS_COUNT").unwrap_or_else(|| count.to_string());
    let seed = variable("ATTACKS_SEED").unwrap_or_else(|| "1".into());
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_attacks"));
    command.arg(attack).args(["--seed", &seed]);
    if attack == "flips" {
        command.args(["--every", "16", "--large", "200"]);
    } else {
        command.args(["--count", &count]).arg("--keep").arg(folder.path().join("findings"));
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let kept = output.status.success() || {
        let _ = folder.keep();
        false
    };
    assert!(kept, "seed {seed}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Mutated configurations, headers, tokenizers, data and records: each is answered by a value or an
/// error, within ten seconds and a gigabyte, without a panic and without raw control characters.
#[test]
fn mutated_inputs_are_answered() {
    finds_nothing("mutations", 20_000);
}

/// Killed and resumed runs of nine kinds have the record and the weights of those left alone.
#[test]
fn killed_runs_go_on_as_if_nothing_had_been() {
    finds_nothing("kills", 20);
}

/// Each sixteenth bit of a checkpoint's small files.
#[test]
fn flipped_bits_are_noticed() {
    finds_nothing("flips", 0);
}
