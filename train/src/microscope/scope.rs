//! A checkpoint under the microscope: opened, its text read, its model loaded when it is first
//! looked through.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use burn_deepseek::backend::run_on;
use burn_deepseek::generate::NotFinite;
use burn_deepseek::routing::{GivenChoices, RoutingControl};
use burn_deepseek::weights::MtpWeights;
use burn_deepseek::{Compute, DeepSeek, DeepSeekConfig, Precision};

use super::{Look, MicroscopeError, Text, WhatIf};
use crate::checkpoint::Weights;
use crate::device::SelectedDevice;
use crate::failure::{Failure, Result, UsageError};
use crate::model_folder::Source;
use crate::oversize::check_forward;
use crate::routing::RoutingShape;

/// A checkpoint that is asked what it makes of texts.
#[derive(Debug)]
pub struct Microscope {
    pub(super) source: Source,
    pub(super) device: SelectedDevice,
    /// The model, and whether its weights can be computed with in other precisions than FP32.
    model: Option<(DeepSeek, bool)>,
}

impl Microscope {
    /// Opens a run's newest checkpoint, one checkpoint, or a Hugging Face folder. Its weights are
    /// not read yet.
    ///
    /// # Errors
    ///
    /// As [`Source::open`].
    pub fn open(path: &Path, weights: Weights, device: &SelectedDevice) -> Result<Self> {
        let source = Source::open(path, weights)?;
        Ok(Self { source, device: device.clone(), model: None })
    }

    /// What the model is.
    pub fn config(&self) -> &DeepSeekConfig {
        &self.source.at.model
    }

    /// The folder of the checkpoint.
    pub fn path(&self) -> PathBuf {
        let checkpoint = self.source.at.run.as_ref().map(|(checkpoint, _)| &checkpoint.path);
        checkpoint.unwrap_or(&self.source.at.folder).clone()
    }

    /// The step of the checkpoint; none of a Hugging Face folder.
    pub fn step(&self) -> Option<u64> {
        self.source.at.run.as_ref().map(|(checkpoint, _)| checkpoint.position.step)
    }

    /// Reads a text as the model's, as a prompt is read: what begins every text comes first.
    ///
    /// # Errors
    ///
    /// A text without a token to predict, or with more than the model has positions for or than
    /// `most_tokens`.
    pub fn text(&self, text: &str, most_tokens: usize) -> Result<Text> {
        let tokens = self.source.encode(text)?;
        let positions = self.config().max_position_embeddings;
        let (limit, why) = match most_tokens < positions {
            true => (most_tokens, "the most that is looked at at once"),
            false => (positions, "the model has so many positions"),
        };
        if tokens.len() > limit {
            return Err(MicroscopeError::TooLong { tokens: tokens.len(), limit, why }.into());
        }
        if tokens.len() < 2 {
            return Err(MicroscopeError::NoText.into());
        }
        Text::of(&self.source.tokenizer, tokens)
    }

    /// Looks at a text, in the checkpoint's own precision where the what-if has none; with choices
    /// that are given where there are some.
    ///
    /// # Errors
    ///
    /// A change that the model's routers cannot make, a precision that the device does not have, a
    /// pass that memory does not suffice for, weights that cannot be read, values that are no
    /// numbers.
    pub fn look(
        &mut self,
        text: &Text,
        what_if: &WhatIf,
        given: Option<Arc<GivenChoices>>,
    ) -> Result<Look> {
        let change = what_if.change();
        change.check(self.config()).map_err(MicroscopeError::from)?;
        let precision = self.source.precision(what_if.format);
        let compute = self.compute(&precision, text.tokens.len())?;
        let control = RoutingControl { change, given, log: None };
        let compute = compute.with_routing(control);
        let model = self.loaded(&precision)?;
        let inspection = run_on(&model.device(), || model.inspect(&text.tokens, &compute));
        if inspection.losses.iter().any(|loss| !loss.is_finite()) {
            return Err(not_finite(model, &text.tokens, &compute));
        }
        let chosen = model.config().num_experts_per_tok;
        Ok(Look { format: precision.name(), inspection, chosen })
    }

    /// Checks that another checkpoint's look at the same tokens can be laid beside this one's.
    ///
    /// # Errors
    ///
    /// Another tokenizer, or other layers of experts.
    pub fn check_beside(&self, other: &Self) -> Result<(), MicroscopeError> {
        if self.source.tokenizer.identity() != other.source.tokenizer.identity() {
            return Err(MicroscopeError::OtherTokenizer);
        }
        let (ours, theirs) = (RoutingShape::of(self.config()), RoutingShape::of(other.config()));
        if ours != theirs {
            let (ours, theirs) = (ours.to_string(), theirs.to_string());
            return Err(MicroscopeError::OtherExperts { ours, theirs });
        }
        Ok(())
    }

    /// How a pass over so many tokens is computed in a precision.
    pub(super) fn compute(&self, precision: &Precision, tokens: usize) -> Result<Compute> {
        let compute =
            Compute::new(*precision, &self.device.device).map_err(MicroscopeError::from)?;
        check_forward(self.config(), tokens, &self.device, "give a shorter text")?;
        Ok(compute)
    }

    /// The model, in a form that a precision can be computed with.
    pub(super) fn loaded(&mut self, precision: &Precision) -> Result<&DeepSeek> {
        let widened = *precision != Precision::F32;
        let fits = |(_, is_widened): &(DeepSeek, bool)| *is_widened || !widened;
        if !self.model.as_ref().is_some_and(fits) {
            // One at a time is enough.
            self.model = None;
            let model = self.source.load(&self.device.device, MtpWeights::Load, precision)?;
            self.model = Some((model, widened));
        }
        let (model, _) = self.model.as_ref().expect("invariant: it has just been loaded");
        Ok(model)
    }
}

/// Why a loss is no number: where in the model that begins.
fn not_finite(model: &DeepSeek, tokens: &[u32], compute: &Compute) -> Failure {
    let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
    let shape = [1, tokens.len()];
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &model.device());
    let what = "the loss of a token is NaN or infinite";
    match NotFinite::look(model, tokens, compute) {
        Some(place) if place.weight.is_some() => UsageError(format!("{what}: {place}")).into(),
        Some(place) => Failure::new(format!("{what}: {place}")),
        None => Failure::new(what),
    }
}
