//! The training loss: cross entropy of the main model and of each MTP depth, and the sequence-wise balance loss.

use burn::tensor::{Int, Tensor, assert_shape};

use crate::moe::sequence_balance_loss;
use crate::{Compute, DeepSeek, LayerRouting};

/// Weights of the parts of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossWeights {
    /// lambda: weight of the mean MTP loss (2.2; 0.3, then 0.1).
    pub mtp: f64,
    /// alpha: weight of each layer's sequence-wise balance loss (2.1.2; 1e-4).
    pub sequence_balance: f64,
}

/// The loss of one batch and its parts.
#[derive(Clone, Debug)]
pub struct Losses {
    /// `main + lambda * mean(mtp) + alpha * balance`, what is differentiated, `[1]`.
    pub total: Tensor<1>,
    /// Mean cross entropy of the next token, nats, `[1]`.
    pub main: Tensor<1>,
    /// Mean cross entropy of each MTP depth, nats, `[1]` each.
    pub mtp: Vec<Tensor<1>>,
    /// Sequence-wise balance loss at alpha = 1, summed over MoE layers, `[1]`; none without MoE.
    pub balance: Option<Tensor<1>>,
    /// Routing of every MoE layer, MTP modules last.
    pub routings: Vec<LayerRouting>,
}

impl DeepSeek {
    /// Loss of predicting `targets` from `tokens`, `targets[i]` being the token after `tokens[i]`; a negative target is not counted.
    ///
    /// MTP depth `k` predicts `targets[i + k]` from row `i`. Parts with weight 0 are left out of the graph; MTP losses are then
    /// not computed at all.
    ///
    /// # Shapes
    ///
    /// - tokens, targets: `[batch, seq]`
    pub fn loss(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>, weights: &LossWeights, compute: &Compute) -> Losses {
        let [batch, seq] = tokens.dims();
        assert_shape!(targets, [batch, seq]);
        let mut pass = self.pass(0, seq, compute);
        let hidden = self.hidden(tokens.clone(), &mut pass, None);
        let main = self.cross_entropy(hidden.clone(), targets.clone(), compute);
        let mut total = main.clone();

        let mut mtp = Vec::new();
        if weights.mtp != 0.0 {
            let depths = self.mtp_hidden(tokens, hidden, &mut pass);
            mtp = (1..).zip(depths).map(|(k, h)| self.cross_entropy(h, targets.clone().narrow(1, k, seq - k), compute)).collect();
        }
        if !mtp.is_empty() {
            let sum = Tensor::cat(mtp.clone(), 0).sum();
            total = total + sum * (weights.mtp / mtp.len() as f64);
        }

        let per_layer: Vec<_> = pass.routings.iter().map(|routing| sequence_balance_loss(routing, &routing.unbiased_counts)).collect();
        let balance = (!per_layer.is_empty()).then(|| Tensor::cat(per_layer, 0).sum());
        if let Some(balance) = balance.as_ref().filter(|_| weights.sequence_balance != 0.0) {
            total = total + balance.clone() * weights.sequence_balance;
        }
        Losses { total, main, mtp, balance, routings: pass.routings }
    }

    fn cross_entropy(&self, hidden: Tensor<3>, targets: Tensor<2, Int>, compute: &Compute) -> Tensor<1> {
        let [batch, seq, d] = hidden.dims();
        compute.head_loss(hidden.reshape([batch * seq, d]), self.head_weight(), targets.reshape([batch * seq]))
    }
}
