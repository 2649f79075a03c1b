//! Which tokens an expert takes over a run's held-out text.

use std::collections::{BTreeMap, HashMap};

use burn_deepseek::backend::run_on;
use serde::Serialize;

use super::{Microscope, MicroscopeError, Text};
use crate::data::{EvalData, Opening, Tokenizer};
use crate::failure::{Context, Result};

/// Tokens that are told of an expert at most.
const TOLD: usize = 200;

/// How often each expert took each token of some text.
#[derive(Clone, Debug)]
pub struct Taken {
    tokenizer: Tokenizer,
    seen_tokens: usize,
    /// How often each token is in the text, layer by layer (an MTP module sees fewer).
    seen: BTreeMap<usize, HashMap<u32, usize>>,
    /// How often an expert of a layer took it.
    taken: HashMap<(usize, u32), HashMap<u32, usize>>,
    experts: usize,
}

/// The tokens that one expert took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TakenTokens {
    /// The most frequent first.
    pub tokens: Vec<TakenToken>,
    /// Tokens of the text.
    pub seen_tokens: usize,
    /// Those that the expert took.
    pub taken_tokens: usize,
}

/// One token, as often as it was taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TakenToken {
    /// What is shown of it.
    pub text: String,
    /// Its id.
    pub id: u32,
    /// How often the expert took it.
    pub count: usize,
    /// The share of its places in the text in which the expert took it.
    pub share: f64,
}

impl Microscope {
    /// Routes the first windows of the run's held-out text, about `tokens` tokens, in the
    /// checkpoint's own precision.
    ///
    /// # Errors
    ///
    /// A folder without a run, data that cannot be read, weights that cannot.
    pub fn taken(&mut self, tokens: usize) -> Result<Taken> {
        let Some((_, config)) = &self.source.at.run else {
            return Err(MicroscopeError::NoHeldOut.into());
        };
        let (seq_len, vocab_size) = (config.train.seq_len, self.config().vocab_size);
        let data = self.source.data();
        let cache = data.cache_folder();
        let opening = Opening { cache: cache.as_deref(), ..Opening::default() };
        let data = EvalData::held_out(&data, seq_len, vocab_size, &opening)?;
        let precision = self.source.precision(None);
        let compute = self.compute(&precision, seq_len)?;
        let mut taken = Taken {
            tokenizer: self.source.tokenizer.clone(),
            seen_tokens: 0,
            seen: BTreeMap::new(),
            taken: HashMap::new(),
            experts: self.config().n_routed_experts,
        };
        let chosen = self.config().num_experts_per_tok;
        let model = self.loaded(&precision)?;
        for batch in data.batches(1).take(tokens.div_ceil(seq_len.max(1)).max(1)) {
            let batch = batch.context("the data cannot be read")?;
            let Some(window) = batch.first() else { continue };
            let inputs = &window.tokens[..window.tokens.len() - 1];
            taken.seen_tokens += inputs.len();
            for record in run_on(&model.device(), || model.routed(inputs, &compute)) {
                let seen = taken.seen.entry(record.layer).or_default();
                for (token, experts) in inputs.iter().zip(record.chosen.chunks(chosen.max(1))) {
                    *seen.entry(*token).or_default() += 1;
                    for &expert in experts {
                        let of = taken.taken.entry((record.layer, expert)).or_default();
                        *of.entry(*token).or_default() += 1;
                    }
                }
            }
        }
        Ok(taken)
    }
}

impl Taken {
    /// The tokens that an expert took, the most frequent first.
    ///
    /// # Errors
    ///
    /// A layer or an expert that there is not; a token that the tokenizer cannot decode.
    pub fn tokens_of(&self, layer: usize, expert: usize) -> Result<TakenTokens> {
        let (Some(seen), true) = (self.seen.get(&layer), expert < self.experts) else {
            return Err(MicroscopeError::NoExpert { layer, expert }.into());
        };
        let none = HashMap::new();
        let counts = self.taken.get(&(layer, expert as u32)).unwrap_or(&none);
        let mut sorted: Vec<(u32, usize)> =
            counts.iter().map(|(id, count)| (*id, *count)).collect();
        sorted.sort_unstable_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
        let token = |(id, count): (u32, usize)| -> Result<TakenToken> {
            Ok(TakenToken {
                text: Text::alone(&self.tokenizer, id)?,
                id,
                count,
                share: count as f64 / seen.get(&id).copied().unwrap_or(count) as f64,
            })
        };
        Ok(TakenTokens {
            seen_tokens: self.seen_tokens,
            taken_tokens: counts.values().sum(),
            tokens: sorted.into_iter().take(TOLD).map(token).collect::<Result<_>>()?,
        })
    }
}
