//! Ranks on devices of `deepseek worker`: the losses of this machine, and runs that outlive their
//! workers.
#![cfg(all(unix, feature = "remote"))]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bounded::ends_within;
use crate::workplace::{Finished, Workplace};

/// A `deepseek worker`, killed when it is dropped.
pub struct Lender {
    child: Child,
    pub address: String,
}

impl Lender {
    pub fn new(place: &Workplace, arguments: &str) -> Self {
        let device = if arguments.contains("--device") { "" } else { "--device flex" };
        let arguments = format!("worker {device} --json {arguments}");
        let mut child =
            place.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, address: ready["listening"].as_str().unwrap().to_owned() }
    }

    pub fn anywhere(place: &Workplace) -> Self {
        Self::new(place, "--listen 127.0.0.1:0")
    }

    /// Its number as a process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -s {signal} {}", self.child.id())])
            .status()
            .unwrap();
        assert!(kill.success());
    }

    /// Killed without warning, and another one in its place.
    fn killed_and_replaced(self, place: &Workplace) -> Self {
        let address = self.address.clone();
        drop(self);
        Self::new(place, &format!("--listen {}", address.trim_start_matches("ws://")))
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lenders(place: &Workplace) -> [Lender; 2] {
    [Lender::anywhere(place), Lender::anywhere(place)]
}

fn devices(lenders: &[Lender; 2]) -> String {
    format!("--devices {},{}", lenders[0].address, lenders[1].address)
}

/// The lines of a run's steps; evaluations are left out.
fn steps(place: &Workplace, run: &str) -> Vec<Value> {
    place.metrics(run).into_iter().filter(|line| line["kind"] == "step").collect()
}

/// A training whose output goes to a file, so that nobody needs to read it while it runs.
pub struct Training {
    child: Child,
    output: std::path::PathBuf,
    arguments: String,
}

impl Training {
    pub fn begin(place: &Workplace, arguments: &str) -> Self {
        let output = place.path("output");
        let file = File::create(&output).unwrap();
        let child = place.command(arguments).stdout(file).stderr(Stdio::piped()).spawn().unwrap();
        Self { child, output, arguments: arguments.into() }
    }

    /// Waits until it has printed a line that begins so.
    pub fn wait_for(&mut self, beginning: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(&self.output)
            .unwrap()
            .lines()
            .any(|line| line.starts_with(beginning))
        {
            assert!(
                Instant::now() < deadline && self.child.try_wait().unwrap().is_none(),
                "{beginning:?} never came: {}: {}",
                self.arguments,
                fs::read_to_string(&self.output).unwrap()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it without warning.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What came of it, if it ended in time.
    pub fn end(mut self, most: Duration) -> Finished {
        if !ends_within(&mut self.child, most) {
            self.child.kill().unwrap();
            panic!("{} hangs: {}", self.arguments, fs::read_to_string(&self.output).unwrap());
        }
        let output = self.child.wait_with_output().unwrap();
        Finished::of(&self.arguments, Output { stdout: fs::read(&self.output).unwrap(), ..output })
    }
}

/// Another layout, another format and recomputation each time; rows of tokens cross from worker to
/// worker.
#[test]
fn workers_give_the_losses_and_weights_of_this_machine() {
    let place = Workplace::new();
    let lenders = lenders(&place);
    let two = devices(&lenders);
    let one = format!("--device {}/0", lenders[0].address);
    let four = format!("--devices {0},{1},{1},{0}", lenders[0].address, lenders[1].address);
    for (run, on, settings) in [
        ("one", &one, "--set precision.format=bf16"),
        (
            "pipeline",
            &two,
            "--set parallel.pipeline=2 --set schedule.global_batch=8 --set precision.format=fp8",
        ),
        (
            "experts",
            &two,
            "--set parallel.expert=2 --set precision.recompute=true --set ema.decay=0.9",
        ),
        (
            "copies",
            &two,
            "--set parallel.data=2 --set precision.format=fp8 --set precision.recompute=true",
        ),
        (
            "four",
            &four,
            "--set parallel.pipeline=2 --set parallel.expert=2 --set schedule.global_batch=16 \
             --set precision.format=fp8",
        ),
    ] {
        let (here, there) = (format!("{run}-here"), format!("{run}-there"));
        place.train(&format!("--device flex {settings} --run-dir {here}")).ok();
        let trained = place.train(&format!("{on} {settings} --run-dir {there}")).ok();
        assert!(trained.stdout.contains(&lenders[0].address), "{}", trained.dump());
        assert_eq!(place.metrics(&here), place.metrics(&there), "{run}");
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let bytes = |run: &str| {
                fs::read(place.path(run).join("checkpoints/step-00000006").join(file)).unwrap()
            };
            assert!(bytes(&here) == bytes(&there), "{run}: {file} differs");
        }
    }
}

const PARALLEL: &str = "--set parallel.pipeline=2 --set parallel.schedule=1f1b --set \
                        schedule.lr=1e-2 --set parallel.timeout_s=5";

/// Twenty times, in whatever the run is doing: it ends at once, names the worker, and goes on where
/// it was.
#[test]
fn a_run_outlives_workers_that_are_killed() {
    let place = Workplace::new();
    let mut lenders = lenders(&place);
    let mut random = 20_241_227u64;
    let mut resumed_from = Vec::new();
    for attempt in 0..20 {
        let start = if attempt == 0 {
            format!(
                "train --config ./tiny.toml {PARALLEL} --steps 100000 --set train.eval_every=3 \
                 --set train.checkpoint_every=4 --run-dir run"
            )
        } else {
            "train --resume run".into()
        };
        let mut training =
            Training::begin(&place, &format!("{start} {} --plain", devices(&lenders)));
        training.wait_for("ranks ");
        if attempt == 0 {
            training.wait_for("step      4/"); // there is something to go on from
        }
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis((random >> 33) % 600));
        let killed = (random >> 60) as usize % 2;
        let [first, second] = lenders;
        let address = [&first, &second][killed].address.clone();
        let mut pair = [first, second];
        pair[killed].child.kill().unwrap();
        let finished = training.end(Duration::from_secs(30));
        finished.failed(3, &[&format!("rank {killed} on {address}: the worker does not answer")]);
        resumed_from.extend(
            finished.stdout.lines().find(|line| line.starts_with("resumed")).map(str::to_owned),
        );
        let [first, second] = pair;
        lenders = match killed {
            0 => [first.killed_and_replaced(&place), second],
            _ => [first, second.killed_and_replaced(&place)],
        };
    }
    assert_eq!(resumed_from.len(), 19, "every checkpoint can be read: {resumed_from:?}");
    let reached = steps(&place, "run").last().unwrap()["step"].as_u64().unwrap();
    let last = reached + 5;
    place.run(&format!("train --resume run --steps {last} {}", devices(&lenders))).ok();
    place.train(&format!("{PARALLEL} --steps {last} --device flex --run-dir straight")).ok();
    println!("20 kills in {last} steps: {resumed_from:?}");
    assert_eq!(steps(&place, "run"), steps(&place, "straight"));
}

#[test]
fn a_worker_that_stalls_is_named_in_time() {
    let place = Workplace::new();
    let lenders = lenders(&place);
    let arguments = format!(
        "train --config ./tiny.toml {PARALLEL} --set parallel.timeout_s=1 --steps 100000 {} \
         --plain",
        devices(&lenders)
    );
    let mut training = Training::begin(&place, &arguments);
    training.wait_for("step      2/");
    lenders[1].signal("STOP");
    let finished = training.end(Duration::from_secs(20));
    finished.failed(
        3,
        &[
            &format!("rank 1 on {}: the worker does not answer", lenders[1].address),
            "parallel.timeout_s",
        ],
    );
}

/// The second worker has two devices; its token is its own, and the command line's is for the
/// others.
#[test]
fn a_cluster_s_file_names_the_workers() {
    let place = Workplace::new();
    place.write("token", "open sesame");
    fs::create_dir(place.path("clusters")).unwrap();
    place.write("clusters/token", "open barley");
    let first = Lender::new(&place, "--listen 127.0.0.1:0 --token-file token");
    let second =
        Lender::new(&place, "--listen 127.0.0.1:0 --device flex,flex --token-file clusters/token");
    let entry = |lender: &Lender, rest: &str| {
        format!("[[worker]]\naddress = {:?}\n{rest}\n", lender.address)
    };
    let file = entry(&first, "") + &entry(&second, "devices = 2\ntoken_file = \"token\"");
    place.write("clusters/two.toml", file);
    let layout = "--set parallel.data=3 --set schedule.global_batch=6 --set train.steps=2";
    let trained = place
        .train(&format!("--cluster clusters/two.toml --token-file token {layout} --run-dir there"))
        .ok();
    assert!(
        trained
            .stdout
            .contains(&format!("1 on {0}, 1 on {1}, 1 on {1}/1", first.address, second.address)),
        "{}",
        trained.dump()
    );
    place.train(&format!("--device flex {layout} --run-dir here")).ok();
    assert_eq!(place.metrics("here"), place.metrics("there"));
    place
        .train("--cluster clusters/two.toml --token-file token")
        .failed(2, &["--cluster has 3 devices for 1 rank"]);
    place.train("--cluster clusters/none.toml").failed(2, &["clusters/none.toml"]);
}

/// Two trainings on one worker would take each other's tensors.
#[test]
fn a_worker_serves_one_training_at_a_time() {
    let place = Workplace::new();
    let lender = Lender::anywhere(&place);
    let on = format!("--device {} --plain", lender.address);
    let mut first = Training::begin(
        &place,
        &format!("train --config ./tiny.toml --steps 100000 --run-dir first {on}"),
    );
    first.wait_for("step      1/");
    place
        .train(&format!("--run-dir second {on}"))
        .failed(3, &[&lender.address, "lends its devices to another"]);
    first.kill();
    place.train(&format!("--run-dir second {on}")).ok();
}

#[test]
fn who_has_no_token_is_kept_out() {
    let place = Workplace::new();
    place.write("token", "open sesame\n");
    place.write("wrong", "open barley\n");
    place.write("empty", "\n");
    place
        .run("worker --listen 0.0.0.0:0 --device flex")
        .failed(2, &["--listen 0.0.0.0:0", "--token-file"]);
    place
        .run("worker --listen nowhere --device flex")
        .failed(2, &["--listen nowhere", "HOST:PORT"]);
    place.run("worker --listen 127.0.0.1:0 --token-file empty").failed(2, &["token", "empty"]);
    place
        .run("worker --listen 127.0.0.1:0 --token-env NOT_SET_ANYWHERE")
        .failed(2, &["NOT_SET_ANYWHERE"]);
    let lender = Lender::new(&place, "--listen 127.0.0.1:0 --token-file token");
    let train = |token: &str| place.train(&format!("--device {} {token}", lender.address));
    train("").failed(3, &[&lender.address, "credential"]);
    train("--token-file wrong").failed(3, &[&lender.address, "credential"]);
    assert!(!place.path("runs").exists(), "nothing is left of a run that did not begin");
    train("--token-file token").ok();
    place
        .run(&format!(
            "train --config ./tiny.toml --device {}/1 --token-file token",
            lender.address
        ))
        .failed(3, &["1 device"]);
    let eval = place.run(&format!("eval --checkpoint runs/tiny-001 --device {}", lender.address));
    eval.failed(2, &[&lender.address, "deepseek train"]);
}

#[test]
fn a_worker_ends_when_it_is_told_to() {
    let place = Workplace::new();
    for signal in ["TERM", "INT"] {
        let mut lender = Lender::anywhere(&place);
        lender.signal(signal);
        let deadline = Instant::now() + Duration::from_secs(10);
        let code = loop {
            match lender.child.try_wait().unwrap() {
                Some(status) => break status.code(),
                None => assert!(Instant::now() < deadline, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(code, Some(0), "{signal}");
    }
}
