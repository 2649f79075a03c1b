//! What `--checkpoint` of a command names: a run, one checkpoint, or a Hugging Face folder, and the
//! tokenizer that goes with it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use burn_deepseek::weights::{
    CONFIG_FILE, LoadOptions, MtpWeights, SETTINGS_BYTES, WeightForm, WeightsError, load_model,
    read_config, read_regular_text,
};
use burn_deepseek::{DeepSeek, DeepSeekConfig, EndTokens, Precision};
use serde_json::Value;

use super::{KINDS, ModelFolder};
use crate::checkpoint::{Checkpoint, Purpose, Weights};
use crate::config::{Format, PrecisionConfig, RunConfig};
use crate::data::{
    BYTES_VOCAB_SIZES, DataConfig, DataError, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer,
    TokenizerConfig, TokenizerFiles,
};
use crate::failure::{Result, UsageError};

/// What a library that generates takes over `config.json`.
pub const GENERATION_FILE: &str = "generation_config.json";

/// A model's folder, its weights not read yet.
#[derive(Debug)]
pub struct Located {
    /// Where `config.json` and the weights are.
    pub folder: PathBuf,
    /// What the model is.
    pub model: DeepSeekConfig,
    /// The run that it is a checkpoint of.
    pub run: Option<(Checkpoint, RunConfig)>,
    /// Its tokenizer; none where the folder has none that this program reads.
    pub tokenizer: Option<Tokenizer>,
    /// The tokens that end a text.
    pub stop: EndTokens,
    /// What every text begins with. Models of runs have only seen documents after the end of
    /// another.
    lead: Vec<u32>,
}

/// A model's folder and the tokenizer in it.
#[derive(Debug)]
pub struct Source {
    /// The folder.
    pub at: Located,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
}

impl Located {
    /// Finds the newest checkpoint of a run's folder, one checkpoint, or a Hugging Face folder.
    ///
    /// # Errors
    ///
    /// Nothing of the kind there, a damaged checkpoint, or a tokenizer that cannot be read or does
    /// not fit the model.
    pub fn find(path: &Path, weights: Weights) -> Result<Self> {
        match ModelFolder::find(path)? {
            Some(ModelFolder::Checkpoint(path)) => Self::of_run(&path, weights),
            _ if weights == Weights::Average => Err(UsageError(format!(
                "{}: --ema needs a run's checkpoint; no run is here",
                path.display()
            ))
            .into()),
            Some(ModelFolder::HuggingFace(path)) => Self::of_hugging_face(path),
            None => {
                Err(UsageError(format!("{}: no model here; give {KINDS}", path.display())).into())
            }
        }
    }

    fn of_run(path: &Path, weights: Weights) -> Result<Self> {
        let checkpoint = Checkpoint::open(path, Purpose::Running(weights))?;
        let mut config = checkpoint.config()?;
        let folder = checkpoint.model_folder(weights)?;
        let tokenizer = open_own_tokenizer(&mut config.data, &folder)?;
        let model = read_config(&folder)?;
        tokenizer.check_vocab_size(model.vocab_size)?;
        let settings = Settings::read(&folder)?;
        let located = Self::with_tokens_of(folder, &settings, model, Some(tokenizer));
        Ok(Self { run: Some((checkpoint, config)), ..located })
    }

    fn of_hugging_face(folder: PathBuf) -> Result<Self> {
        let model = read_config(&folder)?;
        let settings = Settings::read(&folder)?;
        let file = folder.join(TOKENIZER_FILE);
        let tokenizer = if file.exists() {
            let (name, ids) = (settings.token_text("eos_token"), end_tokens(&settings, &model));
            let tokenizer = Tokenizer::of_model(&file, name.as_deref(), ids.as_slice())?;
            tokenizer.check_vocab_size(model.vocab_size)?;
            Some(tokenizer)
        } else {
            // A model over bytes may be without some of the special tokens.
            let over_bytes = BYTES_VOCAB_SIZES.contains(&model.vocab_size);
            over_bytes.then_some(Tokenizer::Bytes)
        };
        Ok(Self::with_tokens_of(folder, &settings, model, tokenizer))
    }

