//! Trainings that are killed at any moment and resumed until they are done: their record and their
//! weights are those of the same training left alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use deepseek_train::record::repeatable;
use rand::RngExt;
use serde_json::Value;

use crate::mutation::{Draw, draw_of};
use crate::options::Kills;
use crate::program::{TINY, command, copy, ended_by};

/// Kinds of run: a name, and what is laid over the tiny one.
const RUNS: [(&str, &str); 9] = [
    ("fp32", "--set precision.format=f32"),
    ("fp8", "--set precision.format=fp8"),
    ("bf16", "--set precision.format=bf16 --set optimizer.moments=bf16"),
    ("ema", "--set ema.decay=0.9 --set ema.every=3"),
    (
        "ramp",
        "--set schedule.global_batch=[{until=600,from=2,to=10},{at=6}] --set \
         schedule.lr=[{until=\"5steps\",to=1e-2},{to=1e-3,shape=\"cosine\"}] --set \
         schedule.mtp_lambda=[{until=700,at=0.5},{to=0.1}]",
    ),
    ("dualpipe", PIPELINE),
    (
        "dualpipev",
        "--set parallel.pipeline=2 --set parallel.schedule=dualpipev --set model.num_hidden_layers=4 \
         --set train.micro_batch=1",
    ),
    ("experts", "--set parallel.expert=2 --set train.micro_batch=1"),
    ("recompute", "--set precision.recompute=true"),
];
const PIPELINE: &str = "--set parallel.pipeline=2 --set parallel.schedule=dualpipe --set \
                        model.num_hidden_layers=4 --set train.micro_batch=1";

/// What every run has: a checkpoint every other step, evaluations that do not fall on all of them.
const ALL: &str =
    "--steps 16 --set train.eval_every=3 --set train.checkpoint_every=2 --device flex";
/// When a process that does not end is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A kind of run, and how it went when it was left alone.
struct Course {
    name: &'static str,
    arguments: String,
    /// How long it took.
    lasted: Duration,
    record: Record,
}

/// What must not differ.
#[derive(Debug, PartialEq)]
struct Record {
    /// The lines of `metrics.jsonl`, without what the clock decides.
    lines: Vec<Value>,
    /// The files of the last checkpoint that hold weights and moments.
    weights: Vec<(String, Vec<u8>)>,
}

/// Kills until there were as many as asked for; how many runs came out differently.
pub fn run(options: &Kills) -> Result<usize> {
    let scratch = tempfile::tempdir()?;
    fs::write(scratch.path().join("tiny.toml"), TINY)?;
    let courses = RUNS.map(|(name, sets)| left_alone(name, sets, scratch.path()));
    let courses = courses.into_iter().collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    let state = Mutex::new(Tally::default());
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || -> Result<()> {
        loop {
            let round = {
                let mut tally = lock();
                if tally.kills >= options.count {
                    return Ok(());
                }
                tally.rounds += 1;
                tally.rounds - 1
            };
            let course = &courses[round as usize % courses.len()];
            let mut draw = draw_of(options.seed, "kills", round);
            let folder = scratch.path().join(format!("round-{round}"));
            let mut killed = |moment: Duration| {
                lock().kills += 1;
                println!("round {round}, {}: killed after {} ms", course.name, moment.as_millis());
            };
            let fault = survives(course, &folder, scratch.path(), &mut draw, &mut killed)?;
            if let Some(fault) = fault {
                let kept = options.keep.join(format!("kills-{}-{round}", options.seed));
                copy(&folder, &kept)?;
                println!("found: round {round}, {}: {fault} ({})", course.name, kept.display());
                lock().differ += 1;
            }
            fs::remove_dir_all(&folder)?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a job does not panic"))
    })?;
    let tally = lock();
    println!(
        "{} kills in {} rounds of {} kinds of run, seed {}: {} differ, {:.0} s",
        tally.kills,
        tally.rounds,
        courses.len(),
        options.seed,
        tally.differ,
        started.elapsed().as_secs_f64()
    );
    Ok(tally.differ)
}

#[derive(Default)]
struct Tally {
    kills: u64,
    rounds: u64,
    differ: usize,
}

