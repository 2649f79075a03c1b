//! What can be wrong with a checkpoint; every message names the file.

use std::path::{Path, PathBuf};

use burn_deepseek::weights::WeightsError;

use crate::durable::FileError;
use crate::failure::{Blame, Blamed, of_reading};
use crate::record::METRICS_FILE;

/// A checkpoint that cannot be written, found or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Reading or writing failed.
    #[error("{path}: cannot {action}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// There is no checkpoint where one was asked for.
    #[error("{path}: {what}; give a run's folder (with {folder}/) or one checkpoint's folder (with \
             {state})",
            path = .path.display(), what = nothing_in(.path), folder = super::FOLDER,
            state = super::STATE_FILE)]
    NotFound {
        /// Where a checkpoint was looked for.
        path: PathBuf,
    },
    /// No checkpoint of a run has been evaluated.
    #[error("{path}: no checkpoint here whose evaluation is in the record of the run; --best takes \
             a run's folder, and train.keep_best keeps the checkpoint", path = .path.display())]
    NoBest {
        /// The run's folder.
        path: PathBuf,
    },
    /// A file is not what the checkpoint's own list says.
    #[error(
        "{path}: damaged: {problem}; use an older checkpoint of the run",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// A file in the folder that the checkpoint's own list does not have.
    #[error("{path}: no file of this checkpoint, which {state} lists: move it elsewhere",
            path = .path.display(), state = super::STATE_FILE)]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A whole checkpoint that another version of the program wrote.
    #[error("{path}: a checkpoint of format {found}; this version reads format {expected}: use the \
             version that wrote it", path = .path.display(), expected = super::manifest::FORMAT)]
    Format {
        /// The checkpoint's `state.json`.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// The average of the weights of a run that kept none.
    #[error("{path}: no average of the weights in this checkpoint; a run keeps one with ema.decay, \
             as in --set ema.decay=0.999", path = .path.display())]
    NoAverage {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The model's weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Blamed for CheckpointError {
    fn blame(&self) -> Blame {
        match self {
            Self::NotFound { .. }
            | Self::NoBest { .. }
            | Self::NoAverage { .. }
            | Self::Format { .. }
            | Self::Foreign { .. }
            | Self::Damaged { .. } => Blame::User,
            Self::Io { action: "read", source, .. } => of_reading(source),
            Self::Io { .. } => Blame::Run,
            Self::Weights(error) => error.blame(),
        }
    }
}

impl From<FileError> for CheckpointError {
    fn from(FileError { path, action, source }: FileError) -> Self {
        Self::Io { path, action, source }
    }
}

impl CheckpointError {
    pub(super) fn io(
        path: impl Into<PathBuf>,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, action, source }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, problem: impl ToString) -> Self {
        Self::Damaged { path: path.into(), problem: problem.to_string() }
    }
}

/// Why there is no checkpoint at a path.
fn nothing_in(path: &Path) -> &'static str {
    if !path.exists() {
        "no checkpoint here, nor anything else"
    } else if path.join(METRICS_FILE).exists() || path.join(super::RUN_FILE).exists() {
        "no checkpoint here: the run has saved none yet"
    } else {
        "no checkpoint here"
    }
}
