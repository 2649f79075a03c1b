//! What can be wrong with one tensor of a checkpoint.

use std::fmt;

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
    /// The checkpoint has it and the model has no place for it.
    Extra {
        /// Name in the checkpoint.
        name: String,
        /// Its file.
        file: String,
    },
    /// Two files hold it, with different values.
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

    /// The kind of problem in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Shape { .. } => "shape",
            Self::DType { .. } => "type",
            Self::Extra { .. } => "foreign",
            Self::Twice { .. } => "twice",
            Self::NotInShard { .. } => "index",
        }
    }

    /// Its place among the kinds.
    pub(super) fn rank(&self) -> usize {
        match self {
            Self::Missing { .. } => 0,
            Self::Shape { .. } => 1,
            Self::DType { .. } => 2,
            Self::Extra { .. } => 3,
            Self::Twice { .. } => 4,
            Self::NotInShard { .. } => 5,
        }
    }

    /// The file that the sentence names beside the tensor.
    pub(super) fn file(&self) -> &str {
        match self {
            Self::Shape { file, .. } | Self::DType { file, .. } | Self::Extra { file, .. } => file,
            Self::Missing { .. } | Self::Twice { .. } | Self::NotInShard { .. } => "",
        }
    }

    /// The problem of tensors `name` in `file`: of this one, or of `many` of the same kind.
    pub(super) fn sentence(&self, name: &str, file: &str, many: bool) -> String {
        let (is, it) = if many { ("are", "each") } else { ("is", "it") };
        match self {
            Self::Missing { shape, .. } => format!("{name} {is} missing; {it} must be {shape:?}"),
            Self::Extra { .. } => {
                let has = if many { "have" } else { "has" };
                format!("{name} ({file}) {has} no place in the model")
            }
            Self::Shape { expected, found, .. } => {
                format!("{name} ({file}) {is} {found:?}; {it} must be {expected:?}")
            }
            Self::DType { found, expected, .. } => {
                format!("{name} ({file}) {is} {found}; {it} must be {expected}")
            }
            Self::Twice { files: [a, b], .. } => {
                format!("{name} {is} in {a} and, with other values, in {b}; one must go")
            }
            Self::NotInShard { file, .. } => {
                format!("{name} {is} not in {file}, where the index says {it} {is}")
            }
        }
    }
}

impl fmt::Display for TensorProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence(self.name(), self.file(), false))
    }
}
