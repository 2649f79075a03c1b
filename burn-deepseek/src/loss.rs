//! The training loss: cross entropy of the main model and of each MTP depth, and the sequence-wise
//! balance loss.

use burn::tensor::{Int, Tensor, assert_shape};

use crate::moe::sequence_balance_loss;
use crate::{Compute, DeepSeek, Embedding, LayerRouting, MtpModule, Pass, Weight, mtp};

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
    /// Loss of predicting `targets` from `tokens`, `targets[i]` being the token after `tokens[i]`;
    /// a negative target is not counted.
    ///
    /// MTP depth `k` predicts `targets[i + k]` from row `i`. Parts with weight 0 are left out of
    /// the graph; MTP losses are then not computed at all.
    ///
    /// # Shapes
    ///
    /// - tokens, targets: `[batch, seq]`
    pub fn loss(
        &self,
        tokens: Tensor<2, Int>,
        targets: Tensor<2, Int>,
        weights: &LossWeights,
        compute: &Compute,
    ) -> Losses {
        let [_, seq] = tokens.dims();
        let mut pass = self.pass(0, seq, compute);
        let hidden = self.hidden(tokens.clone(), &mut pass, None);
        let head = LossHead {
            embed_tokens: Some(&self.embed_tokens),
            weight: self.head_weight(),
            mtp: &self.mtp,
        };
        let (main, mtp) = head.cross_entropies(hidden, tokens, targets, weights, &mut pass);
        let balances = pass.routings.iter().map(balance_of).collect();
        let PartialLoss { total, balance } =
            PartialLoss::new(Some((main.clone(), &mtp)), balances, weights);
        let total = total.expect("invariant: there is a main loss");
        Losses { total, main, mtp, balance, routings: pass.routings }
    }
}

/// Sequence-wise balance loss of a layer, `[1]`.
pub(crate) fn balance_of(routing: &LayerRouting) -> Tensor<1> {
    sequence_balance_loss(routing, &routing.unbiased_counts)
}

/// What turns hidden states into losses: the head, and the MTP modules with the embedding that they
/// share.
pub(crate) struct LossHead<'a> {
    /// None where there are no MTP modules.
    pub embed_tokens: Option<&'a Embedding>,
    /// The head's weight, `[vocab, d]`.
    pub weight: &'a Weight<2>,
    pub mtp: &'a [MtpModule],
}

impl LossHead<'_> {
    /// The main loss and that of each MTP depth; of none where their weight is 0.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, seq, d]` after the last norm; tokens, targets: `[batch, seq]`
    pub fn cross_entropies(
        &self,
        hidden: Tensor<3>,
        tokens: Tensor<2, Int>,
        targets: Tensor<2, Int>,
        weights: &LossWeights,
        pass: &mut Pass,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        let [batch, seq, _] = hidden.dims();
        assert_shape!(targets, [batch, seq]);
        let compute = pass.compute.clone();
        let main = self.cross_entropy(hidden.clone(), targets.clone(), &compute);
        let Some(embed_tokens) = self.embed_tokens.filter(|_| weights.mtp != 0.0) else {
            return (main, Vec::new());
        };
        let depths = mtp::chain(self.mtp, embed_tokens, tokens, hidden, pass);
        let of_depth =
            |(k, h)| self.cross_entropy(h, targets.clone().narrow(1, k, seq - k), &compute);
        (main, (1..).zip(depths).map(of_depth).collect())
    }

    fn cross_entropy(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        compute: &Compute,
    ) -> Tensor<1> {
        let [batch, seq, d] = hidden.dims();
        compute.head_loss(
            hidden.reshape([batch * seq, d]),
            self.weight,
            targets.reshape([batch * seq]),
        )
    }
}

/// The weighted sum of losses: of a whole model, or of the layers of one stage of it.
#[derive(Clone, Debug)]
pub struct PartialLoss {
    /// `main + lambda * mean(mtp) + alpha * balance` as far as these parts are here and have a
    /// weight, `[1]`.
    pub total: Option<Tensor<1>>,
    /// Sum of the balance losses at alpha = 1, `[1]`.
    pub balance: Option<Tensor<1>>,
}

impl PartialLoss {
    /// Sums the main loss and those of the MTP depths, where the end of the model is here, and the
    /// balance losses of layers, all `[1]`.
    pub fn new(
        cross_entropies: Option<(Tensor<1>, &[Tensor<1>])>,
        balances: Vec<Tensor<1>>,
        weights: &LossWeights,
    ) -> Self {
        let mut total = cross_entropies.map(|(main, mtp)| match mtp.len() {
            0 => main,
            depths => main + Tensor::cat(mtp.to_vec(), 0).sum() * (weights.mtp / depths as f64),
        });
        let balance = (!balances.is_empty()).then(|| Tensor::cat(balances, 0).sum());
        if let Some(balance) = balance.as_ref().filter(|_| weights.sequence_balance != 0.0) {
            let weighted = balance.clone() * weights.sequence_balance;
            total = Some(match total {
                Some(total) => total + weighted,
                None => weighted,
            });
        }
        Self { total, balance }
    }
}
