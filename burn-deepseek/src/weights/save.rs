//! A checkpoint from a model.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn_store::bridge;
use burn_store::burn_pack::Tensor as PackTensor;
use serde_json::Value;

pub use super::encode::SaveDType;

use super::described::describe_storage;
use super::index::ShardIndex;
use super::named::parameters_by_path;
use super::shards::{Shard, index, shards};
use super::write::{Held, Pending, Tensors, write_shard};
use super::{CONFIG_FILE, INDEX_FILE, NamedSlice, WEIGHTS_FILE, WeightsError, named_slices};
use crate::{DeepSeek, DeepSeekConfig};

/// How a model is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveOptions {
    /// Type of the weights; the routers' balance biases are always F32.
    pub dtype: SaveDType,
    /// Most bytes of tensor data in one file; a model with more is split into shards.
    pub max_shard_bytes: u64,
}

impl Default for SaveOptions {
    /// F32 in shards of 5 GB.
    fn default() -> Self {
        Self { dtype: SaveDType::F32, max_shard_bytes: 5_000_000_000 }
    }
}

/// Saves a model for Hugging Face: `config.json` and `model.safetensors`, or shards and
/// `model.safetensors.index.json`.
///
/// Every file is complete and on disk before it takes its name, so an interrupted save leaves no
/// part of a file under a final name. A checkpoint already in `dir` is replaced, its leftover
/// shards included; other files stay. The names change one after the other: who needs the whole
/// directory to change at once saves into a new one and renames that.
///
/// # Errors
///
/// A directory or file that cannot be written, a value that `dtype` cannot hold, or a model whose
/// parameters are not those of its config.
pub fn save_model(
    model: &DeepSeek,
    dir: impl AsRef<Path>,
    options: &SaveOptions,
) -> Result<(), WeightsError> {
    let dir = dir.as_ref();
    let mut parameters = Parameters { tensors: parameters_by_path(model)?, current: None };
    let unwritten = |source| WeightsError::Write { path: dir.to_path_buf(), source };
    let shards = shards(named_slices(model.config()), options).map_err(unwritten)?;
    fs::create_dir_all(dir).map_err(unwritten)?;

    let mut files = Vec::with_capacity(shards.len());
    for shard in &shards {
        files.push(Pending::create(dir.join(&shard.file), |out| {
            write_shard(shard, &mut parameters, out, |_, _| ControlFlow::Continue(()))
        })?);
    }
    let config = config_text(model.config(), options.dtype).map_err(unwritten)?;
    let config = Pending::text(dir.join(CONFIG_FILE), &config)?;
    match index_text(&shards).map_err(unwritten)? {
        None => publish_single(dir, config, files),
        Some(index) => {
            publish_shards(dir, config, files, Pending::text(dir.join(INDEX_FILE), &index)?)
        }
    }
}

/// The `config.json` of a model whose weights are saved in a type.
pub(super) fn config_text(config: &DeepSeekConfig, dtype: SaveDType) -> io::Result<String> {
    let mut config: Value = serde_json::from_str(&config.to_hugging_face_json(dtype.torch_name()))?;
    describe_storage(&mut config, dtype);
    Ok(format!("{config:#}\n"))
}

/// The index of several shards; one needs none.
pub(super) fn index_text(shards: &[Shard]) -> io::Result<Option<String>> {
    let text = |shards: &[Shard]| Ok(serde_json::to_string_pretty(&index(shards))?);
    (shards.len() > 1).then(|| text(shards)).transpose()
}

/// The single file takes precedence over an older index, whose shards go last.
fn publish_single(dir: &Path, config: Pending, files: Vec<Pending>) -> Result<(), WeightsError> {
    let old = old_shards(dir);
    config.commit()?;
    files.into_iter().try_for_each(Pending::commit)?;
    remove(&dir.join(INDEX_FILE))?;
    old.iter().try_for_each(|shard| remove(&dir.join(shard)))
}

/// An older index goes first where a new shard takes an old one's name: in between there is no
/// checkpoint, rather than a mixed one. An older single file goes last: until then it is the
/// checkpoint.
fn publish_shards(
    dir: &Path,
    config: Pending,
    files: Vec<Pending>,
    index: Pending,
) -> Result<(), WeightsError> {
    let new: BTreeSet<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    let old = old_shards(dir).into_iter().map(|shard| dir.join(shard));
    let (replaced, stale): (Vec<_>, Vec<_>) = old.partition(|shard| new.contains(shard));
    if !replaced.is_empty() {
        remove(&dir.join(INDEX_FILE))?;
    }
    files.into_iter().try_for_each(Pending::commit)?;
    config.commit()?;
    index.commit()?;
    remove(&dir.join(WEIGHTS_FILE))?;
    stale.iter().try_for_each(|shard| remove(shard))
}

/// Shards of the checkpoint that is there; none where its index cannot be read, for then nobody
/// knows whose files they are.
fn old_shards(dir: &Path) -> Vec<String> {
    let index = ShardIndex::read(&dir.join(INDEX_FILE)).unwrap_or_default();
    index.shards().into_iter().filter(|shard| *shard != WEIGHTS_FILE).map(str::to_string).collect()
}

fn remove(path: &Path) -> Result<(), WeightsError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(WeightsError::Write { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// A model's parameters, the last one used kept on the host: its tensors follow one another.
struct Parameters {
    tensors: HashMap<String, PackTensor>,
    current: Option<(String, Vec<f32>)>,
}

impl Parameters {
    fn values(&mut self, parameter: &str) -> Result<&[f32], WeightsError> {
        let fresh = match self.current.take() {
            Some((path, values)) if path == parameter => (path, values),
            _ => (parameter.to_string(), self.read(parameter)?),
        };
        Ok(&self.current.insert(fresh).1)
    }

    fn read(&self, parameter: &str) -> Result<Vec<f32>, WeightsError> {
        let failed =
            |reason: String| WeightsError::Device { parameter: parameter.to_string(), reason };
        let tensor = self
            .tensors
            .get(parameter)
            .ok_or_else(|| failed("the model has no such parameter".into()))?;
        let data = bridge::to_data(tensor).map_err(|error| failed(error.to_string()))?;
        data.try_into_vec_as().map_err(|error| failed(error.to_string()))
    }
}

impl Tensors for Parameters {
    fn tensor(&mut self, slice: &NamedSlice) -> Result<Held<'_>, WeightsError> {
        let values = self.values(&slice.parameter)?;
        Ok(Held::Values(Cow::Borrowed(&values[slice.offset..][..slice.elements()])))
    }
}
