//! What can be wrong with a checkpoint, by file and by tensor.

use std::fmt;
use std::io;
use std::path::PathBuf;

use burn_store::burn_pack;

use super::listing::Listing;
use super::{INDEX_FILE, TensorProblem, WEIGHTS_FILE};
use crate::config::{ConfigProblems, HuggingFaceError};

/// Why weights could not be read, written or split.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Neither a file nor a directory with a checkpoint.
    #[error("{}: no checkpoint here; give a .safetensors file, or a directory with {WEIGHTS_FILE}, \
             {INDEX_FILE} or other .safetensors files", path.display())]
    NotFound {
        /// What was given.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written, or one of an older checkpoint not removed.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A complete file could not be put under its final name.
    #[error("cannot put {} in place", path.display())]
    Publish {
        /// The final name.
        path: PathBuf,
        /// Why.
        source: burn_pack::Error,
    },
    /// A `config.json` that is not a model of this crate.
    #[error("{} does not describe a model", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HuggingFaceError,
    },
    /// A configuration that no model can be built from.
    #[error("the configuration does not describe a model")]
    Model(#[from] ConfigProblems),
    /// A file that is not safetensors, or whose header contradicts itself.
    #[error("{} is not a safetensors file: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file whose length is not what its header says.
    #[error(
        "{} is damaged: {found_bytes} bytes long, its header says {expected_bytes}",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Length that the header implies.
        expected_bytes: u64,
        /// Length of the file.
        found_bytes: u64,
    },
    /// An index of shards that makes no sense.
    #[error("{} is not an index of shards: {reason}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Shards that the index, or the names of the other shards, say there are.
    #[error("{}: shards are missing: {}{}", path.display(), shards.join(", "), More(*more))]
    MissingShards {
        /// The index, or the folder where there is none.
        path: PathBuf,
        /// The missing files, the first of them.
        shards: Vec<String>,
        /// How many more.
        more: u64,
    },
    /// Tensors that are not what the model needs: all of them.
    #[error(
        "{} does not hold this model ({}{} wrong):{}",
        path.display(),
        if *cut { "at least " } else { "" },
        if problems.len() == 1 { "1 tensor is".into() } else { format!("{} tensors are", problems.len()) },
        Listing(problems)
    )]
    Tensors {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with each, by name.
        problems: Vec<TensorProblem>,
        /// Whether so many are wrong that the search for them ended.
        cut: bool,
    },
    /// A weight or a scale that is no finite number.
    #[error(
        "tensor {name} ({file}) holds {found} at {position:?}; no model computes with that: the \
         file is damaged or was converted wrongly"
    )]
    NotFinite {
        /// The tensor.
        name: String,
        /// Its file.
        file: String,
        /// What was found.
        found: String,
        /// Where: an index for each of its dimensions.
        position: Vec<usize>,
    },
    /// A model whose parameters are not those of its configuration: some were taken out, added or
    /// reshaped.
    #[error("the model's parameters are not those of its configuration: {}", parameters.join(", "))]
    Altered {
        /// Paths of the parameters.
        parameters: Vec<String>,
    },
    /// A value that the wanted type cannot hold.
    #[error("tensor {name} holds {value}, which {dtype} cannot represent; save it as float32")]
    OutOfRange {
        /// The tensor.
        name: String,
        /// The value.
        value: f32,
        /// The wanted type.
        dtype: &'static str,
    },
    /// Values of a parameter that do not have its shape.
    #[error(
        "values for parameter {parameter} have shape {found:?}, the parameter has {expected:?}"
    )]
    Shape {
        /// Path of the parameter.
        parameter: String,
        /// Its shape.
        expected: Vec<usize>,
        /// The shape given.
        found: Vec<usize>,
    },
    /// A parameter that its device would not take.
    #[error("the weights cannot be placed: {reason}")]
    Apply {
        /// What the store said, with the parameter.
        reason: String,
    },
    /// A parameter that its device would not give.
    #[error("parameter {parameter} cannot be read from its device: {reason}")]
    Device {
        /// Path of the parameter.
        parameter: String,
        /// What the device said.
        reason: String,
    },
}

/// How many more there are than were named.
struct More(u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 { write!(f, " and {} more", self.0) } else { Ok(()) }
    }
}
