//! A sample of the inputs, handed to the program in a process of its own: what a user sees.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::Tally;
use super::finding::{Findings, What};
use crate::kind::Kind;
use crate::mutation::{draw_of, mutated};
use crate::program::{MUCH_BYTES, SLOW, Watched, command, watch};

/// The name of what is found here.
const GROUP: &str = "in a process";
/// When a process that does not end is ended.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest argument that systems take.
const ARGUMENT_BYTES: usize = 100_000;

/// Starts so many processes.
pub fn run(
    kinds: &[Kind],
    count: u64,
    seed: u64,
    scratch: &Path,
    findings: &Findings,
) -> Result<Tally> {
    let prepared = scratch.join("prepared");
    let place = scratch.join("process");
    let (mut tally, started) = (Tally::default(), Instant::now());
    for index in 0..count {
        let mut draw = draw_of(seed, GROUP, index);
        let kind = kinds.choose(&mut draw).expect("there are kinds");
        let input = mutated(kind.form, &(kind.seeds)(&prepared)?, &mut draw);
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir_all(&place)?;
        (kind.furnish)(&prepared, &place)?;
        kind.lay(&place, &input)?;
        let mut arguments = (kind.arguments)(&place, &input);
        if arguments.iter().any(|argument| argument.len() > ARGUMENT_BYTES) {
            continue;
        }
        // What people read, and what programs read.
        if draw.random() {
            arguments.retain(|argument| argument != "--json");
        }
        let mut program = command();
        program.args(&arguments).current_dir(&place).env("XDG_CACHE_HOME", place.join("cache"));
        let watched = watch(program, scratch, PATIENCE)?;
        tally.inputs += 1;
        tally.refused += u64::from(!watched.status.success());
        tally.slowest = tally.slowest.max(watched.elapsed);
        tally.peak_bytes = tally.peak_bytes.max(watched.peak_bytes);
        if let Some(what) = wrong(&watched) {
            let name = format!("process-{seed}-{index}-{}", kind.name);
            findings.keep(GROUP, &name, &input, What::answer(&format!("{}: {what}", kind.name)))?;
        }
    }
    tally.spent = started.elapsed();
    Ok(tally)
}

/// What is wrong with how a process ended.
fn wrong(watched: &Watched) -> Option<String> {
    let Watched { status, stdout, stderr, elapsed, peak_bytes } = watched;
    let stdout = String::from_utf8_lossy(stdout);
    if *elapsed > SLOW {
        return Some("takes longer than 10 s".into());
    }
    if *peak_bytes > MUCH_BYTES {
        return Some("takes more than 1 GB".into());
    }
    if stderr.contains("panicked") {
        return Some(stderr.chars().take(300).collect());
    }
    match status.code() {
        Some(0) => {}
        Some(2 | 3) if stderr.lines().any(|line| line.starts_with("error: ")) => {}
        Some(2 | 3) => return Some(format!("{status}, and no word")),
        _ => return Some(format!("{status}: {}", stderr.chars().take(200).collect::<String>())),
    }
    let raw = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let seen = stdout.chars().chain(stderr.chars()).find(|&c| raw(c));
    seen.map(|c| format!("prints {c:?} as it is"))
}
