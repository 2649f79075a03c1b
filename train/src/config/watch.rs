//! `[metrics]` and `[alerts]`: what a run records of itself, and what it calls out.

use serde::{Deserialize, Serialize};

/// `[metrics]`: how much is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Steps from one line with the loads of every expert and with what the machine has to give to
    /// the next; at least 1.
    pub every: u64,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { every: 10 }
    }
}

/// `[alerts]`: rules that are looked at after every step and evaluation. An alert is raised when
/// its rule begins to hold, and again only after it has not held in between. 0 turns a rule off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Steps that the rules look back over; at least 2.
    pub window: usize,
    /// Standard deviations that a step's loss may be above the mean of the window (warning).
    pub loss_spike: f64,
    /// Nats that the mean loss of the window may be above its least so far (error).
    pub loss_rise: f64,
    /// Evaluations in a row that may be above the best one (warning).
    pub valid_rise: u64,
    /// Share of the largest violation there can be that a layer may have over the window (warning).
    pub expert_violation: f64,
    /// Recorded loads in a row in which an expert may have no token (warning).
    pub dead_experts: usize,
    /// Share of its median speed over the window that a run may lose (warning).
    pub throughput_drop: f64,
    /// Gigabytes (10^9 bytes) that are to be left on the disk of the run (error).
    pub disk_free_gb: f64,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            window: 50,
            loss_spike: 6.0,
            loss_rise: 0.5,
            valid_rise: 3,
            expert_violation: 0.8,
            dead_experts: 10,
            throughput_drop: 0.5,
            disk_free_gb: 1.0,
        }
    }
}
