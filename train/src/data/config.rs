//! The `[data]` section of a run's configuration, and opening what it describes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::corpus::Grammar;
use super::error::DataError;
use super::pack::{FimRate, pack};
use super::seeded::derive;
use super::source::Documents;
use super::split::{SplitMethod, split};
use super::summary::DataSummary;
use super::tokenizer::Tokenizer;
use super::windows::{TrainWindows, ValidWindows};

/// Where documents come from: `"builtin"`, a path, or a list of paths.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum SourceConfig {
    /// The generated corpus whose entropy is known.
    #[default]
    Builtin,
    /// Files (text or JSONL) and folders.
    Paths(Vec<PathBuf>),
}

/// Which tokenizer to use: `"bytes"`, or the path of a `tokenizer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "PathBuf", into = "PathBuf")]
pub enum TokenizerConfig {
    /// One token a byte.
    #[default]
    Bytes,
    /// A Hugging Face `tokenizer.json`.
    File(PathBuf),
}

/// What to train on, and how to cut it up. Every field has a default: an empty section is the
/// built-in corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// `"builtin"` (default), a path, or a list of paths of text files, JSONL files and folders. A
    /// file called `builtin` is written `"./builtin"`.
    pub source: SourceConfig,
    /// `"bytes"` (default), or the path of a `tokenizer.json`.
    pub tokenizer: TokenizerConfig,
    /// The end-of-document token of the `tokenizer.json`, where it is not one of the usual names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eod_token: Option<String>,
    /// `"auto"` (default: by position for one document, else by document), `"document"` or
    /// `"position"`.
    pub split: SplitMethod,
    /// The share for validation, between 0 and 1: of documents, or of bytes by position. Default
    /// 0.1.
    pub valid_fraction: f64,
    /// The field of a JSONL line that holds the text. Default `"text"`.
    pub jsonl_field: String,
    /// The share of training documents to rearrange for fill-in-the-middle, 0 to 1. Default 0; the
    /// report uses 0.1.
    pub fim_rate: f64,
    /// Decides the built-in corpus, the split by document, fill-in-the-middle and the order of
    /// windows. Default 0.
    pub seed: u64,
    /// How many bytes of the built-in corpus to generate, both splits together. Default 8,000,000.
    pub builtin_bytes: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            source: SourceConfig::default(),
            tokenizer: TokenizerConfig::default(),
            eod_token: None,
            split: SplitMethod::default(),
            valid_fraction: 0.1,
            jsonl_field: "text".to_string(),
            fim_rate: 0.0,
            seed: 0,
            builtin_bytes: 8_000_000,
        }
    }
}

/// A run's data, ready to load.
#[derive(Debug, Clone)]
pub struct TokenData {
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// The windows to train on.
    pub train: TrainWindows,
    /// The windows to validate on.
    pub valid: ValidWindows,
    /// What the data is.
    pub summary: DataSummary,
}

impl TokenData {
    /// The mean loss in nats a token of a perfect model on the first `windows` validation windows,
    /// where it is known: for the built-in corpus as bytes.
    ///
    /// Compare a validation loss with this rather than with the entropy floor of the documents,
    /// which a window of 64, 128, 256 or 512 tokens exceeds by 13, 7, 4 or 2% because it begins
    /// inside a document (see [`Grammar::window_floor`]). It takes about a millisecond a window of
    /// 256.
    pub fn window_floor(&self, windows: usize) -> Option<f64> {
        match self.tokenizer {
            Tokenizer::Bytes => self.summary.valid.nats?,
            Tokenizer::HuggingFace(_) => return None,
        };
        Grammar::english().window_floor(self.valid.slices().take(windows), self.tokenizer.eod())
    }
}

impl DataConfig {
    /// The configuration with paths that do not depend on the current folder, as a run stores it:
    /// it can be resumed, evaluated and sampled from anywhere. A path that cannot be made absolute
    /// stays as it is.
    pub fn with_absolute_paths(mut self) -> Self {
        let absolute = |path: &mut PathBuf| {
            if let Ok(full) = std::path::absolute(&*path) {
                *path = full;
            }
        };
        if let SourceConfig::Paths(paths) = &mut self.source {
            paths.iter_mut().for_each(absolute);
        }
        if let TokenizerConfig::File(path) = &mut self.tokenizer {
            absolute(path);
        }
        self
    }

    /// Opens the tokenizer the configuration names.
    ///
    /// # Errors
    /// [`DataError`] naming the file: missing, not a tokenizer, no end-of-document token.
    pub fn open_tokenizer(&self) -> Result<Tokenizer, DataError> {
        match &self.tokenizer {
            TokenizerConfig::Bytes => Ok(Tokenizer::Bytes),
            TokenizerConfig::File(path) => Tokenizer::from_file(path, self.eod_token.as_deref()),
        }
    }

    /// Reads, splits, tokenizes and packs the data into windows that predict `seq_len` tokens.
    ///
    /// The whole split is kept in memory, four bytes a token.
    ///
    /// # Errors
    /// [`DataError`] naming the field or file: anything unreadable or not text, a tokenizer with
    /// more ids than `vocab_size`, a value out of range, a split shorter than one window.
    pub fn open(&self, seq_len: usize, vocab_size: usize) -> Result<TokenData, DataError> {
        let tokenizer = self.open_tokenizer()?;
        tokenizer.check_vocab_size(vocab_size)?;
        let read = match &self.source {
            SourceConfig::Builtin => Documents::builtin(derive(self.seed, 0), self.builtin_bytes)?,
            SourceConfig::Paths(paths) => Documents::read(paths, &self.jsonl_field)?,
        };
        let sides = split(read.documents, self.split, self.valid_fraction, derive(self.seed, 1))?;
        let fim = FimRate { rate: self.fim_rate, seed: derive(self.seed, 2) };
        let train = pack(&sides.train, &tokenizer, fim)?;
        let valid = pack(&sides.valid, &tokenizer, FimRate::default())?;
        let summary = DataSummary {
            source: read.description,
            tokenizer: tokenizer.description(),
            train: (&train).into(),
            valid: (&valid).into(),
            fim_documents: train.fim_documents,
            skipped_files: read.skipped_files,
            skipped_documents: read.skipped_documents,
        };
        Ok(TokenData {
            tokenizer,
            train: TrainWindows::new(train.tokens, seq_len, derive(self.seed, 3))?,
            valid: ValidWindows::new(valid.tokens, seq_len)?,
            summary,
        })
    }
}

/// A source as people write it.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "source must be \"builtin\", a path, or a list of paths")]
enum Written {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

impl From<Written> for SourceConfig {
    fn from(written: Written) -> Self {
        match written {
            Written::One(path) if path.as_os_str() == "builtin" => SourceConfig::Builtin,
            Written::One(path) => SourceConfig::Paths(vec![path]),
            Written::Many(paths) => SourceConfig::Paths(paths),
        }
    }
}

impl From<SourceConfig> for Written {
    fn from(source: SourceConfig) -> Self {
        match source {
            SourceConfig::Builtin => Written::One(PathBuf::from("builtin")),
            SourceConfig::Paths(paths) => Written::Many(paths),
        }
    }
}

impl From<PathBuf> for TokenizerConfig {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "bytes" {
            TokenizerConfig::Bytes
        } else {
            TokenizerConfig::File(path)
        }
    }
}

impl From<TokenizerConfig> for PathBuf {
    fn from(tokenizer: TokenizerConfig) -> Self {
        match tokenizer {
            TokenizerConfig::Bytes => PathBuf::from("bytes"),
            TokenizerConfig::File(path) => path,
        }
    }
}

#[cfg(test)]
mod tests;
