//! The memory of a run's processes, beside what it was planned to be for their ranks.

use serde_json::{Value, json};

use crate::config::RunConfig;
use crate::plan::memory_of_run;

/// What the processes of a run had at most, and what the plan says of each.
pub(super) struct Report {
    processes: Vec<ProcessBytes>,
}

struct ProcessBytes {
    /// The first of its ranks.
    rank: usize,
    peak_bytes: u64,
    planned_bytes: u64,
    /// The whole model's weights, which rank 0 puts together for a sample.
    whole_bytes: u64,
}

impl Report {
    /// From the peaks of the ranks; none where the ranks are no processes, or the system does not
    /// say.
    pub fn of(config: &RunConfig, peaks: &[Option<u64>]) -> Option<Self> {
        let plan = memory_of_run(config)?;
        let axes = config.parallel.axes();
        let whole_bytes = match config.output.sample_tokens {
            0 => 0,
            _ => 4 * config.model.parameter_counts().total_with_mtp(),
        };
        let planned = |rank| plan.get(axes.place(rank).pipeline).map(|bytes| *bytes as u64);
        let each = config.parallel.ranks_per_process;
        let process = |(number, peaks): (usize, &[Option<u64>])| {
            let rank = number * each;
            Some(ProcessBytes {
                rank,
                // Each of its ranks says the same, but for what has come since.
                peak_bytes: peaks.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().max()?,
                planned_bytes: (rank..rank + peaks.len()).map(planned).sum::<Option<u64>>()?,
                whole_bytes: if rank == 0 { whole_bytes } else { 0 },
            })
        };
        let processes: Option<Vec<_>> = peaks.chunks(each).enumerate().map(process).collect();
        processes.filter(|some| !some.is_empty()).map(|processes| Self { processes })
    }

    /// A line on the largest process.
    pub fn text(&self) -> String {
        let largest = self.processes.iter().max_by_key(|process| process.peak_bytes);
        let Some(process) = largest else { return String::new() };
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let whole = match process.whole_bytes {
            0 => String::new(),
            bytes => format!(" and {:.0} MiB for samples", mebibytes(bytes)),
        };
        format!(
            "memory      at most {:.0} MiB in a process, that of rank {}; planned were {:.0} \
             MiB{whole}\n",
            mebibytes(process.peak_bytes),
            process.rank,
            mebibytes(process.planned_bytes)
        )
    }

    /// All of it, for programs.
    pub fn results(&self) -> Value {
        let object = |process: &ProcessBytes| {
            json!({
                "rank": process.rank,
                "peak_bytes": process.peak_bytes,
                "planned_bytes": process.planned_bytes,
                "whole_model_bytes": process.whole_bytes,
            })
        };
        self.processes.iter().map(object).collect()
    }
}
