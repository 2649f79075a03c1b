//! A campaign of mutated inputs: cut into parts, each in a process of its own, so that one which
//! dies is a finding and not the end.

pub mod child;
mod finding;
mod processes;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::allocator::TOO_MUCH;
use crate::kind::{self, Kind};
use crate::options::Campaign;
use finding::{Findings, What};

/// Inputs of a part.
const PART: u64 = 4_000;
/// Deaths of a kind after which the rest of it is left.
const DEATHS: usize = 40;
/// How long a part may take; an input alone is stopped far earlier.
const PART_PATIENCE: Duration = Duration::from_secs(3_600);

/// What became of the inputs of a kind.
#[derive(Debug, Default)]
pub struct Tally {
    inputs: u64,
    refused: u64,
    slowest: Duration,
    peak_bytes: usize,
    spent: Duration,
    left: u64,
}

/// A stretch of a kind's inputs.
struct Part<'a> {
    kind: &'a Kind,
    from: u64,
    to: u64,
}

/// Runs a campaign, prints what came of it, and says how much was found.
pub fn run(campaign: &Campaign) -> Result<usize> {
    let scratch = tempfile::tempdir()?;
    let prepared = scratch.path().join("prepared");
    kind::prepare(&prepared).context("the valid files cannot be made")?;
    let mut kinds = kind::all();
    if let Some(name) = &campaign.kind {
        kinds.retain(|kind| kind.name == name);
        kinds.first().with_context(|| format!("there is no kind {name}"))?;
    }
    let started = Instant::now();
    let findings = Findings::new(&campaign.keep, campaign.seed, &prepared);
    let mut parts = parts(&kinds, campaign);
    parts.reverse();
    let parts = Mutex::new(parts);
    let tallies: Mutex<BTreeMap<&str, Tally>> = Mutex::default();
    let work = |job: usize| -> Result<()> {
        loop {
            let next = parts.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(part) = next else { return Ok(()) };
            let folder = scratch.path().join(format!("job-{job}"));
            let tally = attacked(&part, &folder, &prepared, campaign.seed, &findings)?;
            let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
            tallies.entry(part.kind.name).or_default().add(&tally);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..campaign.jobs.max(1)).map(|job| scope.spawn(move || work(job))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a job does not panic"))
    })?;
    let tallies = tallies.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut processes = Tally::default();
    if campaign.index.is_none() {
        let count = campaign.processes.unwrap_or(campaign.count / 500);
        processes = processes::run(&kinds, count, campaign.seed, scratch.path(), &findings)?;
    }
    println!(
        "{:<18} {:>8} {:>8} {:>8} {:>11} {:>9} {:>9}",
        "kind", "inputs", "refused", "seconds", "slowest ms", "peak MB", "findings"
    );
    for (name, tally) in tallies.iter().chain([(&"in a process", &processes)]) {
        println!(
            "{name:<18} {:>8} {:>8} {:>8.1} {:>11} {:>9} {:>9}{}",
            tally.inputs,
            tally.refused,
            tally.spent.as_secs_f64(),
            tally.slowest.as_millis(),
            tally.peak_bytes >> 20,
            findings.of(name),
            if tally.left > 0 {
                format!("  {} left, too many died", tally.left)
            } else {
                String::new()
            },
        );
    }
    let inputs: u64 = tallies.values().map(|tally| tally.inputs).sum();
    println!(
        "{} inputs, seed {}, {:.0} s",
        inputs + processes.inputs,
        campaign.seed,
        started.elapsed().as_secs_f64()
    );
    Ok(findings.print())
}

fn parts<'a>(kinds: &'a [Kind], campaign: &Campaign) -> Vec<Part<'a>> {
    if let Some(index) = campaign.index {
        return kinds.iter().map(|kind| Part { kind, from: index, to: index + 1 }).collect();
    }
    let shares: u64 = kinds.iter().map(|kind| kind.share).sum();
    let mut parts = Vec::new();
    for kind in kinds {
        let count = (campaign.count * kind.share).div_ceil(shares);
        let stretch = |from| Part { kind, from, to: count.min(from + PART) };
        parts.extend((0..count).step_by(PART as usize).map(stretch));
    }
    parts
}

