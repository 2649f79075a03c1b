//! A folder with a model: a run's, one checkpoint's, or that of a Hugging Face model; what is in
//! it, and its tokenizer.

mod source;

use std::path::{Path, PathBuf};

use burn_deepseek::weights::CONFIG_FILE;

use crate::checkpoint::{self, CheckpointError};
use crate::failure::Result;

pub use source::{GENERATION_FILE, Located, Source};

/// What a folder with a model can be, for errors.
pub const KINDS: &str =
    "a run's folder, one checkpoint's folder, or a Hugging Face folder (with config.json)";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFolder {
    /// A checkpoint: the one that was named, or the newest of a run.
    Checkpoint(PathBuf),
    /// A Hugging Face model.
    HuggingFace(PathBuf),
}

impl ModelFolder {
    /// What `path` is, if it is any of them.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn find(path: &Path) -> Result<Option<Self>, CheckpointError> {
        match checkpoint::find(path) {
            Ok(path) => Ok(Some(Self::Checkpoint(path))),
            Err(CheckpointError::NotFound { .. }) => {
                let found = path.join(CONFIG_FILE).exists();
                Ok(found.then(|| Self::HuggingFace(path.to_owned())))
            }
            Err(error) => Err(error),
        }
    }
}

/// What `--checkpoint` names: of a run's folder the best checkpoint, where that is asked for.
///
/// # Errors
/// A folder without a checkpoint that has been evaluated.
pub fn named(path: &Path, best: bool) -> Result<PathBuf> {
    if best { checkpoint::find_best(path) } else { Ok(path.to_owned()) }
}
