//! What one step, or one batch of an evaluation, measured.

use burn::module::ParamId;
use burn::tensor::ExecutionError;
use burn_deepseek::DeepSeek;
use burn_deepseek::backend::fp8::Casts;
use burn_deepseek::moe::max_violation;
use burn_train::ItemLazy;
use burn_train::metric::Adaptor;
use serde::{Deserialize, Serialize};

use super::{PartNorms, Parts};
use crate::parallel::ExchangeBytes;

/// Tokens that chose each expert of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerLoad {
    /// Index of the layer; MTP modules follow the main model's layers.
    pub layer: usize,
    /// Tokens, expert by expert.
    pub loads: Vec<u64>,
}

impl LayerLoad {
    /// `max load / mean load - 1`.
    pub fn violation(&self) -> f64 {
        max_violation(&self.loads)
    }

    /// The loads of one layer, where it is among `all`.
    pub fn of_layer(all: &[Self], layer: usize) -> Option<&[u64]> {
        all.iter().find(|load| load.layer == layer).map(|load| load.loads.as_slice())
    }
}

/// What an update measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Updated {
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Norms by part of the model, of a detailed step.
    pub norms: Option<Norms>,
    /// Bytes of gradients and parameters that each rank sent to others; empty without ranks.
    pub sent_bytes: Vec<u64>,
}

/// Norms by part of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norms {
    /// Of the gradients before clipping.
    pub gradients: PartNorms,
    /// Of the parameters after the update.
    pub parameters: PartNorms,
}

impl Norms {
    /// Those of a model, from the sums of squares of its gradients, which are `scale` times too
    /// large, and of its parameters.
    pub fn of(
        model: &DeepSeek,
        gradients: &[(ParamId, f64)],
        scale: f64,
        parameters: &[(ParamId, f64)],
    ) -> Self {
        let parts = Parts::of(model);
        Self {
            gradients: PartNorms::of(gradients, &parts, scale),
            parameters: PartNorms::of(parameters, &parts, 1.0),
        }
    }
}

/// How the passes of a step went, beside what they computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassDetail {
    /// Seconds in forward passes; over ranks the mean. On a device that computes while the host
    /// goes on, those in which the host asked for them; over ranks, those until the losses were
    /// there.
    pub forward_seconds: f64,
    /// Seconds in backward passes; over ranks the mean. On such a device, those until what all
    /// passes measured was there, and so the wait for forward passes too; over ranks, those in which
    /// the host asked for it: what is left of it is waited for by the update.
    pub backward_seconds: f64,
    /// Seconds in which rows of experts were waited for, mean over ranks; none where no ranks share
    /// experts.
    pub exchange_seconds: Option<f64>,
    /// Seconds of those in which the same rank computed another micro-batch, mean over ranks.
    pub exchange_hidden_seconds: Option<f64>,
    /// Of each layer of `layer_loads` the mean entropy of the router's scores; empty but in a
    /// detailed step.
    pub gate_entropy: Vec<f64>,
    /// What casts to FP8 did, in a detailed step.
    pub casts: Option<Casts>,
    /// What each rank did; empty without ranks.
    pub ranks: Vec<RankUse>,
}

impl PassDetail {
    /// The share of the time in which rows of experts were in flight that was hidden behind
    /// computing; none where there was no such time.
    pub fn hidden_share(&self) -> Option<f64> {
        let in_flight = self.exchange_seconds.filter(|seconds| *seconds > 0.0)?;
        Some(self.exchange_hidden_seconds? / in_flight)
    }
}

/// What a rank did in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RankUse {
    /// Seconds of the passes in which it computed.
    pub busy_seconds: f64,
    /// Seconds of the passes in which it waited for messages with nothing to compute.
    pub waiting_seconds: f64,
    /// Bytes of tensors that it sent to others.
    pub sent_bytes: u64,
}

/// The numbers of one optimizer step, or of one batch in an evaluation (where those of the update
/// are 0).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepReport {
    /// Optimizer step, from 1.
    pub step: u64,
    /// What was differentiated: main + lambda * MTP + alpha * balance.
    pub total_loss: f64,
    /// Mean cross entropy of the next token, nats a token.
    pub loss: f64,
    /// Mean cross entropy of each MTP depth, nats a token.
    pub mtp_losses: Vec<f64>,
    /// Sequence-wise balance loss at alpha = 1, summed over layers.
    pub balance_loss: f64,
    /// Tokens predicted.
    pub tokens: usize,
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Tokens a second of wall time.
    pub tokens_per_second: f64,
    /// Loads of every MoE layer over the whole global batch.
    pub layer_loads: Vec<LayerLoad>,
    /// Bytes between the ranks that share experts, all of them together; none where all experts are
    /// on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<ExchangeBytes>,
    /// How the passes went.
    #[serde(skip)]
    pub passes: PassDetail,
    /// Norms by part of the model, of a detailed step.
    #[serde(skip)]
    pub norms: Option<Norms>,
}

