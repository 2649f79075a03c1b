//! What a model makes of a text, token by token: losses, greedy tokens of the main model and of
//! each MTP module, and what every router did.

use burn::tensor::Tensor;

use crate::generate::{argmax, token_tensor};
use crate::routing::{LayerRecord, RoutingControl, RoutingLog};
use crate::{Compute, DeepSeek};

/// Logits that are on the host at once, at most (or those of one token).
const LOGITS: usize = 8 << 20;

/// What a model makes of a text of `n` tokens, each position with the true tokens before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// `-ln p` of each token but the first, in nats, `[n - 1]`.
    pub losses: Vec<f32>,
    /// The likeliest token after each, `[n]`; of equal logits the lower token.
    pub greedy: Vec<u32>,
    /// The same of each MTP depth, depth 1 first: depth `k` has `n - k`, and its number `i` is what
    /// it would have as token `i + k + 1`, as the main model's `greedy[i + k]` is.
    pub mtp_greedy: Vec<Vec<u32>>,
    /// What each router did, MTP modules last; the module of depth `k` has `n - k` tokens.
    pub layers: Vec<LayerRecord>,
}

impl Inspection {
    /// The mean loss, nats a token; none where no token was predicted.
    pub fn mean_loss(&self) -> Option<f64> {
        let sum: f64 = self.losses.iter().map(|&loss| f64::from(loss)).sum();
        (!self.losses.is_empty()).then(|| sum / self.losses.len() as f64)
    }

    /// Whether MTP depth `k` (from 1) and the main model would have the same token at place
    /// `token`, both from the true tokens before it: what decides whether a draft of that depth is
    /// taken in greedy decoding, where the drafts before it were. None for the first `k + 1`
    /// tokens, which depth `k` does not predict.
    pub fn mtp_agrees(&self, k: usize, token: usize) -> Option<bool> {
        let row = token.checked_sub(k + 1)?;
        let drafted = self.mtp_greedy.get(k.checked_sub(1)?)?.get(row)?;
        Some(*drafted == self.greedy[token - 1])
    }
}

impl DeepSeek {
    /// Runs a text of one token or more through the model, in one pass, and reads back everything
    /// that is known of it. `compute` says in which precision, and what is asked of the routers; a
    /// log in it is not told.
    pub fn inspect(&self, tokens: &[u32], compute: &Compute) -> Inspection {
        let seq = tokens.len();
        let log = RoutingLog::of_everything();
        let compute = telling(compute, &log);
        let mut pass = self.pass(0, seq, &compute);
        let input = token_tensor(tokens, self);
        let hidden = self.hidden(input.clone(), &mut pass, None);
        let mut losses = Vec::with_capacity(seq.saturating_sub(1));
        let mut greedy = Vec::with_capacity(seq);
        self.each_logits(hidden.clone(), &compute, |row, logits| {
            if let Some(&next) = tokens.get(row + 1) {
                losses.push(surprise(logits, next as usize));
            }
            greedy.push(argmax(logits));
        });
        let depths = self.mtp_hidden(input, hidden, &mut pass);
        let of_depth = |hidden: Tensor<3>| {
            let mut greedy = Vec::new();
            self.each_logits(hidden, &compute, |_, logits| greedy.push(argmax(logits)));
            greedy
        };
        let mtp_greedy = depths.into_iter().map(of_depth).collect();
        Inspection { losses, greedy, mtp_greedy, layers: log.take() }
    }

    /// The choices alone that the routers make in such a pass, MTP modules last.
    pub fn routed(&self, tokens: &[u32], compute: &Compute) -> Vec<LayerRecord> {
        let log = RoutingLog::of_choices();
        let mut pass = self.pass(0, tokens.len(), &telling(compute, &log));
        let input = token_tensor(tokens, self);
        let hidden = self.hidden(input.clone(), &mut pass, None);
        self.mtp_hidden(input, hidden, &mut pass);
        log.take()
    }

    /// Shows the logits of each row of hidden states, `[1, rows, d]`, a few rows at a time.
    fn each_logits(
        &self,
        hidden: Tensor<3>,
        compute: &Compute,
        mut show: impl FnMut(usize, &[f32]),
    ) {
        let [_, rows, d] = hidden.dims();
        let hidden = hidden.reshape([rows, d]);
        let vocab = self.config().vocab_size;
        let at_once = (LOGITS / vocab.max(1)).max(1);
        for first in (0..rows).step_by(at_once) {
            let count = at_once.min(rows - first);
            let part = hidden.clone().narrow(0, first, count);
            let logits = compute.head_logits(part, self.head_weight());
            let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
            for (row, logits) in logits.chunks_exact(vocab).enumerate() {
                show(first + row, logits);
            }
        }
    }
}

/// `compute` with its routers telling `log` what they do.
fn telling(compute: &Compute, log: &RoutingLog) -> Compute {
    let control = compute.routing().cloned().unwrap_or_default();
    compute.with_routing(RoutingControl { log: Some(log.clone()), ..control })
}

/// `-ln softmax(logits)[target]`, in nats.
fn surprise(logits: &[f32], target: usize) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    (sum.ln() - f64::from(logits[target] - max)) as f32
}