    /// Finds the tokens that begin and end a text.
    fn with_tokens_of(
        folder: PathBuf,
        settings: &Settings,
        model: DeepSeekConfig,
        tokenizer: Option<Tokenizer>,
    ) -> Self {
        let known = |token: &u32| (*token as usize) < model.vocab_size;
        let stated = |key| value(&settings.config, key).is_some();
        let eod = tokenizer.as_ref().map(Tokenizer::eod).filter(known);
        let mut stop = end_tokens(settings, &model);
        // What the model type has for a key that is left out is a byte of text here.
        if matches!(tokenizer, Some(Tokenizer::Bytes)) && !stated("eos_token_id") {
            stop = stop.iter().filter(|&token| !model.eos_token_id.contains(token)).collect();
        }
        if stop.is_empty() {
            stop = eod.into_iter().collect();
        }
        let begin = model.bos_token_id.filter(known).filter(|_| stated("bos_token_id"));
        let lead = match &tokenizer {
            None => Vec::new(),
            Some(Tokenizer::Bytes) => eod.or(begin).into_iter().collect(),
            Some(tokenizer) => match (tokenizer.lead(), settings.tokenizer_flag("add_bos_token")) {
                (lead, _) if !lead.is_empty() => lead,
                (_, Some(false)) => Vec::new(),
                (_, Some(true)) => {
                    let named = settings.token_text("bos_token");
                    let named = named.and_then(|name| id_of(tokenizer, &name)).filter(known);
                    named.or(begin).into_iter().collect()
                }
                (_, None) => begin.into_iter().collect(),
            },
        };
        Self { folder, model, run: None, tokenizer, stop, lead }
    }

    /// The token that begins a text, where there is one.
    pub fn begin(&self) -> Option<u32> {
        self.lead.first().copied().or(self.model.bos_token_id)
    }
}

impl Source {
    /// Finds a model's folder as [`Located::find`] does, with a tokenizer.
    ///
    /// # Errors
    ///
    /// As there, and where there is no tokenizer.
    pub fn open(path: &Path, weights: Weights) -> Result<Self> {
        let mut at = Located::find(path, weights)?;
        let Some(tokenizer) = at.tokenizer.take() else {
            let bytes = format!(
                "a model over bytes would have a vocab_size from {} to {}, not {}",
                BYTES_VOCAB_SIZES.start(),
                BYTES_VOCAB_SIZES.end(),
                at.model.vocab_size
            );
            return Err(UsageError(format!(
                "{}: no such file, and {bytes}; put the model's tokenizer there",
                at.folder.join(TOKENIZER_FILE).display()
            ))
            .into());
        };
        Ok(Self { at, tokenizer })
    }

    /// Loads the model for running it in a precision; in FP32 with its matrices as they are stored.
    ///
    /// # Errors
    ///
    /// Weights that cannot be read or do not fit.
    pub fn load(
        &self,
        device: &Device,
        mtp: MtpWeights,
        precision: &Precision,
    ) -> Result<DeepSeek, WeightsError> {
        let weights = match precision {
            Precision::F32 => WeightForm::AsStored,
            Precision::Bf16x3 | Precision::Bf16 | Precision::Fp8(_) => WeightForm::F32,
        };
        let options = LoadOptions { mtp, weights };
        Ok(load_model(&self.at.folder, device, &options)?.no_grad())
    }

    /// What the model is computed in: in the run's precision, or in FP32 where there is no run;
    /// with another format where one is asked for.
    pub fn precision(&self, format: Option<Format>) -> Precision {
        let own = self.at.run.as_ref().map(|(_, config)| config.precision.clone());
        let own = own.unwrap_or_default();
        PrecisionConfig { format: format.unwrap_or(own.format), ..own }.precision()
    }

