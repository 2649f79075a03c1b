//! A checkpoint on disk: one safetensors file, or shards and their index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::header::{SafetensorsFile, StoredTensor};
use super::{CONFIG_FILE, INDEX_FILE, TensorProblem, WEIGHTS_FILE, WeightsError};
use crate::DeepSeekConfig;

/// `model.safetensors.index.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ShardIndex {
    /// Facts about the whole.
    #[serde(default)]
    pub metadata: IndexMetadata,
    /// The shard of each tensor, a file beside the index.
    pub weight_map: BTreeMap<String, String>,
}

/// The index's facts about the whole; other keys than these are not read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IndexMetadata {
    /// Bytes of all tensors. Some tools write it as a float, and nothing depends on it.
    #[serde(default)]
    pub total_size: serde_json::Value,
}

impl ShardIndex {
    /// Reads an index.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is not an index, or names a shard outside its own directory.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let text = fs::read_to_string(path)
            .map_err(|source| WeightsError::Read { path: path.to_path_buf(), source })?;
        let broken = |reason: String| WeightsError::Index { path: path.to_path_buf(), reason };
        let index: Self = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
        match index.weight_map.values().find(|shard| !is_plain_file_name(shard)) {
            Some(shard) => Err(broken(format!(
                "shard {shard:?} must be the name of a .safetensors file beside it"
            ))),
            None => Ok(index),
        }
    }

    /// The shards, each once.
    pub fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

fn is_plain_file_name(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.contains(['/', '\\', ':'])
}

/// An open checkpoint.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// What it was opened as.
    pub path: PathBuf,
    files: Vec<SafetensorsFile>,
    tensors: BTreeMap<String, (usize, StoredTensor)>,
    /// What is wrong with the tensors whatever the model.
    pub problems: Vec<TensorProblem>,
}

impl Checkpoint {
    /// Opens a safetensors file, an index of shards, or a directory with either; of both, the
    /// single file counts.
    ///
    /// # Errors
    ///
    /// No checkpoint there, missing shards, or a file that is not whole.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        if !path.is_dir() {
            return match path.extension() {
                _ if !path.exists() => Err(WeightsError::NotFound { path: path.to_path_buf() }),
                Some(extension) if extension == "json" => Self::open_shards(path, path),
                _ => Self::open_files(path, [path.to_path_buf()]),
            };
        }
        let (weights, index) = (path.join(WEIGHTS_FILE), path.join(INDEX_FILE));
        if weights.exists() {
            Self::open_files(path, [weights])
        } else if index.exists() {
            Self::open_shards(path, &index)
        } else {
            Err(WeightsError::NotFound { path: path.to_path_buf() })
        }
    }

    fn open_shards(path: &Path, index_path: &Path) -> Result<Self, WeightsError> {
        let index = ShardIndex::read(index_path)?;
        let beside = |shard: &str| index_path.with_file_name(shard);
        let missing = index.shards().into_iter().filter(|shard| !beside(shard).exists());
        let missing: Vec<String> = missing.map(str::to_string).collect();
        if !missing.is_empty() {
            return Err(WeightsError::MissingShards {
                path: index_path.to_path_buf(),
                shards: missing,
            });
        }
        let mut checkpoint = Self::open_files(path, index.shards().into_iter().map(beside))?;
        let twice: BTreeSet<String> =
            checkpoint.problems.iter().map(|problem| problem.name().to_string()).collect();
        for (name, shard) in index.weight_map {
            let holder =
                checkpoint.tensors.get(&name).map(|(file, _)| checkpoint.files[*file].name());
            if holder.as_ref() != Some(&shard) && !twice.contains(&name) {
                checkpoint.problems.push(TensorProblem::NotInShard { name, file: shard });
            }
        }
        Ok(checkpoint)
    }

    fn open_files(
        path: &Path,
        paths: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Self, WeightsError> {
        let mut checkpoint = Self {
            path: path.to_path_buf(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            problems: Vec::new(),
        };
        for path in paths {
            let (file, tensors) = SafetensorsFile::open(&path)?;
            let number = checkpoint.files.len();
            for (name, tensor) in tensors {
                if let Some((other, _)) = checkpoint.tensors.insert(name.clone(), (number, tensor))
                {
                    let files = [checkpoint.files[other].name(), file.name()];
                    checkpoint.problems.push(TensorProblem::Twice { name, files });
                }
            }
            checkpoint.files.push(file);
        }
        Ok(checkpoint)
    }

    /// What is stored under a name.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name).map(|(_, tensor)| tensor)
    }

    /// Names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The file that holds a tensor; empty for a tensor that none holds.
    pub fn file_of(&self, name: &str) -> String {
        self.tensors.get(name).map(|(file, _)| self.files[*file].name()).unwrap_or_default()
    }

    /// The bytes of a tensor; none where it has none of this name.
    ///
    /// # Errors
    ///
    /// A read that fails.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, WeightsError> {
        match self.tensors.get(name) {
            Some((file, tensor)) => self.files[*file].read(tensor),
            None => Ok(Vec::new()),
        }
    }
}

/// Reads the `config.json` in a checkpoint's directory, or beside a checkpoint's file.
///
/// # Errors
///
/// No such file, or one that does not describe a model of this crate.
pub(super) fn read_config(checkpoint: &Path) -> Result<DeepSeekConfig, WeightsError> {
    let path = if checkpoint.is_dir() {
        checkpoint.join(CONFIG_FILE)
    } else {
        checkpoint.with_file_name(CONFIG_FILE)
    };
    match fs::read_to_string(&path) {
        Ok(text) => DeepSeekConfig::from_hugging_face_json(&text)
            .map_err(|source| WeightsError::Config { path, source }),
        Err(source) => Err(WeightsError::Read { path, source }),
    }
}
