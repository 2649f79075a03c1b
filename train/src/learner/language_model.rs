//! The model as burn-train's learner sees it: a train step and an inference step over token batches.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_deepseek::{Compute, DeepSeek, LossWeights, Losses};
use burn_train::{InferenceStep, TrainOutput, TrainStep};

use super::{LayerLoad, StepReport};
use crate::data::TokenBatch;

/// A DeepSeek model with the weights of its loss.
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// The model.
    pub model: DeepSeek,
    #[module(skip)]
    weights: LossWeights,
    /// Micro-batches of a step: each contributes its share of the gradient.
    micro_batches: usize,
    #[module(skip)]
    compute: Compute,
}

impl LanguageModel {
    /// A model trained with these loss weights on steps of so many micro-batches.
    pub fn new(model: DeepSeek, weights: LossWeights, micro_batches: usize, compute: Compute) -> Self {
        Self { model, weights, micro_batches, compute }
    }

    /// To be called whenever the weights have changed: what was quantized of them is forgotten.
    pub fn weights_changed(&mut self) {
        self.compute = self.compute.next_step();
    }

    /// Takes what may differ from step to step: the loss weights and the number of micro-batches.
    pub fn prepare(&mut self, weights: LossWeights, micro_batches: usize) {
        self.weights = weights;
        self.micro_batches = micro_batches;
    }

    /// The forward half of a train step: what is differentiated, scaled to the micro-batch's share of the step, and what was measured.
    pub fn forward(&self, batch: TokenBatch) -> (Tensor<1>, StepReport) {
        let losses = self.model.loss(batch.inputs, batch.targets, &self.weights, &self.compute);
        let report = report(&losses, batch.tokens);
        let share = if self.micro_batches == 1 { losses.total } else { losses.total / self.micro_batches as f64 };
        (share, report)
    }
}

impl TrainStep for LanguageModel {
    type Input = TokenBatch;
    type Output = StepReport;

    /// Forward and backward of one micro-batch; its gradients are scaled to its share of the step.
    fn step(&self, batch: TokenBatch) -> TrainOutput<StepReport> {
        let (share, report) = self.forward(batch);
        TrainOutput::new(self, share.backward(), report)
    }
}

impl InferenceStep for LanguageModel {
    type Input = TokenBatch;
    type Output = StepReport;

    fn step(&self, batch: TokenBatch) -> StepReport {
        report(&self.model.loss(batch.inputs, batch.targets, &self.weights, &self.compute), batch.tokens)
    }
}

fn report(losses: &Losses, tokens: usize) -> StepReport {
    // One read for all of them: each read waits for the device.
    let mut scalars = vec![losses.total.clone(), losses.main.clone()];
    scalars.extend(losses.balance.clone());
    scalars.extend(losses.mtp.iter().cloned());
    let values: Vec<f64> = Tensor::cat(scalars, 0).into_data().iter::<f64>().collect();
    let (balance_loss, mtp) = match losses.balance {
        Some(_) => (values[2], &values[3..]),
        None => (0.0, &values[2..]),
    };
    StepReport {
        total_loss: values[0],
        loss: values[1],
        mtp_losses: mtp.to_vec(),
        balance_loss,
        tokens,
        layer_loads: losses.routings.iter().map(|routing| LayerLoad { layer: routing.layer, loads: routing.groups.loads() }).collect(),
        ..StepReport::default()
    }
}
