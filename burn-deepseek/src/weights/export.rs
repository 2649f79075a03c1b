//! A checkpoint in another type, from folder to folder, without a model in between.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use cubecl_kernels::definition::ScaleFormat;
use safetensors::Dtype;
use serde_json::Value;

use super::checkpoint::{Checkpoint, config_path, read_config};
use super::decode::{decode, is_nan_code};
use super::described::{describe_storage, describe_tokens, scale_format};
use super::encode::Blocks;
use super::header::StoredTensor;
use super::plan::{ParameterPlan, plan};
use super::regular::{SETTINGS_BYTES, read_regular_text};
use super::shards::{SavedTensor, Shard, index, shards};
use super::stored::{StoredForm, StoredPart, position, scale_name};
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
    let mut config = read_config(from)?;
    let planned = plan(&config, &checkpoint)?;
    let mut json = config_json(from)?;
    if planned.absent_mtp > 0 {
        config.num_nextn_predict_layers -= planned.absent_mtp;
        json["num_nextn_predict_layers"] = config.num_nextn_predict_layers.into();
    }
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
    let mut source = Folder::new(checkpoint, planned.parameters);
    let mut sums = HashMap::new();
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
    let text = read_regular_text(&path, SETTINGS_BYTES)
        .map_err(|source| WeightsError::Read { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|error| WeightsError::Config { path, source: error.into() })
}

/// Compares a tensor with what it was written from.
fn verify(
    written: &Checkpoint,
    shard: &Shard,
    tensor: &SavedTensor,
    sum: Option<u32>,
) -> Result<(), WeightsError> {
    let fits = |found: &StoredTensor| found.dtype == tensor.dtype && found.shape == tensor.shape;
    let is_the_same = written.get(&tensor.name).is_some_and(fits) && {
        let mut bytes = vec![0; tensor.len_bytes()];
        written.read_into(&tensor.name, 0, &mut bytes)?;
        Some(crc32fast::hash(&bytes)) == sum
    };
    if is_the_same {
        return Ok(());
    }
    let path = written.path.join(&shard.file);
    Err(WeightsError::Changed { path, name: tensor.name.clone() })
}

/// A checkpoint whose tensors fit.
struct Folder {
    checkpoint: Checkpoint,
    /// What fills each parameter.
    parts: HashMap<String, Vec<StoredPart>>,
}

impl Folder {
    fn new(checkpoint: Checkpoint, parameters: Vec<ParameterPlan>) -> Self {
        let parts = parameters.into_iter().map(|plan| (plan.parameter, plan.parts));
        Self { checkpoint, parts: parts.collect() }
    }

    /// The tensor that holds a slice, and which of its matrices that is.
    fn place(&self, slice: &NamedSlice) -> Option<(&StoredPart, usize)> {
        let holds = |part: &&StoredPart| {
            (part.offset..part.offset + part.elements()).contains(&slice.offset)
        };
        let part = self.parts.get(&slice.parameter)?.iter().find(holds)?;
        Some((part, (slice.offset - part.offset) / (part.rows * part.columns)))
    }

    /// The `count` elements of a tensor from element `first` on, as they are stored.
    fn read(
        &self,
        name: &str,
        dtype: Dtype,
        first: usize,
        count: usize,
    ) -> Result<Vec<u8>, WeightsError> {
        let size = dtype.bitsize() / 8;
        let mut bytes = vec![0; count * size];
        self.checkpoint.read_into(name, first * size, &mut bytes)?;
        Ok(bytes)
    }

    /// The error of an element that is no finite number.
    fn not_finite(&self, name: &str, element: usize, found: String) -> WeightsError {
        let stored = self.checkpoint.get(name);
        WeightsError::NotFinite {
            name: name.to_string(),
            file: self.checkpoint.file_of(name),
            found,
            position: stored.map(|stored| position(&stored.shape, element)).unwrap_or_default(),
        }
    }

    /// Decodes values, all of which must be finite.
    fn values(
        &self,
        name: &str,
        dtype: Dtype,
        first: usize,
        count: usize,
    ) -> Result<Vec<f32>, WeightsError> {
        let mut values = vec![0.0; count];
        decode(dtype, &self.read(name, dtype, first, count)?, &mut values);
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.not_finite(name, first + at, values[at].to_string())),
            None => Ok(values),
        }
    }
}

impl Tensors for Folder {
    fn tensor(&mut self, slice: &NamedSlice) -> Result<Held<'_>, WeightsError> {
        let Some((part, matrix)) = self.place(slice) else {
            return Err(WeightsError::Altered { parameters: vec![slice.parameter.clone()] });
        };
        let count = part.rows * part.columns;
        let StoredForm::Fp8 { scales: dtype } = part.form else {
            let values = self.values(&part.name, part.form.dtype(), matrix * count, count)?;
            return Ok(Held::Values(Cow::Owned(values)));
        };
        let codes = self.read(&part.name, Dtype::F8_E4M3, matrix * count, count)?;
        if let Some(at) = codes.iter().position(|&code| is_nan_code(code)) {
            let found = format!("the NaN code {:#04x}", codes[at]);
            return Err(self.not_finite(&part.name, matrix * count + at, found));
        }
        let [rows, columns] = part.blocks();
        let blocks = rows * columns;
        let scales = self.values(&scale_name(&part.name), dtype, matrix * blocks, blocks)?;
        Ok(Held::Blocks(Blocks { codes, scales }))
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
