//! Which file holds which tensor, decided before anything is written.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::json;

use super::index::{IndexMetadata, ShardIndex};
use super::{NamedSlice, SaveDType, SaveOptions, WEIGHTS_FILE};

/// What the name of the one parameter that stays F32 ends with: training moves it by steps too
/// small for 16 bits to keep.
const BALANCE_BIAS: &str = "e_score_correction_bias";

/// A tensor to write.
#[derive(Debug)]
pub(super) struct SavedTensor {
    /// What it is.
    pub slice: NamedSlice,
    /// In what type.
    pub dtype: SaveDType,
}

impl SavedTensor {
    /// Bytes of its data.
    pub fn len_bytes(&self) -> usize {
        self.slice.elements() * self.dtype.size_bytes()
    }
}

/// A file to write.
#[derive(Debug)]
pub(super) struct Shard {
    /// Its name.
    pub file: String,
    /// Its tensors in the order of their data: wider types first, so that each is aligned, and by
    /// parameter within a type.
    pub tensors: Vec<SavedTensor>,
}

/// Fills files up to `max_shard_bytes` of data in the order of the tensors; a larger tensor has a
/// file to itself.
pub(super) fn shards(slices: Vec<NamedSlice>, options: &SaveOptions) -> Vec<Shard> {
    let mut files: Vec<Vec<SavedTensor>> = vec![Vec::new()];
    let mut filled = 0;
    for slice in slices {
        let dtype = if slice.name.ends_with(BALANCE_BIAS) { SaveDType::F32 } else { options.dtype };
        let tensor = SavedTensor { slice, dtype };
        let len_bytes = tensor.len_bytes() as u64;
        match files.last_mut() {
            Some(file) if file.is_empty() || filled + len_bytes <= options.max_shard_bytes => {
                file.push(tensor)
            }
            _ => {
                files.push(vec![tensor]);
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
    let shards = files.into_iter().enumerate().map(|(number, mut tensors)| {
        tensors.sort_by_key(|tensor| Reverse(tensor.dtype.stored()));
        Shard { file: name(number), tensors }
    });
    shards.collect()
}

/// The index of several shards.
pub(super) fn index(shards: &[Shard]) -> ShardIndex {
    let mut weight_map = BTreeMap::new();
    let mut total_bytes = 0;
    for shard in shards {
        for tensor in &shard.tensors {
            weight_map.insert(tensor.slice.name.clone(), shard.file.clone());
            total_bytes += tensor.len_bytes();
        }
    }
    ShardIndex { metadata: IndexMetadata { total_size: json!(total_bytes) }, weight_map }
}
