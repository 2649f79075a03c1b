//! What the ranks did in a step, and when: the measured side of a schedule.

use std::time::Duration;

use super::Cluster;
use super::rank::Span;
use crate::dualpipe::{Action, Schedule};

/// The measured timeline of one step.
#[derive(Clone, Debug)]
pub struct StepTimeline {
    /// The schedule that every pipeline carried out.
    pub schedule: Schedule,
    /// Each rank, in order.
    pub ranks: Vec<RankTime>,
}

/// A rank's part of a timeline.
#[derive(Clone, Debug)]
pub struct RankTime {
    /// The rank's number and device.
    pub name: String,
    /// What it did: action, start, end, and how long of it was waited for messages.
    pub spans: Vec<(Action, Duration, Duration, Duration)>,
}

impl StepTimeline {
    pub(super) fn new(cluster: &Cluster, schedule: &Schedule, spans: Vec<Vec<Span>>) -> Self {
        let ranks = spans.into_iter().zip(&cluster.ranks).enumerate().map(|(rank, (spans, (device, _)))| RankTime {
            name: format!("rank {rank} on {device}"),
            spans: spans.into_iter().map(|span| (span.action, span.start, span.end, span.waited)).collect(),
        });
        Self { schedule: schedule.clone(), ranks: ranks.collect() }
    }

    /// When the last rank was done.
    pub fn makespan(&self) -> Duration {
        self.ranks.iter().flat_map(|rank| rank.spans.iter().map(|span| span.2)).max().unwrap_or_default()
    }
}

impl RankTime {
    /// Time in which it computed.
    pub fn busy(&self) -> Duration {
        self.spans.iter().map(|(_, start, end, waited)| (*end - *start).saturating_sub(*waited)).sum()
    }
}
