//! A checkpoint in another type, from folder to folder, without a model in between.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cubecl_kernels::definition::ScaleFormat;
use safetensors::Dtype;
use serde_json::Value;

use super::checkpoint::{Checkpoint, read_config};
use super::decode::decode;
use super::described::{describe_storage, describe_tokens, scale_format};
use super::encode::{Blocks, scale_shape};
use super::plan::{plan, scale_name};
use super::shards::{SavedTensor, Shard, index, shards};
use super::write::{Held, Pending, Tensors, write_shard};
use super::{CONFIG_FILE, INDEX_FILE, NamedSlice, SaveOptions, WeightsError, named_slices};
use crate::{DeepSeekConfig, EndTokens};

/// How a checkpoint is exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Type and shards.
    pub save: SaveOptions,
    /// Token that begins a text, for a `config.json` that names none.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text, in place of those that `config.json` names; none leaves these.
    pub eos_token_id: EndTokens,
}

/// How far an export is. Every byte is written and then read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportProgress {
    /// Bytes of tensors written, and then again those read back.
    pub done_bytes: u64,
    /// What that will be at the end.
    pub total_bytes: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The model.
    pub config: DeepSeekConfig,
    /// The files with weights, by name.
    pub files: Vec<String>,
    /// Tensors in them.
    pub tensors: usize,
    /// Bytes of the tensors.
    pub bytes: u64,
}

/// The format of the scales that the `config.json` of a checkpoint says its FP8 weights have, or
/// would have.
///
/// # Errors
///
/// A file that cannot be read, or is not JSON.
pub fn scale_format_of(from: &Path) -> Result<ScaleFormat, WeightsError> {
    Ok(scale_format(&config_json(from)?))
}

