//! A checkpoint on disk: the tensors of one safetensors file, or of several.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::tensor::Bytes;

use super::folder::WeightFiles;
use super::header::{SafetensorsFile, StoredTensor};
use super::regular::{SETTINGS_BYTES, read_regular_text};
use super::{CONFIG_FILE, TensorProblem, WeightsError};
use crate::DeepSeekConfig;

/// Bytes of two tensors that are compared at a time.
const COMPARED_BYTES: usize = 1 << 20;

/// An open checkpoint.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// What it was opened as.
    pub path: PathBuf,
    /// Its files.
    pub files: Vec<SafetensorsFile>,
    tensors: BTreeMap<String, (usize, StoredTensor)>,
    /// What is wrong with the tensors whatever the model.
    pub problems: Vec<TensorProblem>,
    /// Tensors that a second file holds too, with the same bytes.
    pub twice: BTreeSet<String>,
    /// Whether an index says which file holds which tensor.
    pub indexed: bool,
}

impl Checkpoint {
    /// Opens a safetensors file, an index of shards, or a directory with either, or with
    /// safetensors files alone; of several of these the first counts.
    ///
    /// # Errors
    ///
    /// No checkpoint there, missing shards, or a file that is not whole.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let WeightFiles { files, index } = WeightFiles::find(path)?;
        let mut checkpoint = Self {
            path: path.to_path_buf(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            problems: Vec::new(),
            twice: BTreeSet::new(),
            indexed: index.is_some(),
        };
        let mut again = Vec::new();
        for (number, path) in files.iter().enumerate() {
            let (file, tensors) = SafetensorsFile::open(path)?;
            checkpoint.files.push(file);
            for (name, tensor) in tensors {
                match checkpoint.tensors.get(&name) {
                    Some(_) => again.push((name, number, tensor)),
                    None => _ = checkpoint.tensors.insert(name, (number, tensor)),
                }
            }
        }
        let mut holders: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (name, number, tensor) in again {
            holders.entry(name.clone()).or_default().insert(number);
            checkpoint.note_second(name, number, &tensor)?;
        }
        for (name, shard) in index.map(|index| index.weight_map).unwrap_or_default() {
            let held = |number: usize| checkpoint.files[number].name() == shard;
            let first = checkpoint.tensors.get(&name).is_some_and(|&(number, _)| held(number));
            let later =
                holders.get(&name).is_some_and(|all| all.iter().any(|&number| held(number)));
            if !first && !later {
                checkpoint.problems.push(TensorProblem::NotInShard { name, file: shard });
            }
        }
        Ok(checkpoint)
    }

    /// Notes a tensor that an earlier file has: the same bytes are no problem.
    fn note_second(
        &mut self,
        name: String,
        number: usize,
        second: &StoredTensor,
    ) -> Result<(), WeightsError> {
        let Some((other, first)) = self.tensors.get(&name) else { return Ok(()) };
        let (a, b) = (&self.files[*other], &self.files[number]);
        if same(a, first, b, second)? {
            self.twice.insert(name);
        } else {
            let files = [a.name(), b.name()];
            self.problems.push(TensorProblem::Twice { name, files });
        }
        Ok(())
    }

    /// What is stored under a name.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name).map(|(_, tensor)| tensor)
    }

    /// All tensors, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = &StoredTensor> {
        self.tensors.values().map(|(_, tensor)| tensor)
    }

    /// Names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The file that holds a tensor; empty for a tensor that none holds.
    pub fn file_of(&self, name: &str) -> String {
        self.tensors.get(name).map(|(file, _)| self.files[*file].name()).unwrap_or_default()
    }

    /// `len` bytes of a tensor from its byte `first` on, in place where its file can be mapped and
    /// they begin at a multiple of `align`, else read.
    ///
    /// # Errors
    ///
    /// A read that fails or goes past the tensor.
    pub fn bytes(
        &self,
        name: &str,
        first: usize,
        len: usize,
        align: usize,
    ) -> Result<Bytes, WeightsError> {
        match self.tensors.get(name) {
            Some((file, tensor)) => self.files[*file].bytes(tensor, first, len, align),
            None => Ok(Bytes::from_bytes_vec(Vec::new())),
        }
    }

    /// Fills `out` with the bytes of a tensor from its byte `first` on; leaves it as it is where
    /// there is none of this name.
    ///
    /// # Errors
    ///
    /// A read that fails or goes past the tensor.
    pub fn read_into(&self, name: &str, first: usize, out: &mut [u8]) -> Result<(), WeightsError> {
        match self.tensors.get(name) {
            Some((file, tensor)) => self.files[*file].read_into(tensor, first, out),
            None => Ok(()),
        }
    }
}

/// Whether two tensors are the same bytes of the same type and shape.
fn same(
    file: &SafetensorsFile,
    tensor: &StoredTensor,
    other_file: &SafetensorsFile,
    other: &StoredTensor,
) -> Result<bool, WeightsError> {
    if (tensor.dtype, &tensor.shape) != (other.dtype, &other.shape) {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]);
    for first in (0..tensor.len_bytes).step_by(COMPARED_BYTES) {
        let count = COMPARED_BYTES.min(tensor.len_bytes - first);
        file.read_into(tensor, first, &mut left[..count])?;
        other_file.read_into(other, first, &mut right[..count])?;
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The `config.json` in a checkpoint's directory, or beside a checkpoint's file.
pub(super) fn config_path(checkpoint: &Path) -> PathBuf {
    if checkpoint.is_dir() {
        checkpoint.join(CONFIG_FILE)
    } else {
        checkpoint.with_file_name(CONFIG_FILE)
    }
}

/// Reads the `config.json` in a checkpoint's directory, or beside a checkpoint's file.
///
/// # Errors
///
/// No such file, or one that does not describe a model of this crate.
pub fn read_config(checkpoint: &Path) -> Result<DeepSeekConfig, WeightsError> {
    let path = config_path(checkpoint);
    match read_regular_text(&path, SETTINGS_BYTES) {
        Ok(text) => DeepSeekConfig::from_hugging_face_json(&text)
            .map_err(|source| WeightsError::Config { path, source }),
        Err(source) => Err(WeightsError::Read { path, source }),
    }
}
