//! What can be wrong with a checkpoint, by file and by tensor.

use std::fmt;
use std::io;
use std::path::PathBuf;

use burn_store::burn_pack;

use super::{INDEX_FILE, WEIGHTS_FILE};
use crate::config::{ConfigProblems, HuggingFaceError};

/// Why weights could not be read, written or split.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Neither a file nor a directory with a checkpoint.
    #[error("{}: no checkpoint here; give a .safetensors file, or a directory with {WEIGHTS_FILE} \
             or {INDEX_FILE}", path.display())]
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
    /// Shards that the index names and that are not there.
    #[error("{} names shards that are not beside it: {}", path.display(), shards.join(", "))]
    MissingShards {
        /// The index.
        path: PathBuf,
        /// The missing files.
        shards: Vec<String>,
    },
    /// Tensors that are not what the model needs: all of them.
    #[error(
        "{} does not hold this model ({} tensors are wrong):{}",
        path.display(),
        problems.len(),
        Lines(problems)
    )]
    Tensors {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with each, by name.
        problems: Vec<TensorProblem>,
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
    /// A tensor that was read back and is not what was written.
    #[error("{}: tensor {name} is not what was written; the disk may be failing", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
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

/// What is wrong with one tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorProblem {
    /// The model needs it and the checkpoint does not have it.
    Missing {
        /// Name in the checkpoint.
        name: String,
        /// Shape that the model needs.
        shape: Vec<usize>,
    },
    /// The checkpoint has it and the model has no place for it.
    Extra {
        /// Name in the checkpoint.
        name: String,
        /// Its file.
        file: String,
    },
    /// It has another shape than the model needs.
    Shape {
        /// Name in the checkpoint.
        name: String,
        /// Its file.
        file: String,
        /// Shape that the model needs.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// It is stored in a type that is not read.
    DType {
        /// Name in the checkpoint.
        name: String,
        /// Its file.
        file: String,
        /// Type in the file.
        found: String,
        /// Types that are read.
        expected: &'static str,
    },
    /// Two shards hold it.
    Twice {
        /// Name in the checkpoint.
        name: String,
        /// The two files.
        files: [String; 2],
    },
    /// The index says that a shard holds it, and it does not.
    NotInShard {
        /// Name in the checkpoint.
        name: String,
        /// The shard named by the index.
        file: String,
    },
}

impl TensorProblem {
    /// Name of the tensor.
    pub fn name(&self) -> &str {
        match self {
            Self::Missing { name, .. }
            | Self::Extra { name, .. }
            | Self::Shape { name, .. }
            | Self::DType { name, .. }
            | Self::Twice { name, .. }
            | Self::NotInShard { name, .. } => name,
        }
    }
}

impl fmt::Display for TensorProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, shape } => write!(f, "{name} is missing; it must be {shape:?}"),
            Self::Extra { name, file } => write!(f, "{name} ({file}) has no place in the model"),
            Self::Shape { name, file, expected, found } => {
                write!(f, "{name} ({file}) is {found:?}; it must be {expected:?}")
            }
            Self::DType { name, file, found, expected } => {
                write!(f, "{name} ({file}) is {found}; it must be {expected}")
            }
            Self::Twice { name, files: [a, b] } => {
                write!(f, "{name} is in {a} and in {b}; it must be in one shard")
            }
            Self::NotInShard { name, file } => {
                write!(f, "{name} is not in {file}, where the index says it is")
            }
        }
    }
}

/// One problem a line.
struct Lines<'a>(&'a [TensorProblem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