    /// The tokens to continue: the lead, where the prompt does not begin with it, then the prompt;
    /// for a prompt without tokens the end of a document.
    ///
    /// # Errors
    ///
    /// Text that the tokenizer does not take.
    pub fn encode(&self, prompt: &str) -> Result<Vec<u32>, DataError> {
        let text = self.tokenizer.encode_prompt(prompt)?;
        let lead = &self.at.lead;
        let mut tokens = if text.starts_with(lead) { Vec::new() } else { lead.clone() };
        tokens.extend(text);
        if tokens.is_empty() {
            tokens.push(self.at.stop.first().unwrap_or(self.tokenizer.eod()));
        }
        Ok(tokens)
    }

    /// The data that a run was trained on, or where there is no run, how data is read: either way
    /// with this tokenizer.
    pub fn data(&self) -> DataConfig {
        match (&self.at.run, &self.tokenizer) {
            (Some((_, config)), _) => config.data.clone(),
            (None, Tokenizer::Bytes) => DataConfig::default(),
            (None, Tokenizer::HuggingFace(tokenizer)) => DataConfig {
                tokenizer: TokenizerConfig::File(tokenizer.path().to_path_buf()),
                eod_token: tokenizer.token(tokenizer.eod()),
                ..DataConfig::default()
            },
        }
    }
}

/// Opens the tokenizer of a checkpoint: the run's own file as long as the checkpoint's copy is made
/// of it, for then what was prepared for it is still good, else the copy, which `data` then names.
fn open_own_tokenizer(data: &mut DataConfig, folder: &Path) -> Result<Tokenizer, DataError> {
    let TokenizerConfig::File(_) = &data.tokenizer else { return data.open_tokenizer() };
    if let Ok(tokenizer) = data.open_tokenizer()
        && TokenizerFiles::of_run(&tokenizer, tokenizer.vocab_size())
            .is_ok_and(|files| files.are_in(folder))
    {
        return Ok(tokenizer);
    }
    data.tokenizer = TokenizerConfig::File(folder.join(TOKENIZER_FILE));
    data.open_tokenizer()
}

/// Every token that ends a text, those of `config.json` first.
fn end_tokens(settings: &Settings, model: &DeepSeekConfig) -> EndTokens {
    let further: EndTokens = value(&settings.generation, "eos_token_id")
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .unwrap_or(EndTokens::NONE);
    let config = &model.eos_token_id;
    config.iter().chain(further.iter().filter(|&token| !config.contains(token))).collect()
}

/// The number of a token that is named by its text alone.
fn id_of(tokenizer: &Tokenizer, token: &str) -> Option<u32> {
    match tokenizer.encode_prompt(token).ok()?[..] {
        [id] => Some(id),
        _ => None,
    }
}

/// The files of a folder that say which tokens a text begins and ends with.
struct Settings {
    config: Value,
    generation: Value,
    tokenizer: Value,
}

impl Settings {
    /// Reads them; those that are not there, as in many folders, say nothing.
    fn read(folder: &Path) -> Result<Self> {
        let file = |name: &str| read_json(&folder.join(name));
        Ok(Self {
            config: file(CONFIG_FILE)?,
            generation: file(GENERATION_FILE)?,
            tokenizer: file(TOKENIZER_CONFIG_FILE)?,
        })
    }

    /// A token's text in the tokenizer's settings, where they have it.
    fn token_text(&self, key: &str) -> Option<String> {
        let token = value(&self.tokenizer, key)?;
        token.as_str().or_else(|| token["content"].as_str()).map(str::to_string)
    }

    fn tokenizer_flag(&self, key: &str) -> Option<bool> {
        value(&self.tokenizer, key)?.as_bool()
    }
}

/// The value of a key that is there and not null.
fn value<'a>(settings: &'a Value, key: &str) -> Option<&'a Value> {
    settings.get(key).filter(|value| !value.is_null())
}

/// JSON in a file; null where the file is not there.
fn read_json(path: &Path) -> Result<Value> {
    match read_regular_text(path, SETTINGS_BYTES) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Value::Null),
        Err(source) => Err(WeightsError::Read { path: path.into(), source }.into()),
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| UsageError(format!("{}: not JSON: {error}", path.display())).into()),
    }
}
