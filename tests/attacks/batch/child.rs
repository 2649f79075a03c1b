//! A process that hands inputs to the program one after another, until there is no more or one of
//! them ends it.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Tally;
use crate::allocator;
use crate::kind;
use crate::mutation::{draw_of, mutated};
use crate::options::Errand;
use crate::program::{MUCH_BYTES, SLOW, peak_of};

/// File of the number of the input that is being answered, and of how many were refused before it.
pub const AT: &str = "at";
/// File of what was found: number, tab, what.
pub const FOUND: &str = "found";
/// File of the [`Tally`] of a process that came to its end.
pub const SUMMARY: &str = "summary";
/// The words of a process that was stopped for taking too long.
pub const TOO_SLOW: &str = "no answer in time";

/// What an answer may take where the machine is busy with others; one that waits for nothing is found
/// by it.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds since the process began at which the input that is being answered began; 0 where there is none.
static SINCE: AtomicU64 = AtomicU64::new(0);
/// Where the last panic was, and what it said.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Answers a stretch of inputs.
pub fn run(errand: &Errand) -> Result<usize> {
    let kinds = kind::all();
    let kind = kinds.iter().find(|kind| kind.name == errand.kind).context("no such kind")?;
    let seeds = (kind.seeds)(&errand.prepared)?;
    let place = errand.folder.join("place");
    fs::create_dir_all(&place)?;
    (kind.furnish)(&errand.prepared, &place)?;
    let mut at = File::create(errand.folder.join(AT))?;
    let mut found = File::create(errand.folder.join(FOUND))?;
    std::panic::set_hook(Box::new(|info| {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    let began = Instant::now();
    std::thread::spawn(move || watch(began));

    let mut tally = Tally::default();
    let process_before = peak_of(std::process::id()).unwrap_or(0);
    for index in errand.from..errand.to {
        at.seek(SeekFrom::Start(0))?;
        at.write_all(&index.to_le_bytes())?;
        at.write_all(&tally.refused.to_le_bytes())?;
        let input = mutated(kind.form, &seeds, &mut draw_of(errand.seed, kind.name, index));
        kind.lay(&place, &input)?;
        allocator::allow(MUCH_BYTES);
        let started = Instant::now();
        SINCE.store(1 + began.elapsed().as_millis() as u64, Ordering::Relaxed);
        let answer = catch_unwind(AssertUnwindSafe(|| kind.attack(&place, &input)));
        SINCE.store(0, Ordering::Relaxed);
        tally.inputs += 1;
        tally.slowest = tally.slowest.max(started.elapsed());
        tally.peak_bytes = tally.peak_bytes.max(allocator::peak());
        match answer {
            Ok(None) => {}
            Ok(Some(_)) => tally.refused += 1,
            Err(_) => {
                let said = PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
                writeln!(found, "{index}\tpanic: {}", said.replace('\n', " "))?;
            }
        }
    }
    // What C libraries and maps took, which the allocator does not see.
    let process = peak_of(std::process::id()).unwrap_or(0).saturating_sub(process_before);
    if process > MUCH_BYTES {
        writeln!(found, "{}\tsome input of this part took {process} bytes", errand.from)?;
    }
    fs::write(errand.folder.join(SUMMARY), tally.to_line())?;
    Ok(0)
}

/// Ends the process where an input takes too long: by the clock, unless the machine is so busy that
/// this process had little of it.
fn watch(began: Instant) {
    let (mut answering, mut before) = (0, Duration::ZERO);
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let since = SINCE.load(Ordering::Relaxed);
        if since != answering {
            (answering, before) = (since, worked().unwrap_or_default());
        }
        let took = began.elapsed().saturating_sub(Duration::from_millis(since));
        let busy = worked().is_some_and(|now| now.saturating_sub(before) < SLOW.mul_f64(0.8));
        if since > 0 && took > SLOW && (!busy || took > BUSY_PATIENCE) {
            let _ = std::io::stderr().write_all(TOO_SLOW.as_bytes());
            std::process::abort();
        }
    }
}

/// What this process has had of the processors, where the system says it.
fn worked() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in it may have spaces; hundredths of seconds are the 12th and 13th number after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}
