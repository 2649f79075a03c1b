//! What stands in for burn-train's own log files: nothing.

use burn_train::logger::MetricLogger;
use burn_train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn_train::metric::{MetricDefinition, NumericEntry};

/// A metric logger that keeps nothing: [`StepLog`](super::StepLog) has every number, and
/// burn-train's `FileMetricLogger` (0.22.1) panics on its threads where a disk is full, which would
/// end a training before it could save.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlogged;

impl MetricLogger for Unlogged {
    fn log(&mut self, _update: MetricsUpdate, _epoch: usize, _split: &Split) {}

    fn read_numeric(
        &mut self,
        _name: &str,
        _epoch: usize,
        _split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _definition: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
