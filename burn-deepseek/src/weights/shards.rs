//! Which file holds which tensor, and where in it, decided before anything is written.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::io;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::json;

use super::encode::scale_shape;
use super::index::{IndexMetadata, ShardIndex};
use super::stored::scale_name;
use super::{NamedSlice, SaveDType, SaveOptions, WEIGHTS_FILE};

/// A weight to write.
#[derive(Debug)]
pub(super) struct SavedWeight {
    /// What it is.
    pub slice: NamedSlice,
    /// In what type.
    pub dtype: SaveDType,
    /// First byte of its data, counted from the end of the header.
    pub start: u64,
    /// First byte of its scales, where it is in FP8.
    pub scales_start: u64,
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub(super) struct SavedTensor {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl SavedTensor {
    /// Bytes of its data.
    pub fn len_bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

impl SavedWeight {
    /// Itself, and its scales where it has any.
    pub fn tensors(&self) -> impl Iterator<Item = SavedTensor> {
        let NamedSlice { name, shape, .. } = &self.slice;
        let scales = matches!(self.dtype, SaveDType::Fp8(_)).then(|| SavedTensor {
            name: scale_name(name),
            dtype: Dtype::F32,
            shape: scale_shape(shape),
        });
        let itself =
            SavedTensor { name: name.clone(), dtype: self.dtype.stored(), shape: shape.clone() };
        std::iter::once(itself).chain(scales)
    }

    /// Bytes of its tensors.
    pub fn len_bytes(&self) -> u64 {
        self.tensors().map(|tensor| tensor.len_bytes() as u64).sum()
    }
}

/// A file to write.
#[derive(Debug)]
pub(super) struct Shard {
    /// Its name.
    pub file: String,
    /// Its weights, parameter after parameter.
    pub weights: Vec<SavedWeight>,
    /// Its header, padded to whole words.
    pub header: Vec<u8>,
}

/// Fills files up to `max_shard_bytes` of data in the order of the tensors; a larger tensor has a
/// file to itself.
///
/// # Errors
///
/// A header that cannot be written.
pub(super) fn shards(slices: Vec<NamedSlice>, options: &SaveOptions) -> io::Result<Vec<Shard>> {
    let mut files: Vec<Vec<SavedWeight>> = vec![Vec::new()];
    let mut filled = 0;
    for slice in slices {
        let dtype = options.dtype.of(&slice);
        let weight = SavedWeight { slice, dtype, start: 0, scales_start: 0 };
        let len_bytes = weight.len_bytes();
        match files.last_mut() {
            Some(file) if file.is_empty() || filled + len_bytes <= options.max_shard_bytes => {
                file.push(weight)
            }
            _ => {
                files.push(vec![weight]);
                filled = 0;
            }
        }
        filled += len_bytes;
    }
    let count = files.len();
    let name = |number: usize| match count {
        1 => WEIGHTS_FILE.to_string(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
    };
    files
        .into_iter()
        .enumerate()
        .map(|(number, mut weights)| {
            let header = lay_out(&mut weights)?;
            Ok(Shard { file: name(number), weights, header })
        })
        .collect()
}

/// Gives each tensor of a file its place, wider types first, so that each is aligned, and returns
/// the header.
fn lay_out(weights: &mut [SavedWeight]) -> io::Result<Vec<u8>> {
    let mut tensors: Vec<(usize, bool, SavedTensor)> = weights
        .iter()
        .enumerate()
        .flat_map(|(index, weight)| {
            weight.tensors().zip([false, true]).map(move |(tensor, scales)| (index, scales, tensor))
        })
        .collect();
    tensors.sort_by_key(|(_, _, tensor)| Reverse(tensor.dtype));
    let mut end = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for (index, is_scales, tensor) in tensors {
        let start = end;
        end += tensor.len_bytes();
        let weight = &mut weights[index];
        *(if is_scales { &mut weight.scales_start } else { &mut weight.start }) = start as u64;
        let SavedTensor { name, dtype, shape } = tensor;
        infos.push((name, TensorInfo { dtype, shape, data_offsets: (start, end) }));
    }
    header_of(infos)
}

/// The header of a file with these tensors in this order, padded to whole words.
///
/// # Errors
///
/// Places that contradict each other.
pub(super) fn header_of(tensors: Vec<(String, TensorInfo)>) -> io::Result<Vec<u8>> {
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let metadata = Metadata::new(Some(format), tensors).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// The index of several shards.
pub(super) fn index(shards: &[Shard]) -> ShardIndex {
    let mut weight_map = BTreeMap::new();
    let mut total_bytes = 0;
    for shard in shards {
        for weight in &shard.weights {
            weight_map.extend(weight.tensors().map(|tensor| (tensor.name, shard.file.clone())));
            total_bytes += weight.len_bytes();
        }
    }
    ShardIndex { metadata: IndexMetadata { total_size: json!(total_bytes) }, weight_map }
}
