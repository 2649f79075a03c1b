//! What can be wrong with a file of saved routings, each error naming the file.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::shape::{MadeBy, RoutingShape};
use crate::failure::{Blame, Blamed, of_reading};

/// A file of saved routings that cannot be used, or not for this.
#[derive(Debug, thiserror::Error)]
pub enum RoutingFileError {
    /// It is not there.
    #[error("{path}: no such file; save a routing with --save-routing", path = .path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The system does not let it be read.
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("{path}: cannot be written: {source}", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{path}: not a file of saved routings: {problem}", path = .path.display())]
    NotOne {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// It is of another version of the program.
    #[error(
        "{path}: saved routings of version {version}; this program reads version {known}",
        path = .path.display(),
        known = super::VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Bytes of it are not what was written.
    #[error("{path}: damaged at byte {at}: {problem}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the part begins that is damaged.
        at: u64,
        /// What is wrong.
        problem: String,
    },
    /// It was saved by another command.
    #[error(
        "{path}: saved by `{made_by}`; only a file of `{wanted}` can be replayed here",
        path = .path.display()
    )]
    OtherCommand {
        /// The file.
        path: PathBuf,
        /// What saved it.
        made_by: MadeBy,
        /// What would have to have.
        wanted: MadeBy,
    },
    /// It is of another model.
    #[error(
        "{path}: the routing of another model ({theirs}); this one has {ours}",
        path = .path.display()
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The model that it is of.
        theirs: RoutingShape,
        /// The model that it was to be replayed in.
        ours: RoutingShape,
    },
    /// A window is not in it.
    #[error("{path}: it has no routing of {wanted}; it has {has}", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The window.
        wanted: String,
        /// What there is of the kind.
        has: String,
    },
    /// A window is of other tokens.
    #[error(
        "{path}: {window} was saved of other tokens; other data, or another order of it",
        path = .path.display()
    )]
    OtherTokens {
        /// The file.
        path: PathBuf,
        /// The window.
        window: String,
    },
    /// A window is longer or shorter.
    #[error("{path}: {window} has {saved} tokens there and {here} here", path = .path.display())]
    OtherLength {
        /// The file.
        path: PathBuf,
        /// The window.
        window: String,
        /// Tokens of the window in the file.
        saved: usize,
        /// Tokens of the window here.
        here: usize,
    },
    /// A layer that runs here did not run when it was saved.
    #[error(
        "{path}: {window} has no choices of layer {layer}, an MTP module that did not run",
        path = .path.display()
    )]
    MissingLayer {
        /// The file.
        path: PathBuf,
        /// The window.
        window: String,
        /// The layer.
        layer: usize,
    },
    /// What a resumed run would add does not follow what is there.
    #[error(
        "{path}: its last sample is {last}, and the run goes on with sample {next}; between them \
         nothing would be saved: give another file",
        path = .path.display()
    )]
    Gap {
        /// The file.
        path: PathBuf,
        /// The last sample that is there; `none`.
        last: String,
        /// The first sample that would be written.
        next: u64,
    },
}

impl RoutingFileError {
    pub(super) fn reading(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| match source.kind() {
            ErrorKind::NotFound => Self::NotFound { path: path.into() },
            _ => Self::Read { path: path.into(), source },
        }
    }

    pub(super) fn writing(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::Write { path: path.into(), source }
    }
}

impl Blamed for RoutingFileError {
    fn blame(&self) -> Blame {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => of_reading(source),
            _ => Blame::User,
        }
    }
}
