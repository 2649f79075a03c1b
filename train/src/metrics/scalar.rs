//! Numbers of a step as burn-train metrics: running mean and plot for each.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn_train::SupervisedTraining;
use burn_train::metric::state::NumericMetricState;
use burn_train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry, format_float,
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
    /// What is shown of a mean.
    shown: fn(f64) -> f64,
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
            shown: |mean| mean,
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

    /// This metric where a function of the mean is what is shown, not the mean of that function.
    pub fn shown(self, shown: fn(f64) -> f64) -> Self {
        Self { shown, ..self }
    }

    /// The running mean and the value of the last step, as people read them, beside `number`.
    fn entry(&self, number: &NumericEntry) -> SerializedEntry {
        let unit = self.unit.as_ref().map_or_else(String::new, |unit| format!(" {unit}"));
        let [running, current] = [self.state.running_value(), self.state.current_value()]
            .map(|entry| format_float((self.shown)(entry.current()), self.precision) + &unit);
        SerializedEntry::new(format!("epoch {running} - batch {current}"), number.serialize())
    }

    fn shown_of(&self, entry: NumericEntry) -> NumericEntry {
        match entry {
            NumericEntry::Value(value) => NumericEntry::Value((self.shown)(value)),
            NumericEntry::Final(value) => NumericEntry::Final((self.shown)(value)),
            NumericEntry::Aggregated { aggregated_value, count } => {
                NumericEntry::Aggregated { aggregated_value: (self.shown)(aggregated_value), count }
            }
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
        Ok(self.entry(&self.shown_of(self.state.current_value())))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.entry(&self.shown_of(self.state.final_value())))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for ScalarMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.shown_of(self.state.current_value()))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.shown_of(self.state.running_value()))
    }

    fn final_value(&self) -> NumericEntry {
        self.shown_of(self.state.final_value())
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
        ScalarMetric::new("Perplexity", 3, |r| r.loss).shown(f64::exp),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two batches of one and of three tokens: the perplexity is that of the mean loss.
    #[test]
    fn perplexity_is_of_the_mean_loss() {
        let mut metric = ScalarMetric::new("Perplexity", 3, |r| r.loss).shown(f64::exp);
        for (loss, tokens) in [(4.0, 1), (2.0, 3)] {
            let report = StepReport { loss, tokens, ..StepReport::default() };
            metric.state.update((metric.pick)(&report), report.tokens);
        }
        assert_eq!(metric.final_value().current(), 2.5f64.exp());
        assert_eq!(metric.running_value().unwrap().current(), 2.5f64.exp());
        assert_eq!(metric.value().unwrap().current(), 2f64.exp());
        let entry = metric.compute().unwrap();
        assert_eq!(entry.formatted, "epoch 12.182 - batch 7.389");
    }
}
