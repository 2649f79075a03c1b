//! The index of shards: which file holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::WeightsError;
use super::regular::read_regular_text;

/// Bytes of an index at most; that of a model with a million tensors has as many.
const MOST_BYTES: u64 = 128 << 20;

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
        let text = read_regular_text(path, MOST_BYTES)
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
