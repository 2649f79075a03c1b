//! A point in a process of its own, `deepseek bench train`, so that its peak of memory is its own.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use super::super::Repetitions;
use super::super::train::{
    GRADIENTS, MEBI, OPTIMIZER, PEAK_MEMORY, RATE, STEP, TRAINING, is_peak_rate,
};
use super::axis::Point;
use super::row::{Figures, Seen};
use crate::cli::BenchScalingArgs;
use crate::failure::{Context, Failure, Result};
use crate::signals::Signals;

/// The process that runs.
type Running = Arc<Mutex<Option<Child>>>;

/// Starts processes, one after the other, and ends the one that runs when a signal ends this one.
#[derive(Debug)]
pub(super) struct Children {
    arguments: Vec<String>,
    running: Running,
}

impl Children {
    /// Processes with the settings of the command line.
    pub fn watched(args: &BenchScalingArgs, reps: Repetitions, signals: &Signals) -> Self {
        let mut arguments: Vec<String> = ["bench", "train", "--json"].map(String::from).into();
        arguments.push(format!("--reps={}", reps.timed));
        arguments.push(format!("--warmup={}", reps.warmup));
        arguments.push(format!("--device={}", args.timing.device));
        arguments.extend(args.set.iter().map(|set| format!("--set={set}")));
        let running = Running::default();
        let ended = running.clone();
        signals.before_end(move || {
            let mut running = ended.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(child) = &mut *running {
                // It may have ended by itself: a terminal sends its signals to both.
                let _ = child.kill();
                let _ = child.wait();
            }
            // No other is started any more: whoever would waits for the end of this process.
            std::mem::forget(running);
        });
        Self { arguments, running }
    }

    /// Times a point. One that the system ends, as it does where memory runs out, is left out.
    ///
    /// # Errors
    /// The process cannot be started, or it fails.
    pub fn measure(&self, point: &Point) -> Result<Seen> {
        let program = std::env::current_exe().context("this program's own file")?;
        let (status, stdout, stderr) = self.run(&program, point)?;
        let told: Option<Value> =
            stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
        match (status.code(), told) {
            (Some(0), Some(object)) => Ok(Seen::Measured(figures(&object)?)),
            (None, _) => Ok(Seen::LeftOut(format!(
                "the system ended it ({status}), most likely for want of memory"
            ))),
            (Some(_), told) => {
                let told = told.as_ref().and_then(|object| object["error"].as_str());
                let last = stderr.lines().last().unwrap_or("it said nothing");
                Err(Failure::new(told.unwrap_or(last)))
            }
        }
    }

    /// Runs a process to its end: how it ended, and what it wrote.
    fn run(&self, program: &Path, point: &Point) -> Result<(ExitStatus, String, String)> {
        let failed = "a process of bench train";
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .args(point.sets.iter().map(|set| format!("--set={set}")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (stdout, stderr) = {
            // Whoever ends this program meanwhile waits for the child to be there.
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let child = running.insert(command.spawn().context(failed)?);
            (child.stdout.take().context(failed)?, child.stderr.take().context(failed)?)
        };
        let errors = thread::spawn(move || read(stderr));
        let stdout = read(stdout);
        let stderr = errors.join().unwrap_or_default();
        let child = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let status = child.context(failed)?.wait().context(failed)?;
        Ok((status, stdout, stderr))
    }
}

/// All that comes, as text.
fn read(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    // What a broken pipe cuts off is not there to be told.
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What `bench train` printed for programs: of its repetitions the fastest, which other work on the
/// machine has slowed down least.
fn figures(object: &Value) -> Result<Figures> {
    let rows = object["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |name: &str| rows.iter().find(|row| row["name"] == name);
    let value = |name: &str, of: &str| {
        row(name)
            .and_then(|row| row[of].as_f64())
            .with_context(|| format!("bench train has no row \"{name}\""))
    };
    let gflop_per_s = value(RATE, "max")?;
    let peak = rows.iter().find(|row| row["name"].as_str().is_some_and(is_peak_rate));
    Ok(Figures {
        step_ms: value(STEP, "min")?,
        tokens_per_s: value(TRAINING, "max")?,
        gradients_ms: value(GRADIENTS, "min")?,
        optimizer_ms: value(OPTIMIZER, "min")?,
        memory_bytes: value(PEAK_MEMORY, "value").ok().map(|mebibytes| mebibytes * MEBI),
        gflop_per_s,
        of_peak: peak.and_then(|row| row["value"].as_f64()).map(|peak| gflop_per_s / peak),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_those_of_the_fastest_repetition() {
        let row = |name, min, max| json!({"name": name, "value": 7.0, "min": min, "max": max});
        let mut rows = vec![
            row(STEP, 12.0, 15.0),
            row(TRAINING, 400.0, 500.0),
            row(GRADIENTS, 10.0, 11.0),
            row(OPTIMIZER, 2.0, 3.0),
            row(PEAK_MEMORY, 7.0, 7.0),
            row(RATE, 90.0, 100.0),
            row("peak rate (avx2)", 7.0, 7.0),
        ];
        let all = figures(&json!({ "rows": rows })).unwrap();
        assert_eq!((all.step_ms, all.tokens_per_s, all.gradients_ms), (12.0, 500.0, 10.0));
        assert_eq!((all.optimizer_ms, all.memory_bytes), (2.0, Some(7.0 * 1048576.0)));
        assert_eq!((all.gflop_per_s, all.of_peak), (100.0, Some(100.0 / 7.0)));
        rows.truncate(6);
        rows.remove(4);
        let some = figures(&json!({ "rows": rows })).unwrap();
        assert_eq!((some.memory_bytes, some.of_peak), (None, None));
        rows.remove(0);
        let error = figures(&json!({ "rows": rows })).unwrap_err().to_string();
        assert_eq!(error, "bench train has no row \"step\"");
        assert!(figures(&json!({"error": "no"})).is_err());
    }
}
