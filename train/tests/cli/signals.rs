//! Ctrl-C and SIGTERM in every phase: at once where nothing can be lost, saved where something can.

use std::io::{BufRead, BufReader, Read};
#[cfg(target_os = "linux")]
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bounded::outcome;
use crate::workplace::{Finished, Workplace};

/// How long a program may go on after a signal that ends it at once.
const AT_ONCE: Duration = Duration::from_secs(3);

fn spawn(place: &Workplace, arguments: &str) -> Child {
    place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, signal: &str) {
    let kill = format!("kill -s {signal} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// Sends the signal after a while, and waits for the end: how long that took.
fn after(place: &Workplace, arguments: &str, wait: Duration, name: &str) -> (Finished, Duration) {
    let mut child = spawn(place, arguments);
    std::thread::sleep(wait);
    assert!(child.try_wait().unwrap().is_none(), "{arguments}: it ended before the signal");
    signal(&child, name);
    let begun = Instant::now();
    let output = outcome(child, arguments);
    (Finished::of(arguments, output), begun.elapsed())
}

/// Reading data, drawing weights, timing: nothing can be lost. (Planning takes a second at most.)
#[test]
fn a_signal_ends_at_once_what_loses_nothing() {
    let place = Workplace::trained();
    let much = "--set data.builtin_bytes=900000000";
    let large = "--set model.hidden_size=4096 --set model.intermediate_size=16384 --set \
                 model.num_hidden_layers=12 --set model.num_attention_heads=8 --allow-oversize";
    let wait = Duration::from_millis(700);
    for (arguments, name) in [
        (format!("train --config ./tiny.toml {much} --run-dir none --json"), "INT"),
        (format!("train --config ./tiny.toml {large} --run-dir none --json"), "TERM"),
        (format!("train --resume runs/tiny-001 {much} --json"), "INT"),
        (format!("compare-precision --config ./tiny.toml {much} --out none --json"), "TERM"),
        ("bench train --reps 100000 --json".into(), "INT"),
    ] {
        let (finished, took) = after(&place, &arguments, wait, name);
        assert_eq!(finished.code, Some(130), "{}", finished.dump());
        assert!(took < AT_ONCE, "{arguments}: {took:?}");
        let object = finished.json();
        assert_eq!((&object["error"], &object["exit_code"]), (&"interrupted".into(), &130.into()));
        assert_eq!(finished.stderr, "interrupted\n", "{}", finished.dump());
        assert!(!place.path("none").exists(), "{arguments}");
    }
}

/// The process of a point ends with the one that started it, which alone hears the signal here.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_a_scale_and_its_process() {
    let place = Workplace::new();
    let arguments = "bench scale --axis experts --reps 100000 --device flex --json";
    let mut child = spawn(&place, arguments);
    let started = Instant::now();
    let point = loop {
        if let Some(point) = child_of(child.id()) {
            break point;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "no process of a point came");
        assert!(child.try_wait().unwrap().is_none(), "it ended before the signal");
        std::thread::sleep(Duration::from_millis(50));
    };
    signal(&child, "INT");
    let begun = Instant::now();
    let finished = Finished::of(arguments, outcome(child, arguments));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(finished.code, Some(130), "{}", finished.dump());
    assert_eq!(finished.json()["error"], "interrupted");
    assert!(finished.stderr.ends_with("interrupted\n"), "{}", finished.dump());
    assert!(!Path::new(&format!("/proc/{point}")).exists(), "process {point} is still there");
}

/// A process that another one has started.
#[cfg(target_os = "linux")]
fn child_of(parent: u32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.find(|id: &u32| {
        // `id (name) state parent ...`; one that has just ended has no such file.
        let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after_name = status.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().nth(1));
        after_name.flatten() == Some(parent.to_string().as_str())
    })
}

/// `nohup` has a hangup ignored, and it stays ignored; without it a hangup is heard as any signal.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_that_is_ignored_stays_so() {
    let place = Workplace::new();
    let train = "$DEEPSEEK train --config ./tiny.toml --set train.steps=1000000 --set \
                 train.eval_every=0 --set train.checkpoint_every=0 --run-dir run --plain";
    let script = format!(
        "trap '' HUP; {train} > out 2>&1 & P=$!; \
        while ! grep -q '^step' out; do sleep 0.05; done; kill -HUP $P; sleep 1; \
        kill -0 $P && echo alive; kill -INT $P; wait $P; echo $?"
    );
    let finished = place.shell(&script);
    assert_eq!(finished.stdout.split_whitespace().collect::<Vec<_>>(), ["alive", "130"]);
}

/// An evaluation in the course of a training is left, and what was trained is saved; what was
/// measured before is told with its step, and is no result of the end.
#[test]
fn a_signal_in_an_evaluation_saves_what_was_trained() {
    let place = Workplace::new();
    let arguments = "train --config ./tiny.toml --set data.builtin_bytes=3000000 --set \
                     train.eval_batches=8000 --set train.checkpoint_every=0 --set \
                     train.eval_every=2 --steps 4 --run-dir run --json";
    let mut child = spawn(&place, arguments);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.lines().last().is_some_and(|line| line.starts_with("step      4/")) {
        assert!(out.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    // The evaluation of 16,000 windows follows.
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "INT");
    let begun = Instant::now();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let mut output = outcome(child, arguments);
    output.stdout = (seen + &rest).into_bytes();
    let finished = Finished::of(arguments, output);
    assert!(begun.elapsed() < AT_ONCE, "{:?}: {}", begun.elapsed(), finished.dump());
    assert_eq!(finished.code, Some(130), "{}", finished.dump());
    let results = finished.json();
    assert_eq!(results["checkpoint"], "run/checkpoints/step-00000004");
    assert_eq!(results["interrupted"], true);
    assert!(results["valid_loss"].is_null(), "{results}");
    assert!(finished.stdout.contains("nats a token after step 2"), "{}", finished.dump());
    assert_eq!(finished.stdout.matches("validation loss").count(), 1, "{}", finished.dump());
}

/// Before a prompt is read through nothing has been said; the prompt of a model that computes for
/// minutes is left at once.
#[test]
fn a_signal_in_the_prefill_ends_it() {
    let place = Workplace::new();
    let large = "--steps 1 --set model.max_position_embeddings=300000 --set output.sample_tokens=0";
    place.train(large).ok();
    let prompt = "x".repeat(120_000);
    let arguments =
        format!("generate --checkpoint runs/tiny-001 --prompt {prompt} --max-new-tokens 9 --json");
    let (finished, took) = after(&place, &arguments, Duration::from_millis(1500), "INT");
    assert_eq!(finished.code, Some(130), "{}", finished.stderr);
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(finished.json()["error"], "interrupted");
}
