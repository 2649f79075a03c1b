//! The memory of processes that are a rank each, beside what it was planned to be.

use serde_json::{Value, json};

use crate::config::RunConfig;
use crate::plan::memory_of_run;

/// What the processes of a run had at most, and what the plan says of each.
pub(super) struct Report {
    ranks: Vec<RankBytes>,
}

struct RankBytes {
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
        let ranks: Option<Vec<RankBytes>> = peaks
            .iter()
            .enumerate()
            .map(|(rank, peak)| {
                Some(RankBytes {
                    peak_bytes: (*peak)?,
                    planned_bytes: *plan.get(axes.place(rank).pipeline)? as u64,
                    whole_bytes: if rank == 0 { whole_bytes } else { 0 },
                })
            })
            .collect();
        ranks.filter(|ranks| !ranks.is_empty()).map(|ranks| Self { ranks })
    }

    /// A line on the largest process.
    pub fn text(&self) -> String {
        let largest = self.ranks.iter().enumerate().max_by_key(|(_, rank)| rank.peak_bytes);
        let Some((number, rank)) = largest else { return String::new() };
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let whole = match rank.whole_bytes {
            0 => String::new(),
            bytes => format!(" and {:.0} MiB for samples", mebibytes(bytes)),
        };
        format!(
            "memory      at most {:.0} MiB in a process, that of rank {number}; planned were {:.0} \
             MiB{whole}\n",
            mebibytes(rank.peak_bytes),
            mebibytes(rank.planned_bytes)
        )
    }

    /// All of it, for programs.
    pub fn results(&self) -> Value {
        let rank = |(number, rank): (usize, &RankBytes)| {
            json!({
                "rank": number,
                "peak_bytes": rank.peak_bytes,
                "planned_bytes": rank.planned_bytes,
                "whole_model_bytes": rank.whole_bytes,
            })
        };
        self.ranks.iter().enumerate().map(rank).collect()
    }
}
