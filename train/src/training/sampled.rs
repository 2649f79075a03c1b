//! Text of the model in the course of a run: always the same prompt and seed, so that samples of a
//! run differ by what the model has learned.

use std::ops::ControlFlow;

use burn_deepseek::attention::AttentionForm;
use burn_deepseek::generate::{GenerateOptions, Sampling};
use burn_deepseek::{DeepSeek, EndTokens};

use crate::data::Tokenizer;
use crate::failure::Result;
use crate::record::{SampleLine, Stamp};

/// Tokens of the greedy text in which the MTP modules' drafts are judged.
const JUDGED_TOKENS: usize = 64;

/// What a run's samples are.
#[derive(Clone, Debug)]
pub struct SamplePlan {
    /// What text is made of, and what documents end with.
    pub tokenizer: Tokenizer,
    /// What a sample begins with, after the token that ends a document.
    pub prompt: String,
    /// Tokens that follow the prompt, if the model has room for them.
    pub tokens: usize,
    /// Temperature that they are drawn at.
    pub temperature: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl SamplePlan {
    /// Draws the sample of a model, and judges its MTP modules; none where `stopped` says so.
    ///
    /// # Errors
    ///
    /// A prompt that the tokenizer cannot encode or that leaves no room; logits that are no finite
    /// numbers.
    pub fn draw(
        &self,
        model: &DeepSeek,
        stamp: Stamp,
        stopped: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<SampleLine>> {
        let mut prompt = vec![self.tokenizer.eod()];
        prompt.extend(self.tokenizer.encode_prompt(&self.prompt)?);
        let room = model.config().max_position_embeddings.saturating_sub(prompt.len());
        let options = |tokens: usize, temperature: f64, speculative: bool| GenerateOptions {
            max_new_tokens: tokens.min(room),
            sampling: Sampling { temperature, top_p: 1.0, seed: self.seed },
            stop: EndTokens::NONE,
            form: AttentionForm::Auto,
            speculative,
        };
        let on_token =
            |_| if stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let drawn = options(self.tokens, self.temperature, false);
        let drawn = model.generate(&prompt, &drawn, on_token)?;
        let mut mtp_acceptance = None;
        if model.config().num_nextn_predict_layers > 0 && !stopped() {
            let judged = options(JUDGED_TOKENS.min(self.tokens), 0.0, true);
            mtp_acceptance = model.generate(&prompt, &judged, on_token)?.acceptance_rate();
        }
        if stopped() {
            return Ok(None);
        }
        // A line a document: the token that ends one has no text of its own.
        let documents = drawn.tokens.split(|&token| token == self.tokenizer.eod());
        let lines = documents
            .map(|document| self.tokenizer.decode(document))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(SampleLine {
            stamp,
            prompt: self.prompt.clone(),
            text: self.prompt.clone() + &lines.join("\n"),
            temperature: self.temperature,
            mtp_acceptance,
        }))
    }
}