fn left_alone(name: &'static str, sets: &str, folder: &Path) -> Result<Course> {
    let arguments = format!("train --config ./tiny.toml {ALL} {sets}");
    let started = Instant::now();
    let errors = folder.join("stderr");
    let mut child = training(&format!("{arguments} --run-dir {name}"), folder, &errors)?;
    let status = ended_by(&mut child, Instant::now() + PATIENCE)?;
    if status.is_none_or(|status| !status.success()) {
        bail!("{name}: {arguments}: {}", fs::read_to_string(errors)?);
    }
    let record = record(&folder.join(name))?;
    let course = Course { name, arguments, lasted: started.elapsed(), record };
    println!("{name}: {} lines, {} ms", course.record.lines.len(), course.lasted.as_millis());
    Ok(course)
}

fn training(arguments: &str, folder: &Path, errors: &Path) -> Result<std::process::Child> {
    Ok(command()
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .stdout(Stdio::null())
        .stderr(File::create(errors)?)
        .spawn()?)
}

/// Begins a run, kills and resumes it until it is done; what is wrong with it then.
fn survives(
    course: &Course,
    folder: &Path,
    scratch: &Path,
    draw: &mut Draw,
    killed: &mut dyn FnMut(Duration),
) -> Result<Option<String>> {
    fs::create_dir_all(folder)?;
    let (run, errors) = (folder.join("run"), folder.join("stderr"));
    // Late rounds of a run take less time, so that they are killed less; some are left to end.
    let mut left = draw.random_range(2..8);
    loop {
        let begun = has_checkpoint(&run);
        let arguments = if begun {
            format!("train --resume {} --device flex", run.display())
        } else {
            if run.exists() {
                fs::remove_dir_all(&run)?;
            }
            format!("{} --run-dir {}", course.arguments, run.display())
        };
        let mut child = training(&arguments, scratch, &errors)?;
        let lasts = course.lasted.mul_f64(1.1).as_micros() as u64;
        let moment = Duration::from_micros(draw.random_range(0..lasts));
        let moment = if left > 0 { moment } else { PATIENCE };
        let status = match ended_by(&mut child, Instant::now() + moment)? {
            Some(status) => status,
            None => {
                child.kill()?;
                child.wait()?;
                if left == 0 {
                    return Ok(Some(format!("does not end: {arguments}")));
                }
                killed(moment);
                left -= 1;
                continue;
            }
        };
        if !status.success() {
            let words = fs::read_to_string(&errors)?;
            return Ok(Some(format!("{status}: {arguments}: {}", words.trim())));
        }
        let record = record(&run)?;
        return Ok(difference(&course.record, &record));
    }
}

fn has_checkpoint(run: &Path) -> bool {
    let entries = fs::read_dir(run.join("checkpoints"));
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.into_string().ok()).any(|name| {
        name.strip_prefix("step-").is_some_and(|step| step.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn record(run: &Path) -> Result<Record> {
    let text = fs::read_to_string(run.join("metrics.jsonl"))?;
    let line = |line: &str| -> Result<Option<Value>> {
        Ok(repeatable(serde_json::from_str(line).with_context(|| line.to_owned())?))
    };
    let mut newest: Vec<PathBuf> = fs::read_dir(run.join("checkpoints"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    newest.sort();
    let newest = newest.pop().context("a run ends with a checkpoint")?;
    let mut weights = Vec::new();
    for name in ["model.safetensors", "optimizer.safetensors", "ema/model.safetensors"] {
        if let Ok(bytes) = fs::read(newest.join(name)) {
            weights.push((name.to_owned(), bytes));
        }
    }
    Ok(Record {
        lines: text.lines().filter_map(|text| line(text).transpose()).collect::<Result<_>>()?,
        weights,
    })
}

fn difference(alone: &Record, killed: &Record) -> Option<String> {
    let step = |line: Option<&Value>| line.map_or("nothing".into(), |line| cut(&line.to_string()));
    let lines = alone.lines.len().max(killed.lines.len());
    let other = (0..lines).find(|&index| alone.lines.get(index) != killed.lines.get(index));
    if let Some(index) = other {
        return Some(format!(
            "line {} is {} instead of {}; {} lines instead of {}",
            index + 1,
            step(killed.lines.get(index)),
            step(alone.lines.get(index)),
            killed.lines.len(),
            alone.lines.len()
        ));
    }
    let names = |record: &Record| record.weights.iter().map(|(name, _)| name.clone()).collect();
    let (left, right): (Vec<String>, Vec<String>) = (names(alone), names(killed));
    if left != right {
        return Some(format!("the last checkpoint has {right:?} instead of {left:?}"));
    }
    let pairs = alone.weights.iter().zip(&killed.weights);
    let other = pairs.into_iter().find(|(one, other)| one != other);
    other.map(|((name, _), _)| format!("{name} differs"))
}

fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}
