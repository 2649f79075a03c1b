//! What can be wrong with a run's configuration; every message names the file or key and what would
//! be right.

use std::path::PathBuf;

use burn_deepseek::config::HuggingFaceError;

use crate::failure::blamed;

/// A mistake in a configuration file, a preset or a `--set`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path}: cannot be read", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not TOML.
    #[error("{origin}: line {line}: not TOML: {message}")]
    Syntax {
        /// The file, or the name of an embedded configuration.
        origin: String,
        /// 1-based line.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{key}`{}", hint(.nearest, .known))]
    UnknownKey {
        /// Where the key is written.
        origin: String,
        /// The key, dotted.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
        /// The keys known at that place.
        known: Vec<String>,
    },
    /// A section whose values do not fit their keys, or that lacks one.
    #[error("{origin}: {section}: {message}")]
    Section {
        /// Where the section is written.
        origin: String,
        /// Name of the section, or the dotted key in it.
        section: String,
        /// What is wrong.
        message: String,
    },
    /// A `--set` that is not `key=value`.
    #[error("--set {text}: {message}")]
    Set {
        /// The argument.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// A name that is no embedded configuration and no path.
    #[error(
        "{what} \"{name}\" is unknown{}; known: {known}; or give the path of a .toml file",
        .hint.as_deref().unwrap_or_default()
    )]
    UnknownName {
        /// "model preset", "run configuration" or "cluster".
        what: &'static str,
        /// The name.
        name: String,
        /// What may have been meant, after a semicolon.
        hint: Option<String>,
        /// The embedded names.
        known: String,
    },
    /// A `config.json` that is not a model computed here.
    #[error("{path}", path = .path.display())]
    HuggingFace {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: HuggingFaceError,
    },
    /// Values that are each fine but do not make a run.
    #[error("{origin}: {}", .problems.join("; "))]
    Invalid {
        /// Where the configuration comes from.
        origin: String,
        /// Every problem, each with its key.
        problems: Vec<String>,
    },
}

blamed!(User: ConfigError);

fn hint(nearest: &Option<String>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; known: {}", known.join(", ")),
    }
}
