//! The model as burn-train's learner sees it: a train step and an inference step over token
//! batches.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn_deepseek::backend::fp8::CastCounter;
use burn_deepseek::backend::run_on;
use burn_deepseek::{Compute, DeepSeek, LossWeights, Precision};
use burn_train::{InferenceStep, TrainOutput, TrainStep};

use super::{Measured, StepReport};
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
    /// What the loss is multiplied by before it is differentiated.
    gradient_scale: f64,
    #[module(skip)]
    compute: Compute,
}

impl LanguageModel {
    /// A model trained with these loss weights on steps of so many micro-batches.
    pub fn new(
        model: DeepSeek,
        weights: LossWeights,
        micro_batches: usize,
        compute: Compute,
    ) -> Self {
        Self { model, weights, micro_batches, gradient_scale: 1.0, compute }
    }

    /// To be called whenever the weights have changed: what was quantized of them is forgotten, and
    /// passes measure no more than they must.
    pub fn weights_changed(&mut self) {
        self.compute = self.compute.next_step();
    }

    /// Takes what may differ from step to step: the loss weights, the number of micro-batches, and
    /// the tokens of all of them.
    ///
    /// In FP8 the gradients of the mean over so many tokens would fall under the floor of the
    /// scales (an amax of 1e-4), and most of E4M3's range would lie unused above them. So it is
    /// (nearly) the sum that is differentiated: the loss is multiplied by the power of two next
    /// under the number of tokens, which changes no bit of anything in FP32, and the optimizer
    /// divides by it.
    pub fn prepare(&mut self, weights: LossWeights, micro_batches: usize, tokens: usize) {
        self.weights = weights;
        self.micro_batches = micro_batches;
        let fp8 = matches!(self.compute.precision(), Precision::Fp8(_));
        self.gradient_scale = if fp8 { f64::from(tokens.max(1).ilog2()).exp2() } else { 1.0 };
    }

    /// Has the passes of this step measure more of themselves, and tell `counter` of casts.
    pub fn detail(&mut self, counter: CastCounter) {
        self.compute = self.compute.detailed(counter);
    }

    /// This model with other weights of its loss. (A part that has none is not computed.)
    pub fn weighed(self, weights: LossWeights) -> Self {
        Self { weights, ..self }
    }

    /// What it computes in.
    pub fn precision(&self) -> &Precision {
        self.compute.precision()
    }

    /// How many times too large the gradients of a step are.
    pub fn gradient_scale(&self) -> f64 {
        self.gradient_scale
    }

    /// What a micro-batch's loss is multiplied by before it is differentiated.
    pub fn share(&self) -> f64 {
        self.gradient_scale / self.micro_batches as f64
    }

    /// Whether the MTP modules run.
    pub fn runs_mtp(&self) -> bool {
        self.weights.mtp != 0.0
    }

    /// The forward half of a train step: what is differentiated, scaled to the micro-batch's share
    /// of the step, and what was measured, which has still to be read.
    pub fn forward(&self, batch: TokenBatch) -> (Tensor<1>, Measured) {
        let compute = batch.asking(&self.compute);
        let losses = self.model.loss(batch.inputs, batch.targets, &self.weights, &compute);
        let measured = Measured::new(&losses, batch.tokens);
        let share = if self.share() == 1.0 { losses.total } else { losses.total * self.share() };
        (share, measured)
    }

    /// The backward half of a train step: the gradients of what was differentiated.
    pub fn backward(&self, share: Tensor<1>) -> GradientsParams {
        GradientsParams::from_grads(share.backward(), self)
    }
}

impl TrainStep for LanguageModel {
    type Input = TokenBatch;
    type Output = StepReport;

    /// Forward and backward of one micro-batch; its gradients are scaled to its share of the step.
    fn step(&self, batch: TokenBatch) -> TrainOutput<StepReport> {
        let (share, measured) = self.forward(batch);
        let gradients = share.backward();
        TrainOutput::new(self, gradients, measured.read())
    }
}

impl InferenceStep for LanguageModel {
    type Input = TokenBatch;
    type Output = StepReport;

    fn step(&self, batch: TokenBatch) -> StepReport {
        let compute = batch.asking(&self.compute);
        let losses = run_on(&self.model.device(), || {
            self.model.loss(batch.inputs, batch.targets, &self.weights, &compute)
        });
        Measured::new(&losses, batch.tokens).read()
    }
}