/// Writes the checkpoint in `from` once more into `to`, an empty folder or one that is made, with
/// tensors expert by expert under DeepSeek's names: weights, their index and `config.json`, which
/// keeps the keys that this crate does not know.
///
/// Weights are read, converted and written one at a time, so one of them is in memory, not a model.
/// FP8 weights whose scales are of the wanted format are kept bit for bit. Every file is read back
/// and compared with what was to be written. `listener` is told of each weight and may break off:
/// then there is no result, and an incomplete folder.
///
/// # Errors
///
/// As [`load_model`](super::load_model); a value that the type cannot hold; files that cannot be
/// written, or that come back changed.
pub fn export(
    from: &Path,
    to: &Path,
    options: &ExportOptions,
    mut listener: impl FnMut(ExportProgress) -> ControlFlow<()>,
) -> Result<Option<Exported>, WeightsError> {
    let unwritten = |source| WeightsError::Write { path: to.to_path_buf(), source };
    let checkpoint = Checkpoint::open(from)?;
    let config = read_config(from)?;
    plan(&config, &checkpoint)?;
    let mut json = config_json(from)?;
    describe_storage(&mut json, options.save.dtype);
    describe_tokens(&mut json, options.bos_token_id, &options.eos_token_id);

    let shards = shards(named_slices(&config), &options.save).map_err(unwritten)?;
    let bytes = shards.iter().flat_map(|shard| &shard.weights).map(|w| w.len_bytes()).sum();
    let mut progress = ExportProgress { done_bytes: 0, total_bytes: 2 * bytes };
    let mut went_on = |more: u64| {
        progress.done_bytes += more;
        listener(progress).is_continue()
    };
    fs::create_dir_all(to).map_err(unwritten)?;
    let (mut source, mut sums) = (Folder { checkpoint }, HashMap::new());
    for shard in &shards {
        let mut stopped = false;
        let written = Pending::create(to.join(&shard.file), |out| {
            write_shard(shard, &mut source, out, |weight, of_weight| {
                sums.extend(weight.tensors().map(|tensor| tensor.name).zip(of_weight));
                stopped = !went_on(weight.len_bytes());
                if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        })?;
        if stopped {
            return Ok(None);
        }
        written.commit()?;
    }
    if shards.len() > 1 {
        let index = serde_json::to_string_pretty(&index(&shards)).map_err(io::Error::from);
        Pending::text(to.join(INDEX_FILE), &index.map_err(unwritten)?)?.commit()?;
    }
    Pending::text(to.join(CONFIG_FILE), &format!("{json:#}\n"))?.commit()?;

    let written = Checkpoint::open(to)?;
    plan(&read_config(to)?, &written)?;
    for shard in &shards {
        for weight in &shard.weights {
            for tensor in weight.tensors() {
                verify(&written, shard, &tensor, sums.get(&tensor.name).copied())?;
            }
            if !went_on(weight.len_bytes()) {
                return Ok(None);
            }
        }
    }
    let files = shards.into_iter().map(|shard| shard.file).collect();
    Ok(Some(Exported { config, files, tensors: sums.len(), bytes }))
}

/// The `config.json` of a checkpoint with all of its keys.
fn config_json(from: &Path) -> Result<Value, WeightsError> {
    let path = config_path(from);
    let text = fs::read_to_string(&path)
        .map_err(|source| WeightsError::Read { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|error| WeightsError::Config { path, source: error.into() })
}

fn config_path(from: &Path) -> PathBuf {
    if from.is_dir() { from.join(CONFIG_FILE) } else { from.with_file_name(CONFIG_FILE) }
}

/// Compares a tensor with what it was written from.
fn verify(
    written: &Checkpoint,
    shard: &Shard,
    tensor: &SavedTensor,
    sum: Option<u32>,
) -> Result<(), WeightsError> {
    let stored = written.get(&tensor.name);
    let same = stored
        .is_some_and(|found| found.dtype == tensor.dtype && found.shape == tensor.shape)
        && Some(crc32fast::hash(&written.read(&tensor.name)?)) == sum;
    if same {
        return Ok(());
    }
    let path = written.path.join(&shard.file);
    Err(WeightsError::Changed { path, name: tensor.name.clone() })
}

/// A checkpoint whose tensors fit.
struct Folder {
    checkpoint: Checkpoint,
}

impl Tensors for Folder {
    fn tensor(&mut self, slice: &NamedSlice) -> Result<Held<'_>, WeightsError> {
        let dtype = self.checkpoint.get(&slice.name).map(|stored| stored.dtype);
        let bytes = self.checkpoint.read(&slice.name)?;
        if dtype == Some(Dtype::F8_E4M3) {
            let mut scales = vec![0.0; scale_shape(&slice.shape).iter().product()];
            let stored = self.checkpoint.read(&scale_name(&slice.name))?;
            decode(Dtype::F32, &stored, &mut scales);
            return Ok(Held::Blocks(Blocks { codes: bytes, scales }));
        }
        let mut values = vec![0.0; slice.elements()];
        if let Some(dtype) = dtype {
            decode(dtype, &bytes, &mut values);
        }
        Ok(Held::Values(Cow::Owned(values)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::shards::SavedWeight;

    /// A byte that changed on its way, another type, another shape, no tensor.
    #[test]
    fn what_comes_back_is_compared() {
        let dir = tempfile::tempdir().unwrap();
        let tensor = |name: &str, dtype, shape: &[usize]| SavedTensor {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
        };
        let bytes = [1, 0, 0, 0, 2, 0, 0, 0];
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &bytes).unwrap();
        let file = dir.path().join("model.safetensors");
        safetensors::serialize_to_file([("a", view)], None, &file).unwrap();
        let written = Checkpoint::open(dir.path()).unwrap();
        let shard = Shard {
            file: "model.safetensors".into(),
            weights: Vec::<SavedWeight>::new(),
            header: Vec::new(),
        };
        let sum = Some(crc32fast::hash(&bytes));
        verify(&written, &shard, &tensor("a", Dtype::F32, &[2]), sum).unwrap();
        for (tensor, sum) in [
            (tensor("a", Dtype::F32, &[2]), sum.map(|sum| sum ^ 1)),
            (tensor("a", Dtype::F32, &[2]), None),
            (tensor("a", Dtype::F32, &[1, 2]), sum),
            (tensor("a", Dtype::I32, &[2]), sum),
            (tensor("b", Dtype::F32, &[2]), sum),
        ] {
            let error = verify(&written, &shard, &tensor, sum).unwrap_err();
            assert!(
                matches!(&error, WeightsError::Changed { path, name }
                    if *path == file && *name == tensor.name),
                "{error}"
            );
        }
    }
}
