//! What a checkpoint is, without a model being made of it: from its headers, and where that is asked
//! for from every value.

mod format;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

pub use format::WeightFormat;
pub use values::{DeepInspection, ReadProgress};

use super::WeightsError;
use super::checkpoint::{Checkpoint, read_config};
use super::listing::{fold, groups};
use super::plan::{Survey, survey};
use crate::DeepSeekConfig;

/// Something found in tensors: in one, or in all of a pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is, in a word: `missing`, `shape`, `type`, `foreign`, `twice`, `index`, `NaN`,
    /// `zero`, `ignored`.
    pub kind: &'static str,
    /// The tensor, or the pattern, as `model.layers.{3..60}.mlp.gate.weight`.
    pub name: String,
    /// How many tensors it stands for.
    pub tensors: usize,
    /// The whole of it as a sentence.
    pub text: String,
}

/// A safetensors file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The tensors of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DTypeFacts {
    /// The type's name in a safetensors header.
    pub dtype: String,
    /// Tensors.
    pub tensors: usize,
    /// Bytes of their data.
    pub bytes: u64,
}

/// What the headers of a checkpoint say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// Its files.
    pub files: Vec<FileFacts>,
    /// Whether an index says which file holds which tensor.
    pub indexed: bool,
    /// Its tensors by type.
    pub stored: Vec<DTypeFacts>,
    /// What is wrong with it.
    pub problems: Vec<Finding>,
    /// Tensors that are wrong; at least so many where the search ended early.
    pub wrong_tensors: usize,
    /// Tensors that are not read, with why.
    pub ignored: Vec<Finding>,
    /// Tensors that two files hold, with the same bytes.
    pub twice: Vec<Finding>,
    /// MTP modules that `config.json` promises and that are not there.
    pub absent_mtp: usize,
    /// Bytes of the weights in each format, without MTP modules; none where tensors are wrong.
    pub weight_bytes: BTreeMap<WeightFormat, u64>,
    /// Bytes of the weights of its MTP modules in each format.
    pub mtp_weight_bytes: BTreeMap<WeightFormat, u64>,
}

/// A checkpoint that is looked at.
#[derive(Debug)]
pub struct Inspector {
    config: DeepSeekConfig,
    checkpoint: Checkpoint,
    survey: Survey,
}

impl Inspector {
    /// Opens a folder, or a file with `config.json` beside it, and compares its headers with that.
    ///
    /// # Errors
    ///
    /// No checkpoint, shards that are missing, a damaged file, or an impossible config. Tensors that
    /// are wrong are no error here.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let config = read_config(path)?;
        let checkpoint = Checkpoint::open(path)?;
        let survey = survey(&config, &checkpoint);
        Ok(Self { config, checkpoint, survey })
    }

    /// What `config.json` describes.
    pub fn config(&self) -> &DeepSeekConfig {
        &self.config
    }

    /// What the headers say.
    pub fn headers(&self) -> Inspection {
        let Self { checkpoint, survey, .. } = self;
        let mut stored: BTreeMap<String, DTypeFacts> = BTreeMap::new();
        for tensor in checkpoint.tensors() {
            let dtype = tensor.dtype.to_string();
            let facts =
                stored.entry(dtype.clone()).or_insert(DTypeFacts { dtype, tensors: 0, bytes: 0 });
            facts.tensors += 1;
            facts.bytes += tensor.len_bytes as u64;
        }
        let files = checkpoint.files.iter();
        let files = files.map(|file| FileFacts { name: file.name(), bytes: file.len_bytes });
        let problems = groups(&survey.problems).into_iter().map(|group| Finding {
            kind: group.problem.kind(),
            text: group.to_string(),
            tensors: group.count,
            name: group.name,
        });
        let (main, mtp) = if survey.problems.is_empty() {
            format::weight_bytes(survey)
        } else {
            (BTreeMap::new(), BTreeMap::new())
        };
        Inspection {
            files: files.collect(),
            indexed: checkpoint.indexed,
            stored: stored.into_values().collect(),
            problems: problems.collect(),
            wrong_tensors: survey.problems.len(),
            ignored: self.ignored(),
            twice: self.twice(),
            absent_mtp: survey.absent_mtp,
            weight_bytes: main,
            mtp_weight_bytes: mtp,
        }
    }

    fn ignored(&self) -> Vec<Finding> {
        let ignored: Vec<_> = self.survey.ignored.iter().collect();
        let folded = fold(ignored.iter().map(|&(name, why)| (why, name.as_str())));
        let findings = folded.into_iter().map(|folded| Finding {
            kind: "ignored",
            text: format!("{}: {}", folded.name, ignored[folded.members[0]].1),
            tensors: folded.members.len(),
            name: folded.name,
        });
        findings.collect()
    }

    fn twice(&self) -> Vec<Finding> {
        let folded = fold(self.checkpoint.twice.iter().map(|name| ((), name.as_str())));
        let findings = folded.into_iter().map(|folded| Finding {
            kind: "twice",
            text: format!("{} is in two files, with the same bytes", folded.name),
            tensors: folded.members.len(),
            name: folded.name,
        });
        findings.collect()
    }
}
