//! Everything that can be wrong with data, each error naming the file or field and what would be
//! right.

use std::error::Error;
use std::path::PathBuf;

use burn_dataset::DatasetError;

use crate::failure::{Blame, Blamed, blamed};

/// An error in the data, its files, its tokenizer or its configuration.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A path does not exist.
    #[error("{path}: no such file or folder", path = .path.display())]
    Missing {
        /// The path as given.
        path: PathBuf,
    },
    /// The system refused to read a path.
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A path is neither a file nor a folder.
    #[error("{path}: is neither a file nor a folder", path = .path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// A file has no text.
    #[error(
        "{path}: the file is empty; a file with at least one document is needed",
        path = .path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file is not what it would have to be, or not what its name says.
    #[error("{path}: {message}", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is and what would be right.
        message: String,
    },
    /// A file is not UTF-8 text.
    #[error(
        "{path}: {what} at byte offset {offset}; the file must be UTF-8 text",
        path = .path.display()
    )]
    Binary {
        /// The file.
        path: PathBuf,
        /// Zero-based offset of the first bad byte.
        offset: usize,
        /// What is there.
        what: &'static str,
    },
    /// A line, an element or a row of a file is not as it must be.
    #[error(
        "{path}: {place}: {message} (data.bad_lines = \"skip\" passes over such ones)",
        path = .path.display()
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// Which: "line 3", counted from one.
        place: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A folder holds nothing that can be used.
    #[error("{path}: the folder has no usable files: {found} found, none non-empty with an ending \
             among {endings}", path = .path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
        /// How many files it has.
        found: usize,
        /// The endings that count as text.
        endings: String,
    },
    /// A field of the configuration has a value that cannot be used.
    #[error("{field}: {message}")]
    Config {
        /// The key of the run file, its section included.
        field: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A tokenizer file cannot be used.
    #[error("{path}: {message}", path = .path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The tokenizer makes ids that the model has no embedding for.
    #[error(
        "the tokenizer ({tokenizer}) needs a vocabulary of {needed} but the model's vocab_size is \
         {vocab_size}; \
         set vocab_size to at least {needed}"
    )]
    Vocabulary {
        /// The tokenizer's file, or "bytes".
        tokenizer: String,
        /// The largest id plus one.
        needed: usize,
        /// The model's.
        vocab_size: usize,
    },
    /// A split has fewer tokens than one window.
    #[error(
        "the {split} split has {tokens} tokens, fewer than one window of seq_len + 1 = {needed}; \
         give more text, a shorter seq_len, or another valid_fraction"
    )]
    TooShort {
        /// "training" or "validation".
        split: &'static str,
        /// Tokens of the split.
        tokens: usize,
        /// The tokens of one window.
        needed: usize,
    },
    /// A split would be empty.
    #[error(
        "{documents} document(s) cannot be split by {by}: the {split} split would be empty; \
         {advice}"
    )]
    Unsplittable {
        /// How many documents there are.
        documents: usize,
        /// "document" or "position".
        by: &'static str,
        /// "training" or "validation".
        split: &'static str,
        /// What would be right.
        advice: &'static str,
    },
    /// The data of a run is not what it was.
    #[error(
        "the data of this run has changed since it was saved: {}; give the same text, or go on \
         over what is there now with --allow-changed-data",
        .changes.join(", ")
    )]
    Changed {
        /// Which file, and how.
        changes: Vec<String>,
    },
    /// Something else ended the preparation: its error is the one to report.
    #[error("the preparation of the data was stopped")]
    Stopped,
    /// A window was asked for that does not exist.
    #[error("window {index} was asked for, but there are {len}")]
    OutOfRange {
        /// The index asked for.
        index: usize,
        /// The number of windows.
        len: usize,
    },
}

impl DataError {
    /// The error of a failed read: a missing path says so, anything else quotes the system.
    pub(crate) fn read(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            std::io::ErrorKind::NotFound => DataError::Missing { path },
            _ => DataError::Unreadable { path, source },
        }
    }
}

blamed!(User: DataError);

/// A dataset of Burn's fails as what it wraps does.
impl Blamed for DatasetError {
    fn blame(&self) -> Blame {
        let wrapped = self.source().and_then(|source| source.downcast_ref::<DataError>());
        wrapped.map_or(Blame::Run, Blamed::blame)
    }
}