/// Attacks with the inputs of a part, with as many processes as it takes.
fn attacked(
    part: &Part<'_>,
    folder: &Path,
    prepared: &Path,
    seed: u64,
    findings: &Findings,
) -> Result<Tally> {
    let (mut tally, mut from) = (Tally::default(), part.from);
    let started = Instant::now();
    while from < part.to {
        if findings.deaths(part.kind.name) >= DEATHS {
            tally.left = part.to - from;
            break;
        }
        let ended = child(part.kind.name, from..part.to, folder, prepared, seed)?;
        for (index, what) in &ended.found {
            findings.add(part.kind, *index, what.clone())?;
        }
        tally.add(&ended.tally);
        let Some((index, what)) = ended.died else { break };
        tally.inputs += index - from;
        // A busy machine is slow as well: what takes long has to do so twice.
        let alone = child(part.kind.name, index..index + 1, folder, prepared, seed)?;
        match alone.died {
            Some(_) => findings.add(part.kind, index, what)?,
            None if what.is_slow() => {}
            None => findings.add(part.kind, index, what.once())?,
        }
        tally.inputs += 1;
        from = index + 1;
    }
    tally.spent = started.elapsed();
    Ok(tally)
}

/// How a child ended.
#[derive(Default)]
struct Ended {
    tally: Tally,
    found: Vec<(u64, What)>,
    /// At which input it died, and of what.
    died: Option<(u64, What)>,
}

fn child(
    kind: &str,
    inputs: std::ops::Range<u64>,
    folder: &Path,
    prepared: &Path,
    seed: u64,
) -> Result<Ended> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let errors = folder.join("stderr");
    let mut process = Command::new(std::env::current_exe()?)
        .arg("child")
        .args(["--kind", kind, "--seed", &seed.to_string()])
        .args(["--from", &inputs.start.to_string(), "--to", &inputs.end.to_string()])
        .arg("--prepared")
        .arg(prepared)
        .arg("--folder")
        .arg(folder)
        .env_remove("RUST_BACKTRACE")
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&errors)?)
        .spawn()?;
    let status = crate::program::ended_by(&mut process, Instant::now() + PART_PATIENCE)?;
    let status = match status {
        Some(status) => status,
        None => {
            process.kill()?;
            process.wait()?
        }
    };
    let mut ended = Ended::default();
    for line in fs::read_to_string(folder.join(child::FOUND)).unwrap_or_default().lines() {
        if let Some((index, text)) = line.split_once('\t') {
            ended.found.push((index.parse()?, What::answer(text)));
        }
    }
    if status.success() {
        let text = fs::read_to_string(folder.join(child::SUMMARY))?;
        ended.tally = Tally::from_line(&text).context("a child's summary")?;
        return Ok(ended);
    }
    let at = fs::read(folder.join(child::AT)).unwrap_or_default();
    let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let index = number(&at).unwrap_or(inputs.start);
    ended.tally.refused = at.get(8..).and_then(number).unwrap_or(0);
    let words = String::from_utf8_lossy(&fs::read(&errors)?).into_owned();
    let what = if words.contains(TOO_MUCH) {
        What::memory()
    } else if words.contains(child::TOO_SLOW) {
        What::slow()
    } else {
        What::died(&format!("{status}"), &words)
    };
    ended.died = Some((index, what));
    Ok(ended)
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.inputs += other.inputs;
        self.refused += other.refused;
        self.slowest = self.slowest.max(other.slowest);
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
        self.spent += other.spent;
        self.left += other.left;
    }

    fn to_line(&self) -> String {
        format!("{} {} {} {}", self.inputs, self.refused, self.slowest.as_millis(), self.peak_bytes)
    }

    fn from_line(line: &str) -> Option<Self> {
        let numbers: Vec<u64> =
            line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [inputs, refused, slowest, peak] = numbers[..] else { return None };
        Some(Self {
            inputs,
            refused,
            slowest: Duration::from_millis(slowest),
            peak_bytes: peak as usize,
            ..Self::default()
        })
    }
}
