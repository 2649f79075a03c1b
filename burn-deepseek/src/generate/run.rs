//! `generate`: a prompt in, new tokens out.

use std::ops::ControlFlow;

use super::speculative::Drafter;
use super::{Decoder, NotFinite, Sampler, Sampling};
use crate::attention::AttentionForm;
use crate::backend::run_on;
use crate::{Compute, DeepSeek, EndTokens};

/// How to continue a prompt.
///
/// ```no_run
/// use std::ops::ControlFlow;
///
/// use burn::tensor::Device;
/// use burn_deepseek::attention::AttentionForm;
/// use burn_deepseek::generate::{GenerateOptions, Sampling};
/// use burn_deepseek::weights::{LoadOptions, load_model};
///
/// let model = load_model("path/to/model", &Device::flex(), &LoadOptions::default())?;
/// let options = GenerateOptions {
///     max_new_tokens: 32,
///     sampling: Sampling { temperature: 0.7, top_p: 0.95, seed: 1 },
///     stop: model.config().eos_token_id.clone(),
///     form: AttentionForm::Auto,
///     speculative: false,
/// };
/// let generation = model.generate(&[1, 2, 3], &options, |token| {
///     println!("{token}");
///     ControlFlow::Continue(())
/// })?;
/// assert!(generation.tokens.len() <= 32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// New tokens at most.
    pub max_new_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Tokens that end the text. The one that does is the last of the output, and `on_token` does
    /// not see it.
    pub stop: EndTokens,
    /// Form of the attention over the cache.
    pub form: AttentionForm,
    /// Let the MTP modules draft tokens that the main model verifies in one pass. The output is
    /// that of the main model alone.
    pub speculative: bool,
}

/// What was generated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// The new tokens, the one that ended the text included.
    pub tokens: Vec<u32>,
    /// The token of [`GenerateOptions::stop`] that ended the text; none where something else did.
    pub stopped_by: Option<u32>,
    /// Passes of the main model after the prompt.
    pub passes: usize,
    /// Tokens that the MTP modules drafted.
    pub drafted: usize,
    /// Drafts that the main model agreed with.
    pub accepted: usize,
}

impl Generation {
    /// Share of the drafts that were accepted; none without drafts.
    pub fn acceptance_rate(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }
}

/// Why nothing can be generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// There is no token to start from.
    #[error("the prompt has no tokens; give at least one")]
    EmptyPrompt,
    /// A prompt token that the model does not know.
    #[error("prompt token {position} is {token}, but the model's vocab_size is {vocab_size}")]
    UnknownToken {
        /// Where in the prompt.
        position: usize,
        /// The token.
        token: u32,
        /// Tokens below this are known.
        vocab_size: usize,
    },
    /// The text would outgrow the model's positions.
    #[error(
        "{prompt} prompt tokens and max_new_tokens {new} exceed the model's \
         max_position_embeddings {limit}"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// New tokens asked for.
        new: usize,
        /// Positions of the model.
        limit: usize,
    },
    /// Speculation without a module to draft.
    #[error(
        "speculative decoding needs MTP modules, and this model has none (num_nextn_predict_layers \
         is 0, or they were dropped when loading)"
    )]
    NoDrafter,
    /// Logits that no token can be drawn from.
    #[error("the logits after token {position} are NaN or infinite: {place}")]
    NotFinite {
        /// Tokens that the model had seen.
        position: usize,
        /// Where it began.
        place: NotFinite,
    },
}

impl DeepSeek {
    /// Continues `prompt`, in FP32. `on_token` sees each new token as it is decided and may break
    /// off; on the CPU it is called on a thread of the pool ([`run_on`]).
    ///
    /// # Errors
    ///
    /// An empty prompt, an unknown token, a text beyond the model's positions, speculation without
    /// MTP modules, or logits that are not finite.
    pub fn generate(
        &self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_token: impl FnMut(u32) -> ControlFlow<()> + Send,
    ) -> Result<Generation, GenerateError> {
        run_on(&self.device(), || self.generate_with(prompt, options, &Compute::f32(), on_token))
    }

    /// [`DeepSeek::generate`] on the calling thread, computed as `compute` says: in its precision, and
    /// with its way to experts that are elsewhere.
    ///
    /// # Errors
    ///
    /// As [`DeepSeek::generate`].
    pub fn generate_with(
        &self,
        prompt: &[u32],
        options: &GenerateOptions,
        compute: &Compute,
        mut on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generation, GenerateError> {
        self.check_prompt(prompt, options)?;
        let mut generation = Generation::default();
        if options.max_new_tokens == 0 {
            return Ok(generation);
        }
        let mut sampler = Sampler::new(options.sampling);
        let mut decoder = Decoder::with_compute(self, options.form, compute);
        let mut drafter = options.speculative.then(|| Drafter::new(self, options.form, compute));
        let mut tokens = prompt.to_vec();
        let mut drafts: Vec<u32> = Vec::new();
        let mut decided = 0; // tokens that the main model has seen and that stay

        loop {
            let mut fed = tokens[decided..].to_vec();
            fed.extend_from_slice(&drafts);
            let judged = drafts.len() + 1;
            // Drafting wants all hidden states, of the prompt too.
            let wanted = if drafter.is_some() { fed.len() } else { judged };
            let hidden = decoder.feed_for(&fed, wanted);
            generation.passes += usize::from(decided > 0);
            let logits = decoder.logits(hidden.clone(), judged);
            let new_rows = fed.len() - drafts.len();
            let mut accepted = 0;
            for row in &logits {
                if !row.iter().all(|logit| logit.is_finite()) {
                    let (position, place) = (tokens.len(), decoder.probe(decided, &fed));
                    return Err(GenerateError::NotFinite { position, place });
                }
                let token = sampler.sample(row);
                generation.tokens.push(token);
                if options.stop.contains(token) {
                    generation.stopped_by = Some(token);
                    return Ok(generation);
                }
                tokens.push(token);
                let agreed = drafts.get(accepted) == Some(&token);
                accepted += usize::from(agreed);
                generation.accepted += usize::from(agreed);
                let enough = generation.tokens.len() == options.max_new_tokens;
                if on_token(token).is_break() || enough {
                    return Ok(generation);
                }
                if !agreed {
                    break;
                }
            }
            decided += new_rows + accepted;
            decoder.truncate(decided);
            if let Some(drafter) = &mut drafter {
                drafter.accept(hidden.narrow(1, 0, new_rows + accepted));
                drafts = drafter.draft(&tokens);
                drafts
                    .truncate((options.max_new_tokens - generation.tokens.len()).saturating_sub(1));
                generation.drafted += drafts.len();
            }
        }
    }

    fn check_prompt(&self, prompt: &[u32], options: &GenerateOptions) -> Result<(), GenerateError> {
        let vocab_size = self.config().vocab_size;
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if let Some((position, &token)) =
            prompt.iter().enumerate().find(|(_, token)| **token as usize >= vocab_size)
        {
            return Err(GenerateError::UnknownToken { position, token, vocab_size });
        }
        let limit = self.config().max_position_embeddings;
        if prompt.len().saturating_add(options.max_new_tokens) > limit {
            return Err(GenerateError::TooLong {
                prompt: prompt.len(),
                new: options.max_new_tokens,
                limit,
            });
        }
        if options.speculative && self.mtp.is_empty() {
            return Err(GenerateError::NoDrafter);
        }
        Ok(())
    }
}
