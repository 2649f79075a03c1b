//! Numbers of a step as burn-train metrics: running mean, plot and log for each.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn_train::SupervisedTraining;
use burn_train::metric::state::{FormatOptions, NumericMetricState};
use burn_train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};

use crate::learner::{LanguageModel, StepReport};

type Pick = Arc<dyn Fn(&StepReport) -> f64 + Send + Sync>;

/// One number of a [`StepReport`].
#[derive(Clone)]
pub struct ScalarMetric {
    name: MetricName,
    unit: Option<String>,
    precision: usize,
    higher_is_better: bool,
    pick: Pick,
    state: NumericMetricState,
}

impl ScalarMetric {
    /// A metric that is better when lower.
    pub fn new(
        name: impl Into<String>,
        precision: usize,
        pick: impl Fn(&StepReport) -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: Arc::new(name.into()),
            unit: None,
            precision,
            higher_is_better: false,
            pick: Arc::new(pick),
            state: NumericMetricState::default(),
        }
    }

    /// This metric with a unit.
    pub fn unit(self, unit: &str) -> Self {
        Self { unit: Some(unit.into()), ..self }
    }

    /// This metric where it is better when higher.
    pub fn higher_is_better(self) -> Self {
        Self { higher_is_better: true, ..self }
    }

    fn format(&self) -> FormatOptions {
        let options = FormatOptions::new(self.name.clone()).precision(self.precision);
        match &self.unit {
            Some(unit) => options.unit(unit),
            None => options,
        }
    }
}

impl Metric for ScalarMetric {
    type Input = StepReport;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: self.unit.clone(), higher_is_better: self.higher_is_better }
            .into()
    }

    fn update(
        &mut self,
        report: &StepReport,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.state.update((self.pick)(report), report.tokens.max(1));
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for ScalarMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

/// Registers every metric of a run: losses, perplexity, bits a byte, gradient norm, learning rate,
/// speed, and the maximal violation of each MoE layer.
pub fn register(
    training: SupervisedTraining<LanguageModel>,
    mtp_depths: usize,
    moe_layers: &[usize],
    bytes_per_token: f64,
) -> SupervisedTraining<LanguageModel> {
    let bits = 1.0 / std::f64::consts::LN_2 / bytes_per_token;
    let mut both = vec![
        ScalarMetric::new("Loss", 4, |r| r.loss).unit("nats"),
        ScalarMetric::new("Perplexity", 3, |r| r.loss.exp()),
        ScalarMetric::new("Bits a byte", 4, move |r| r.loss * bits),
    ];
    both.extend((0..mtp_depths).map(|k| {
        ScalarMetric::new(format!("MTP {} loss", k + 1), 4, move |r| {
            r.mtp_losses.get(k).copied().unwrap_or(f64::NAN)
        })
        .unit("nats")
    }));
    let mut train_only = vec![
        ScalarMetric::new("Gradient norm", 4, |r| r.grad_norm),
        ScalarMetric::new("Learning rate", 3, |r| r.lr),
        ScalarMetric::new("Speed", 0, |r| r.tokens_per_second).unit("tokens/s").higher_is_better(),
    ];
    if !moe_layers.is_empty() {
        train_only.push(ScalarMetric::new("Sequence-wise loss", 4, |r| r.balance_loss));
    }
    train_only.extend(moe_layers.iter().map(|&layer| {
        ScalarMetric::new(format!("Max violation, layer {layer}"), 3, move |r| {
            r.layer_loads
                .iter()
                .find(|load| load.layer == layer)
                .map_or(f64::NAN, |load| load.violation())
        })
    }));
    let training = both.into_iter().fold(training, |t, metric| {
        t.metric_train_numeric(metric.clone()).metric_valid_numeric(metric)
    });
    train_only.into_iter().fold(training, |t, metric| t.metric_train_numeric(metric))
}
