//! What `--checkpoint` of `generate` names: a run, one checkpoint, or a Hugging Face folder, and
//! the tokenizer that goes with it.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use burn_deepseek::DeepSeek;
use burn_deepseek::weights::{LoadOptions, MtpWeights, WeightForm, load_model};

use crate::checkpoint::{Checkpoint, Weights};
use crate::commands::model_folder::{KINDS, ModelFolder};
use crate::data::{BYTES_EOD, BYTES_VOCAB_SIZE, DataError, Tokenizer};
use crate::failure::{Result, UsageError};

const TOKENIZER_FILE: &str = "tokenizer.json";
const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";

/// Bytes and no special token: the least that a model over bytes can have.
const BYTES_ALONE: usize = 256;

/// A model that can continue text.
#[derive(Debug)]
pub(super) struct Source {
    pub model: DeepSeek,
    pub tokenizer: Tokenizer,
    /// What every text begins with: models of runs have only seen documents after the end of
    /// another.
    lead: Option<u32>,
    /// The token that ends a text, and begins one without a prompt.
    pub eod: Option<u32>,
}

impl Source {
    /// Loads the newest checkpoint of a run's folder, one checkpoint, or a Hugging Face folder.
    ///
    /// # Errors
    ///
    /// Nothing of the kind there, a damaged checkpoint, a tokenizer that is missing or does not fit
    /// the model.
    pub fn open(path: &Path, device: &Device, mtp: MtpWeights, weights: Weights) -> Result<Self> {
        match ModelFolder::find(path)? {
            Some(ModelFolder::Checkpoint(path)) => {
                Self::of_run(&Checkpoint::open(&path)?, device, mtp, weights)
            }
            _ if weights == Weights::Average => Err(UsageError(format!(
                "{}: --ema needs a run's checkpoint; no run is here",
                path.display()
            ))
            .into()),
            Some(ModelFolder::HuggingFace(path)) => Self::of_hugging_face(&path, device, mtp),
            None => {
                Err(UsageError(format!("{}: no model here; give {KINDS}", path.display())).into())
            }
        }
    }

    fn of_run(
        checkpoint: &Checkpoint,
        device: &Device,
        mtp: MtpWeights,
        weights: Weights,
    ) -> Result<Self> {
        let tokenizer = checkpoint.config()?.data.open_tokenizer()?;
        let model = checkpoint.model(device, mtp, weights)?.no_grad();
        tokenizer.check_vocab_size(model.config().vocab_size)?;
        let eod = Some(tokenizer.eod());
        Ok(Self { model, tokenizer, lead: eod, eod })
    }

    fn of_hugging_face(path: &Path, device: &Device, mtp: MtpWeights) -> Result<Self> {
        let options = LoadOptions { mtp, weights: WeightForm::AsStored };
        let model = load_model(path, device, &options)?.no_grad();
        let (vocab_size, bos) = (model.config().vocab_size, model.config().bos_token_id);
        let file = path.join(TOKENIZER_FILE);
        if file.is_file() {
            let tokenizer = Tokenizer::from_file(&file, eos_token(path).as_deref())?;
            tokenizer.check_vocab_size(vocab_size)?;
            let eod = Some(model.config().eos_token_id.unwrap_or(tokenizer.eod()));
            return Ok(Self { model, tokenizer, lead: bos, eod });
        }
        if !(BYTES_ALONE..=BYTES_VOCAB_SIZE).contains(&vocab_size) {
            let bytes = format!(
                "a model over bytes would have a vocab_size from {BYTES_ALONE} to \
                 {BYTES_VOCAB_SIZE}, not {vocab_size}"
            );
            return Err(UsageError(format!(
                "{}: no such file, and {bytes}; put the model's tokenizer there",
                file.display()
            ))
            .into());
        }
        let eod = Some(BYTES_EOD).filter(|&eod| (eod as usize) < vocab_size);
        Ok(Self { model, tokenizer: Tokenizer::Bytes, lead: eod, eod })
    }

    /// The tokens to continue: the lead, then the prompt; for a prompt without tokens the end of a
    /// document.
    ///
    /// # Errors
    ///
    /// Text that the tokenizer does not take.
    pub fn encode(&self, prompt: &str) -> Result<Vec<u32>, DataError> {
        let text = self.tokenizer.encode(prompt)?;
        let lead = if text.is_empty() { self.lead.or(self.eod) } else { self.lead };
        Ok(lead.into_iter().chain(text).collect())
    }
}

/// The name of the token that ends a text, where the tokenizer's settings are there and have it.
fn eos_token(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(TOKENIZER_CONFIG_FILE)).ok()?;
    let settings: serde_json::Value = serde_json::from_str(&text).ok()?;
    let token = &settings["eos_token"];
    token.as_str().or_else(|| token["content"].as_str()).map(str::to_string)
}
