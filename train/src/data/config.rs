//! The `[data]` section of a run's configuration, and opening what it describes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::DataError;
use super::source::BadLines;
use super::split::SplitMethod;
use super::tokenizer::Tokenizer;

/// Where documents come from: `"builtin"`, a path, or a list of paths.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum SourceConfig {
    /// The generated corpus whose entropy is known.
    #[default]
    Builtin,
    /// Files and folders.
    Paths(Vec<SourcePath>),
}

/// A file or folder, and how often its training documents come in an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenPath", into = "WrittenPath")]
pub struct SourcePath {
    /// Where it is.
    pub path: PathBuf,
    /// How often: 2.0 is twice, 0.5 every other document.
    pub weight: f64,
}

impl<P: Into<PathBuf>> From<P> for SourcePath {
    fn from(path: P) -> Self {
        Self { path: path.into(), weight: 1.0 }
    }
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
    /// `"builtin"` (default), a path, or a list of paths of files and folders; a path in a list may
    /// be `{ path = "...", weight = 2.0 }`. A file called `builtin` is written `"./builtin"`.
    pub source: SourceConfig,
    /// Files and folders to validate on, all of them; then nothing of `source` is held out. None by
    /// default.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub valid_source: Vec<PathBuf>,
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
    /// The field of a JSON object, or the column of a Parquet file, that holds the text. Default
    /// `"text"`.
    pub jsonl_field: String,
    /// What is done about a line, element or row that is not as it must be: `"error"` (default) or
    /// `"skip"`.
    pub bad_lines: BadLines,
    /// The share of training documents to rearrange for fill-in-the-middle, 0 to 1. Default 0; the
    /// report uses 0.1.
    pub fim_rate: f64,
    /// Decides the built-in corpus, the split by document, fill-in-the-middle and the order of
    /// windows. Default 0.
    pub seed: u64,
    /// How many bytes of the built-in corpus to generate, both splits together. Default 8,000,000.
    pub builtin_bytes: usize,
    /// Folder in which tokens are kept from one start to the next. Without it
    /// `burn-deepseek/tokens` in the user's folder for caches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<PathBuf>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            source: SourceConfig::default(),
            valid_source: Vec::new(),
            tokenizer: TokenizerConfig::default(),
            eod_token: None,
            split: SplitMethod::default(),
            valid_fraction: 0.1,
            jsonl_field: "text".to_string(),
            bad_lines: BadLines::default(),
            fim_rate: 0.0,
            seed: 0,
            builtin_bytes: 8_000_000,
            cache_dir: None,
        }
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
            paths.iter_mut().for_each(|source| absolute(&mut source.path));
        }
        self.valid_source.iter_mut().for_each(absolute);
        self.cache_dir.iter_mut().for_each(absolute);
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

    /// Where tokens are kept: `cache_dir`, or `burn-deepseek/tokens` in the user's folder for
    /// caches; `None` where there is no such folder.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let caches = || {
            variable("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")))
                .or_else(|| variable("LOCALAPPDATA").map(PathBuf::from))
        };
        let tokens = || caches().map(|folder| folder.join("burn-deepseek").join("tokens"));
        self.cache_dir.clone().or_else(tokens)
    }
}

/// A source as people write it.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "source must be \"builtin\", a path, or a list of paths, \
                               each also as { path = \"...\", weight = 2.0 }"
)]
enum Written {
    One(PathBuf),
    Many(Vec<SourcePath>),
}

impl From<Written> for SourceConfig {
    fn from(written: Written) -> Self {
        match written {
            Written::One(path) if path.as_os_str() == "builtin" => SourceConfig::Builtin,
            Written::One(path) => SourceConfig::Paths(vec![path.into()]),
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

/// A path as people write it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenPath {
    Plain(PathBuf),
    Weighted(WeightedPath),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightedPath {
    path: PathBuf,
    weight: f64,
}

impl From<WrittenPath> for SourcePath {
    fn from(written: WrittenPath) -> Self {
        match written {
            WrittenPath::Plain(path) => path.into(),
            WrittenPath::Weighted(WeightedPath { path, weight }) => Self { path, weight },
        }
    }
}

impl From<SourcePath> for WrittenPath {
    fn from(SourcePath { path, weight }: SourcePath) -> Self {
        if weight == 1.0 {
            Self::Plain(path)
        } else {
            Self::Weighted(WeightedPath { path, weight })
        }
    }
}

/// A path, or a list of them.
fn one_or_many<'de, D: serde::Deserializer<'de>>(paths: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "valid_source must be a path or a list of paths")]
    enum Paths {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Paths::deserialize(paths).map(|paths| match paths {
        Paths::One(path) => vec![path],
        Paths::Many(paths) => paths,
    })
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
