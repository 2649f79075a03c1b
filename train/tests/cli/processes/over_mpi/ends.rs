//! Processes that are killed, stalled or told to stop, and what is left of their runs.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use deepseek_train::checkpoint::{Checkpoint, Purpose};

use super::{checkpoint, mpirun, run, same_checkpoints, steps};
use crate::bounded::{Bounded, ends_within};
use crate::workplace::{DEEPSEEK, Finished, Workplace};

/// A run under mpirun, which is killed with all of its processes when it is dropped.
struct Running {
    mpirun: Child,
    output: PathBuf,
    what: String,
}

impl Running {
    fn begin(place: &Workplace, count: usize, arguments: &str) -> Self {
        let output = place.path("output");
        let file = fs::File::create(&output).unwrap();
        let mpirun = mpirun(place, count, arguments)
            .env("DEEPSEEK_TEST", &output)
            .stdout(file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { mpirun, output, what: arguments.into() }
    }

    fn wait_for(&mut self, beginning: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = fs::read_to_string(&self.output).unwrap();
            if text.lines().any(|line| line.starts_with(beginning)) {
                return;
            }
            let ended = self.mpirun.try_wait().unwrap();
            assert!(
                Instant::now() < deadline && ended.is_none(),
                "{beginning:?} never came: {}: {text}",
                self.what
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The process that is a rank.
    fn rank(&self, rank: usize) -> u32 {
        let is_rank = |id: u32| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            let has = |variable: &str| {
                environment.split(|&byte| byte == 0).any(|one| one == variable.as_bytes())
            };
            has(&format!("DEEPSEEK_IS_RANK={rank}"))
                && has(&format!("DEEPSEEK_TEST={}", self.output.display()))
        };
        let ids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
        ids.into_iter().find(|&id| is_rank(id)).expect("the rank runs")
    }

    fn signal(&self, rank: usize, signal: &str) {
        let kill = format!("kill -s {signal} {}", self.rank(rank));
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// What came of it, if it ended in time, and how long that took.
    fn end(mut self, most: Duration) -> (Finished, Duration) {
        let began = Instant::now();
        if !ends_within(&mut self.mpirun, most) {
            let _ = self.mpirun.kill();
            panic!("{} hangs: {}", self.what, fs::read_to_string(&self.output).unwrap());
        }
        let took = began.elapsed();
        let output = self.mpirun.wait_with_output().unwrap();
        let stdout = fs::read(&self.output).unwrap();
        (Finished::of(&self.what, Output { stdout, ..output }), took)
    }
}

/// A rank is killed with some of its tensors written: there is no such checkpoint, the one
/// before is whole, and the run goes on from there as if nothing had been.
#[test]
fn a_checkpoint_that_a_rank_has_not_finished_is_none() {
    let place = Workplace::new();
    let layout = "--set parallel.pipeline=2 --set parallel.schedule=1f1b \
                  --set train.checkpoint_every=3 --set parallel.timeout_s=4";
    let arguments = format!("train --config ./tiny.toml --device flex {layout} --run-dir run");
    // Of the second checkpoint: before its weights, and between them and its moments.
    for kill_at in [3, 4] {
        let _ = fs::remove_dir_all(place.path("run"));
        let mut command = mpirun(&place, 1, &arguments);
        command.args([":", "-n", "1", "env", &format!("DEEPSEEK_TEST_KILL_AT={kill_at}")]);
        command.arg(DEEPSEEK).args(arguments.split_whitespace());
        let output = command.ended();
        let finished = Finished::of("a rank that is killed while it saves", output);
        assert_eq!(finished.code, Some(3), "{}", finished.dump());
        assert!(finished.stderr.contains("error: rank 1 was killed"), "{}", finished.dump());
        let checkpoints = place.path("run/checkpoints");
        let names: Vec<String> = fs::read_dir(&checkpoints)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        assert_eq!(names, ["step-00000003"], "{}", finished.dump());
        run(&place, 2, "train --resume run --device flex").ok();
    }
    place.train(&format!("--device flex {layout} --run-dir straight")).ok();
    assert_eq!(steps(&place, "run"), steps(&place, "straight"));
    same_checkpoints(&place, "run", "straight", 6);
}

/// As Slurm does before the time is over: every process is told to stop, and rank 0 decides
/// what comes of it.
#[test]
fn a_signal_to_all_ranks_stops_the_run_after_its_step() {
    let place = Workplace::new();
    let arguments = "train --config ./tiny.toml --set parallel.expert=2 --steps 100000 \
                     --run-dir run --plain --device flex";
    let mut running = Running::begin(&place, 2, arguments);
    running.wait_for("step      2/");
    for rank in [1, 0] {
        running.signal(rank, "TERM");
    }
    let (finished, _) = running.end(Duration::from_secs(30));
    assert_eq!(finished.code, Some(130), "{}", finished.dump());
    assert!(finished.stdout.contains("interrupted after step"), "{}", finished.dump());
    let last = steps(&place, "run").last().unwrap()["step"].as_u64().unwrap();
    assert!(!checkpoint(&place, "run", last, "state.json").is_empty());
}

/// However a process stops, the others do not wait for it beyond the limit; its rank is named,
/// and the run goes on from what was saved as if nothing had been.
#[test]
fn a_rank_that_is_killed_or_stalls_ends_the_run_in_time() {
    stop(8);
}

#[test]
#[ignore = "40 stops take about three minutes; ./attack runs it"]
fn ranks_that_are_killed_or_stall_end_the_run_in_time_40_times() {
    stop(40);
}

/// Kills and stalls ranks in turn, in whatever they are doing.
fn stop(stops: usize) {
    let place = Workplace::new();
    let settings = "--set parallel.pipeline=2 --set parallel.schedule=1f1b \
                    --set parallel.timeout_s=4 --set train.checkpoint_every=3 \
                    --set schedule.lr=1e-2";
    let mut random = 20_241_227u64;
    let mut longest = Duration::ZERO;
    for attempt in 0..stops {
        let arguments = match attempt {
            0 => format!(
                "train --config ./tiny.toml {settings} --steps 100000 --run-dir run --plain \
                 --device flex"
            ),
            _ => "train --resume run --plain --device flex".into(),
        };
        let mut running = Running::begin(&place, 2, &arguments);
        running.wait_for(if attempt == 0 { "step      4/" } else { "step " });
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis((random >> 33) % 300));
        let (rank, signal) = ((random >> 60) as usize % 2, ["KILL", "STOP"][attempt % 2]);
        running.signal(rank, signal);
        let (finished, took) = running.end(Duration::from_secs(30));
        longest = longest.max(took);
        assert_eq!(finished.code, Some(3), "{signal} {rank}: {}", finished.dump());
        let named = finished
            .stderr
            .lines()
            .any(|line| line.starts_with("error: ") && line.contains(&format!("rank {rank}")));
        assert!(named, "{signal} {rank}: {}", finished.dump());
        // Every checkpoint under its name is whole, to its last checksum.
        let folder = place.path("run/checkpoints");
        for name in place.names("run/checkpoints") {
            if !name.starts_with('.') {
                let opened = Checkpoint::open(&folder.join(&name), Purpose::Training);
                assert!(opened.is_ok(), "{signal} {rank}: {name}: {opened:?}");
            }
        }
    }
    println!("{stops} ranks stopped; the longest end took {longest:?}");
    assert!(longest < Duration::from_secs(20), "{longest:?}");
    let last = steps(&place, "run").last().unwrap()["step"].as_u64().unwrap() + 3;
    run(&place, 2, &format!("train --resume run --steps {last} --device flex")).ok();
    place.train(&format!("{settings} --steps {last} --device flex --run-dir straight")).ok();
    assert!(steps(&place, "run") == steps(&place, "straight"), "other losses");
}
