//! Drafting with the MTP modules: each depth proposes one more token for the main model to verify
//! (2.2).

use burn::tensor::Tensor;

use super::decoder::{host_logits, token_tensor};
use super::sampling::argmax;
use crate::attention::{AttentionForm, LatentCache};
use crate::{Compute, DeepSeek};

/// The MTP chain in decoding.
///
/// Row `j` of depth `k` needs the hidden state of depth `k - 1` at `j` and token `j + k`. With
/// tokens `0..=last` decided, the rows `j <= last - k` of depth `k` are final; the rows after them
/// rest on drafts and are forgotten when the drafts have been judged.
#[derive(Debug)]
pub(super) struct Drafter<'a> {
    model: &'a DeepSeek,
    depths: Vec<Depth>,
    compute: Compute,
}

#[derive(Debug)]
struct Depth {
    cache: LatentCache,
    /// Final hidden states of the depth before, from row `cache.len()` on.
    pending: Option<Tensor<3>>,
}

impl<'a> Drafter<'a> {
    pub(super) fn new(model: &'a DeepSeek, form: AttentionForm, compute: &Compute) -> Self {
        let depths = model
            .mtp
            .iter()
            .map(|_| Depth { cache: LatentCache::new(form), pending: None })
            .collect();
        Self { model, depths, compute: compute.clone() }
    }

    /// Takes the main model's hidden states of newly decided rows, `[1, rows, d]`.
    pub(super) fn accept(&mut self, hidden: Tensor<3>) {
        if let Some(first) = self.depths.first_mut() {
            first.pending = joined(first.pending.take(), hidden);
        }
    }

    /// Proposes the tokens that follow `tokens` (all decided ones; the main model has not seen the
    /// last), one a depth.
    pub(super) fn draft(&mut self, tokens: &[u32]) -> Vec<u32> {
        let mut known = tokens.to_vec();
        let last = tokens.len() - 1;
        // Rows of the depth before that rest on drafts; they follow its final rows.
        let mut speculative: Option<Tensor<3>> = None;
        for k in 1..=self.depths.len() {
            let depth = &mut self.depths[k - 1];
            let start = depth.cache.len();
            let Some(input) = joined_opt(depth.pending.clone(), speculative.take()) else { break };
            let [_, rows, _] = input.dims();
            let mut pass = self.model.pass(start, rows, &self.compute);
            let embedded = self
                .model
                .embed_tokens
                .forward(token_tensor(&known[start + k..start + k + rows], self.model));
            let output =
                self.model.mtp[k - 1].forward(input, embedded, &mut pass, Some(&mut depth.cache));

            let finals = (last + 1).saturating_sub(k).saturating_sub(start).min(rows);
            depth.cache.truncate(start + finals);
            depth.pending = depth.pending.take().and_then(|pending| tail(pending, finals));
            if let Some(next) = self.depths.get_mut(k)
                && finals > 0
            {
                next.pending = joined(next.pending.take(), output.clone().narrow(1, 0, finals));
            }
            known.push(argmax(&host_logits(self.model, output.clone(), 1)[0]));
            speculative = tail(output, finals);
        }
        known.split_off(tokens.len())
    }
}

fn joined(head: Option<Tensor<3>>, rows: Tensor<3>) -> Option<Tensor<3>> {
    joined_opt(head, Some(rows))
}

fn joined_opt(head: Option<Tensor<3>>, rows: Option<Tensor<3>>) -> Option<Tensor<3>> {
    match (head, rows) {
        (Some(head), Some(rows)) => Some(Tensor::cat(vec![head, rows], 1)),
        (head, rows) => head.or(rows),
    }
}

/// All rows from `from` on.
fn tail(rows: Tensor<3>, from: usize) -> Option<Tensor<3>> {
    let [_, count, _] = rows.dims();
    (from < count).then(|| rows.narrow(1, from, count - from))
}
