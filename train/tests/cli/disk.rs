//! Where nothing can be written: exit code 3, the file named, and what was saved before still
//! whole.

#![cfg(unix)]

use crate::workplace::{Finished, Workplace};

/// Every checkpoint of the run is complete, and the newest can be measured and resumed.
fn nothing_is_lost(place: &Workplace, run: &str, checkpoints: &[&str]) {
    assert_eq!(place.names(&format!("{run}/checkpoints")), checkpoints);
    for checkpoint in checkpoints {
        place.run(&format!("eval --checkpoint {run}/checkpoints/{checkpoint} --batches 1")).ok();
    }
    place.run(&format!("train --resume {run}")).ok();
}

/// A file that cannot grow any more, as on a full disk: 32 blocks are enough for the configuration
/// and not for the weights.
#[test]
fn a_file_that_cannot_grow() {
    let place = Workplace::new();
    place.train("--steps 2 --run-dir run").ok();
    let script = "trap '' XFSZ; ulimit -f 32; exec \"$DEEPSEEK\" train --resume run --steps 6";
    place.shell(script).failed(3, &["step-00000004", "model.safetensors", "File too large"]);
    nothing_is_lost(&place, "run", &["step-00000002"]);
}

/// A tmpfs that fills up at once, or at the third checkpoint, in a mount namespace of its own:
/// nothing is left mounted.
#[test]
fn a_disk_that_is_full() {
    let place = Workplace::new();
    let run = "\"$DEEPSEEK\" train --config ./tiny.toml --set train.keep_checkpoints=9 --run-dir \
               disk/run";
    let list = "cd disk/run/checkpoints && for name in *; do echo \"has $name\"; done";
    let measure = "for name in step-*; do \"$DEEPSEEK\" eval --checkpoint $name --batches 1 \
                   >/dev/null || exit 99; done";
    for (mount, named, kept) in [
        ("size=8k", "metrics.jsonl", ""),
        ("size=12k", "step-00000002", "has *\n"),
        ("size=4m,nr_inodes=6", "step-00000002", "has *\n"),
        ("size=488k", "step-00000006", "has step-00000002\nhas step-00000004\n"),
    ] {
        let measure = if kept.contains("step") { measure } else { "true" };
        // Before the first step there is no folder of checkpoints.
        let list = if kept.is_empty() { "true" } else { list };
        let script = format!(
            "mkdir -p disk && mount -t tmpfs -o {mount} tmpfs disk && {{ {run}; code=$?; \
             {list}; {measure}; exit $code; }}"
        );
        let Some(finished) = in_namespace(&place, &script) else { return };
        finished.failed(3, &[named, "No space left on device"]);
        assert!(finished.stdout.ends_with(kept), "{}", finished.dump());
    }
}

/// Event files are as much of a run as its record is.
#[test]
fn a_disk_that_has_no_room_for_events() {
    let place = Workplace::new();
    let script = "mkdir disk && mount -t tmpfs -o size=12k tmpfs disk && exec \"$DEEPSEEK\" train \
                  --config ./tiny.toml --set output.tensorboard=true --run-dir disk/run";
    let Some(finished) = in_namespace(&place, script) else { return };
    finished.failed(3, &["run/tensorboard/events.out.tfevents", "No space left on device"]);
}

#[test]
fn a_folder_that_is_read_only() {
    let place = Workplace::new();
    let run = "\"$DEEPSEEK\" train --config ./tiny.toml";
    let mount = "mkdir disk && mount -t tmpfs -o ro tmpfs disk";
    for (more, named) in
        [("--run-dir disk/run", "disk/run"), ("--set output.dir=disk", "disk/tiny-001")]
    {
        let Some(finished) = in_namespace(&place, &format!("{mount} && exec {run} {more}")) else {
            return;
        };
        finished.failed(3, &[named, "Read-only file system"]);
        std::fs::remove_dir(place.path("disk")).unwrap();
    }
}

#[test]
fn a_folder_that_is_a_file() {
    let place = Workplace::new();
    place.write("file", "");
    place.train("--run-dir file/run").failed(3, &["file/run", "Not a directory"]);
    place.train("--set output.dir=file").failed(3, &["file", "cannot create"]);
}

#[test]
fn a_standard_output_that_is_full_or_closed() {
    let place = Workplace::trained();
    for command in [
        "check --preset tiny",
        "eval --checkpoint runs/tiny-001",
        "generate --checkpoint runs/tiny-001 --max-new-tokens 3",
    ] {
        place
            .shell(&format!("exec \"$DEEPSEEK\" {command} >/dev/full"))
            .failed(3, &["standard output", "No space left"]);
    }
    // A reader that has seen enough is no mistake, and a training goes on without it.
    let finished = place.shell(
        "\"$DEEPSEEK\" train --config ./tiny.toml --run-dir piped --json | head -n 1; test -f \
         piped/checkpoints/step-00000006/state.json",
    );
    assert!(finished.code == Some(0) && finished.stderr.is_empty(), "{}", finished.dump());
    place
        .shell("exec \"$DEEPSEEK\" train --config ./tiny.toml --run-dir silent >/dev/full")
        .failed(3, &["standard output"]);
    assert!(
        !place.path("silent/checkpoints").exists()
            || place.names("silent/checkpoints").contains(&"step-00000006".into())
    );
}

/// Runs a script where it can mount; none where that is not allowed, which is said.
fn in_namespace(place: &Workplace, script: &str) -> Option<Finished> {
    let unshare = if is_root() { "unshare --mount" } else { "unshare --map-root-user --mount" };
    let probe = place.shell(&format!(
        "mkdir probe && {unshare} mount -t tmpfs tmpfs probe; code=$?; rmdir probe; exit $code"
    ));
    if probe.code != Some(0) {
        println!("skipped: this user cannot mount a file system here ({})", probe.stderr.trim());
        return None;
    }
    place.write("script.sh", script);
    Some(place.shell(&format!("exec {unshare} sh ./script.sh")))
}

fn is_root() -> bool {
    let id = std::process::Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
