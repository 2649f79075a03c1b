//! One micro-batch at one stage: its forward pass, its backward pass, and its weight gradients,
//! each when the schedule says so.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn_deepseek::backend::WeightGradientQueue;
use burn_deepseek::{Compute, LossWeights, ModelPart, StageOutput, in_training, ops};

use super::sums::GradientSums;
use crate::data::TokenBatch;
use crate::learner::{EngineSettings, Loads};

/// What a forward pass leaves for the backward pass.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The stage with autodiff of its own: graphs of different micro-batches share no node, so they
    /// can be walked side by side.
    module: ModelPart,
    /// Rows that came in; none at the first stage.
    input: Option<Tensor<2>>,
    /// Rows that went out; none at the last stage.
    output: Option<Tensor<2>>,
    /// The stage's own terms of the loss.
    loss: Option<Tensor<1>>,
    weights: WeightGradientQueue,
}

/// What a forward pass measured, without autodiff; nothing of it has been read yet.
#[derive(Debug)]
pub(super) struct Measured {
    pub main: Option<Tensor<1>>,
    pub mtp: Vec<Tensor<1>>,
    pub balances: Vec<Tensor<1>>,
    /// Layer and loads of its router.
    pub loads: Vec<(usize, Loads)>,
    /// Entropy of each layer's router, in a detailed step.
    pub entropies: Vec<f64>,
}

/// A backward pass whose weight gradients may still wait.
#[derive(Debug)]
pub(super) struct Differentiated {
    module: ModelPart,
    grads: GradientsParams,
    weights: WeightGradientQueue,
}

/// How the stages of a rank compute.
#[derive(Debug)]
pub(super) struct ChunkSettings<'a> {
    pub compute: Compute,
    pub engine: EngineSettings,
    pub weights: &'a LossWeights,
    pub device: &'a Device,
}

impl Measured {
    /// What a stage's pass measured, without autodiff where it had it.
    pub fn of(output: StageOutput) -> Self {
        let plain = |loss: Tensor<1>| if loss.is_autodiff() { loss.inner() } else { loss };
        let loads = output.routings.iter().map(|routing| (routing.layer, Loads::of(routing)));
        Self {
            loads: loads.collect(),
            entropies: output.routings.iter().filter_map(|routing| routing.entropy).collect(),
            main: output.main.map(plain),
            mtp: output.mtp.into_iter().map(plain).collect(),
            balances: output.balances.into_iter().map(plain).collect(),
        }
    }

    /// Tensors that are to be read: losses, main, MTP's and balance, and then loads.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<1>> {
        let losses = self.main.iter().chain(&self.mtp).chain(&self.balances).cloned();
        losses.chain(self.loads.iter().filter_map(|(_, loads)| loads.tensor()))
    }
}

impl InFlight {
    /// Runs a stage forward: the rows for the next stage (none at the last), what was measured, and
    /// what backward needs.
    pub fn forward(
        stage: ModelPart,
        input: Option<Tensor<2>>,
        batch: TokenBatch,
        settings: ChunkSettings,
    ) -> (Option<Tensor<2>>, Measured, Self) {
        let queue = WeightGradientQueue::default();
        let module = in_training(stage, settings.engine.recompute);
        let input = input.map(|rows| {
            let rows = Tensor::from_inner(rows);
            let rows = match settings.engine.recompute {
                true => rows.with_gradient_checkpointing_strategy(
                    burn::tensor::GradientCheckpointingStrategy::Balanced,
                ),
                false => rows,
            };
            rows.require_grad()
        });
        let compute = batch.asking(&settings.compute).deferring_to(queue.clone());
        let device = settings.engine.training_device(settings.device);
        let (tokens, targets) =
            (ops::moved(batch.inputs, &device), ops::moved(batch.targets, &device));
        let output = module.forward(input.clone(), tokens, targets, settings.weights, &compute);
        let (hidden, loss) = (output.hidden.clone(), output.loss.clone());
        let in_flight = Self { module, input, output: hidden.clone(), loss, weights: queue };
        (hidden.map(Tensor::inner), Measured::of(output), in_flight)
    }

    /// Runs the stage backward from the gradient of the rows that went out: the gradient of those
    /// that came in (none at the first stage), and the rest. Losses are differentiated `share`
    /// times.
    pub fn backward(
        self,
        gradient: Option<Tensor<2>>,
        share: f64,
    ) -> (Option<Tensor<2>>, Differentiated) {
        let seed = self.output.zip(gradient).map(|(output, gradient)| {
            // A number that does not matter, whose gradient is the one that came.
            let zero = Tensor::zeros([1, 1], &gradient.device());
            ops::with_gradient(output, zero, move |_| gradient.clone()).reshape([1])
        });
        let loss = self.loss.map(|loss| if share == 1.0 { loss } else { loss * share });
        let root = match (seed, loss) {
            (Some(seed), Some(loss)) => seed + loss,
            (Some(root), None) | (None, Some(root)) => root,
            (None, None) => unreachable!("invariant: a stage has rows that go out, or a loss"),
        };
        let mut grads = root.backward();
        let input = self.input.and_then(|input| input.grad_remove(&mut grads));
        let grads = GradientsParams::from_grads(grads, &self.module);
        (input, Differentiated { module: self.module, grads, weights: self.weights })
    }
}

impl Differentiated {
    /// Computes the weight gradients that wait, and adds each to `sums`, but that of the token
    /// embedding; gives the rest of the stage's gradients with the module that they belong to.
    pub fn weight_gradients(mut self, sums: &mut GradientSums) -> (ModelPart, GradientsParams) {
        let embedding =
            self.module.embed_tokens.as_ref().and_then(|table| table.weight.parameter());
        let embedding = embedding.map(|parameter| parameter.id);
        self.weights.compute_each(&mut self.grads, |param, dims, grads| {
            if Some(param) != embedding {
                sums.take(param, dims, grads);
            }
        });
        (self.module, self.grads)
    }
}
