//! Trainings that are killed without warning leave their workers free for the next one, and nothing
//! behind.
#![cfg(all(target_os = "linux", feature = "remote"))]

use std::fs;
use std::time::{Duration, Instant};

use crate::workers::{Lender, Training};
use crate::workplace::Workplace;

/// What a worker holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub descriptors: usize,
    threads: usize,
    pub resident_mib: u64,
}

impl Held {
    pub fn by(lender: &Lender) -> Self {
        let process = format!("/proc/{}", lender.id());
        let count = |of: &str| fs::read_dir(format!("{process}/{of}")).unwrap().count();
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Self { descriptors: count("fd"), threads: count("task"), resident_mib: kib / 1024 }
    }

    /// Waits until a worker holds no more descriptors and threads than before; of threads, those
    /// that tensors are computed on stay.
    pub fn is_back(lender: &Lender, before: Self) -> Self {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let now = Self::by(lender);
            if (now.descriptors, now.threads) <= (before.descriptors, before.threads) {
                return now;
            }
            assert!(Instant::now() < deadline, "before {before:?}, now {now:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Kills so many trainings on a worker, or on two, in whatever they are doing.
fn kill(kills: usize) {
    let place = Workplace::new();
    let lenders = [Lender::anywhere(&place), Lender::anywhere(&place)];
    let kinds = [
        format!("--device {} --set parallel.expert=4 --steps 1000", lenders[0].address),
        format!(
            "--devices {},{} --set parallel.pipeline=2 --set parallel.schedule=1f1b --steps 1000",
            lenders[0].address, lenders[1].address
        ),
        format!(
            "--devices {0},{1},{1},{0} --set parallel.pipeline=2 --set parallel.expert=2 --steps \
             1000",
            lenders[0].address, lenders[1].address
        ),
    ];
    let begin = |kind: &str| {
        Training::begin(
            &place,
            &format!("train --config ./tiny.toml --set schedule.global_batch=16 {kind} --plain"),
        )
    };
    // Whatever is made once for all is made by the first.
    for kind in &kinds {
        let mut training = begin(kind);
        training.wait_for("step      2/");
        training.kill();
    }
    std::thread::sleep(Duration::from_secs(2));
    let before = lenders.each_ref().map(Held::by);
    let mut random = 20_261_129u64;
    let mut slowest = Duration::ZERO;
    for attempt in 0..kills {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut training = begin(&kinds[attempt % kinds.len()]);
        let begun = Instant::now();
        training.wait_for("step      1/"); // it is served, whatever the last one left
        slowest = slowest.max(begun.elapsed());
        std::thread::sleep(Duration::from_micros((random >> 33) % 400_000));
        training.kill();
    }
    let after = [0, 1].map(|index| Held::is_back(&lenders[index], before[index]));
    println!("{kills} kills, the slowest first step after {slowest:?}: {before:?} -> {after:?}");
    for (before, after) in before.iter().zip(&after) {
        assert!(after.resident_mib <= before.resident_mib + 64, "{before:?} -> {after:?}");
    }
    assert!(slowest < Duration::from_secs(30), "{slowest:?}");
}

#[test]
fn killed_trainings_leave_their_workers_free() {
    kill(9);
}

#[test]
#[ignore = "200 kills take about ten minutes; ./attack runs it"]
fn killed_trainings_leave_their_workers_free_200_times() {
    kill(200);
}
