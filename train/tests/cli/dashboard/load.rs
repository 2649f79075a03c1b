//! Twenty tabs on a run that goes on: they cost about as much as one, and nothing piles up.
#![cfg(target_os = "linux")]

use std::ops::RangeInclusive;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Server, held};
use super::recorded::{add, evaluation, step};
use crate::workplace::Workplace;

/// Tabs of a browser.
const TABS: usize = 20;

/// Processor time that a process has had, in hundredths of a second.
fn ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let rest = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn twenty_tabs_see_every_step() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    watched(&place, &server, 7..=130);
    let (mut before, descriptors) = server.held();
    // What piles up does so in every round; what a process keeps for its threads does not, and one
    // round may take more of it than another.
    for round in 1..=ROUNDS {
        let first = 120 * round + 11;
        watched(&place, &server, first..=first + 119);
        super::attacks::lets_go(&server, descriptors);
        let (now, _) = server.held();
        if now < before + (4 << 20) {
            return;
        }
        before = now;
    }
    panic!("each of {ROUNDS} rounds held more than the one before, {before} bytes at last");
}

/// Rounds in which nothing may pile up.
const ROUNDS: u64 = 4;

/// Tabs that follow a run while it adds these steps, beside somebody who asks for everything again
/// and again.
fn watched(place: &Workplace, server: &Server, steps: RangeInclusive<u64>) {
    let run = place.path("runs/tiny-001");
    let id = server.id_of("tiny-001");
    let (last, going) = (*steps.end(), AtomicBool::new(true));
    let (used, begun) = (ticks(server.id()), Instant::now());
    std::thread::scope(|scope| {
        let tabs: Vec<_> = (0..TABS).map(|_| scope.spawn(|| follow(server, &id, last))).collect();
        let polling = scope.spawn(|| {
            let mut asked = 0;
            while going.load(Ordering::Relaxed) {
                for of in ["", "/series", "/experts", "/samples", "/alerts"] {
                    server.json(&format!("/api/runs/{id}{of}"));
                }
                server.json("/api/runs");
                asked += 6;
            }
            asked
        });
        for number in steps {
            add(&run, &[step(number, 2.0)]);
            if number % 50 == 0 {
                add(&run, &[evaluation(number, 2.0)]);
            }
            std::thread::sleep(Duration::from_millis(15));
        }
        tabs.into_iter().for_each(|tab| tab.join().unwrap());
        going.store(false, Ordering::Relaxed);
        println!("{} requests beside {TABS} tabs", polling.join().unwrap());
    });
    println!(
        "{:?}, {} ms of processor time, held {:?}",
        begun.elapsed(),
        10 * (ticks(server.id()) - used),
        server.held()
    );
}

/// A tab: what there is, then what is added, each step once and in order.
fn follow(server: &Server, id: &str, last: u64) {
    let series = server.json(&format!("/api/runs/{id}/series"));
    let offset = series["offset"].as_str().unwrap();
    let mut seen = series["steps"]["step"].as_array().unwrap().last().unwrap().as_u64().unwrap();
    let mut events = server.events(&format!("/api/runs/{id}/events?after={offset}"), "");
    while seen < last {
        let told = events.named("lines").data;
        for line in told["lines"].as_array().unwrap() {
            if line["kind"] == "step" {
                seen += 1;
                assert_eq!(line["step"], seen);
            }
        }
    }
}

/// Seconds of each half of the long form.
const LONG: Duration = Duration::from_secs(300);

/// A training with 20 tabs on it for five minutes, beside the same one alone, in turns of half a
/// minute: its speed, and what the server holds at the start and at the end.
#[test]
#[ignore = "takes ten minutes; ./attack runs it"]
fn twenty_tabs_for_five_minutes() {
    let place = Workplace::new();
    let mut command = place.command(
        "train --config quickstart --steps 100000000 --run-dir long --plain \
         --dashboard 127.0.0.1:0 --set train.eval_every=200 --set train.checkpoint_every=0",
    );
    let mut training = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let server = super::training::server_of(&mut training);
    let id = server.id_of("long");
    let (server, id) = (&server, &id);
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    let speed = |from: u64, to: u64| -> f64 {
        let record = std::fs::read_to_string(place.path("long/metrics.jsonl")).unwrap();
        let steps = record.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let steps = steps.filter(|line| line["kind"] == "step");
        let of: Vec<f64> = steps
            .filter(|line| (from..=to).contains(&line["step"].as_u64().unwrap()))
            .map(|line| line["step_seconds"].as_f64().unwrap())
            .collect();
        of.len() as f64 / of.iter().sum::<f64>()
    };
    let now = || server.json(&format!("/api/runs/{id}"))["row"]["step"].as_u64().unwrap();
    std::thread::sleep(Duration::from_secs(10));
    let mut first = None;
    let rounds = LONG.as_secs() / 30;
    for round in 0..rounds {
        let before = now();
        std::thread::sleep(Duration::from_secs(30));
        let between = now();
        alone.push(speed(before + 1, between));
        std::thread::scope(|scope| {
            let stop = Instant::now() + Duration::from_secs(30);
            for _ in 0..TABS {
                scope.spawn(move || {
                    let series = server.json(&format!("/api/runs/{id}/series"));
                    let offset = series["offset"].as_str().unwrap();
                    let mut events =
                        server.events(&format!("/api/runs/{id}/events?after={offset}"), "");
                    let mut told = 0;
                    while Instant::now() < stop {
                        told += usize::from(events.next().unwrap().name == "lines");
                    }
                    assert!(told > 0);
                });
            }
        });
        let after = now();
        watched.push(speed(between + 1, after));
        println!(
            "round {round}: {:.3} steps/s alone, {:.3} with {TABS} tabs; held {:?}",
            alone.last().unwrap(),
            watched.last().unwrap(),
            held(training.id())
        );
        // From here on: an evaluation has been made, and tabs have come and gone.
        first.get_or_insert_with(|| held(training.id()));
    }
    let (first, last) = (first.unwrap(), held(training.id()));
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    println!(
        "{:.3} steps/s alone, {:.3} watched: {:.2}%; held {first:?}, then {last:?}",
        mean(&alone),
        mean(&watched),
        100.0 * (mean(&watched) / mean(&alone) - 1.0)
    );
    training.kill().unwrap();
    training.wait().unwrap();
    assert!(mean(&watched) > 0.97 * mean(&alone), "{alone:?} {watched:?}");
    assert!(last.0 < first.0 + (64 << 20) && last.1 <= first.1 + 4, "{first:?}, {last:?}");
}