impl StepReport {
    /// The largest `max load / mean load - 1` of any layer; 0 without MoE.
    pub fn max_violation(&self) -> f64 {
        self.layer_loads.iter().map(LayerLoad::violation).fold(0.0, f64::max)
    }

    /// Mean of the MTP losses; none without MTP.
    pub fn mtp_loss(&self) -> Option<f64> {
        (!self.mtp_losses.is_empty())
            .then(|| self.mtp_losses.iter().sum::<f64>() / self.mtp_losses.len() as f64)
    }

    /// Adds another micro-batch: losses become means weighted by tokens, loads and tokens add up.
    pub fn absorb(&mut self, other: &Self) {
        if self.tokens == 0 {
            *self = other.clone();
            return;
        }
        let (mine, theirs) = (self.tokens as f64, other.tokens as f64);
        let mean = |a: f64, b: f64| (a * mine + b * theirs) / (mine + theirs);
        self.total_loss = mean(self.total_loss, other.total_loss);
        self.loss = mean(self.loss, other.loss);
        self.balance_loss = mean(self.balance_loss, other.balance_loss);
        for (a, &b) in self.mtp_losses.iter_mut().zip(&other.mtp_losses) {
            *a = mean(*a, b);
        }
        for (a, &b) in self.passes.gate_entropy.iter_mut().zip(&other.passes.gate_entropy) {
            *a = mean(*a, b);
        }
        for (a, b) in self.layer_loads.iter_mut().zip(&other.layer_loads) {
            for (x, y) in a.loads.iter_mut().zip(&b.loads) {
                *x += y;
            }
        }
        self.tokens += other.tokens;
    }
}

impl ItemLazy for StepReport {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<StepReport> for StepReport {
    fn adapt(&self) -> StepReport {
        self.clone()
    }
}

/// The result of an evaluation on held-out data.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean cross entropy of the next token, nats a token.
    pub loss: f64,
    /// Mean cross entropy of each MTP depth, nats a token.
    pub mtp_losses: Vec<f64>,
    /// Tokens predicted.
    pub tokens: usize,
    /// Loads of every MoE layer over all of them.
    pub layer_loads: Vec<LayerLoad>,
}

impl Evaluation {
    /// Adds a batch.
    pub fn absorb(&mut self, report: &StepReport) {
        let Self { loss, mtp_losses, tokens, layer_loads } = std::mem::take(self);
        let mut sum = StepReport { loss, mtp_losses, tokens, layer_loads, ..StepReport::default() };
        sum.absorb(report);
        let StepReport { loss, mtp_losses, tokens, layer_loads, .. } = sum;
        *self = Self { loss, mtp_losses, tokens, layer_loads };
    }

    /// `exp(loss)`.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }

    /// Loss in bits a byte of text, for text of so many bytes a token.
    pub fn bits_per_byte(&self, bytes_per_token: f64) -> f64 {
        self.loss / std::f64::consts::LN_2 / bytes_per_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_add_up() {
        let part = |loss, tokens, loads: [u64; 2]| StepReport {
            loss,
            tokens,
            layer_loads: vec![LayerLoad { layer: 1, loads: loads.to_vec() }],
            ..StepReport::default()
        };
        let mut sum = StepReport::default();
        sum.absorb(&part(1.0, 10, [10, 0]));
        sum.absorb(&part(4.0, 20, [5, 15]));
        assert_eq!((sum.loss, sum.tokens), (3.0, 30));
        assert_eq!(sum.layer_loads[0].loads, [15, 15]);
        assert_eq!(sum.max_violation(), 0.0);

        let mut evaluation = Evaluation::default();
        evaluation.absorb(&part(1.0, 10, [10, 0]));
        evaluation.absorb(&part(4.0, 20, [5, 15]));
        assert_eq!(
            (evaluation.loss, evaluation.tokens, evaluation.layer_loads),
            (3.0, 30, sum.layer_loads)
        );
    }
}
