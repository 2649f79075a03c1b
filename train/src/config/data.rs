//! Placeholder of `[data]` until `crate::data::DataConfig` takes its place.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[data]`: what is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Files and folders; empty for the built-in corpus.
    pub source: Vec<PathBuf>,
    /// Path of a Hugging Face `tokenizer.json`, or `bytes`.
    pub tokenizer: String,
    /// What the held-out part is cut by: `document` or `position`.
    pub split: String,
    /// Part of the data that is held out.
    pub valid_fraction: f64,
    /// Key of the text in a line of JSONL.
    pub jsonl_field: String,
    /// Part of the documents that are turned to fill-in-the-middle.
    pub fim_rate: f64,
    /// Seed of the built-in corpus and of the order.
    pub seed: u64,
    /// Bytes of built-in corpus to generate.
    pub builtin_bytes: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            source: Vec::new(),
            tokenizer: "bytes".into(),
            split: "document".into(),
            valid_fraction: 0.1,
            jsonl_field: "text".into(),
            fim_rate: 0.0,
            seed: 0,
            builtin_bytes: 4 << 20,
        }
    }
}
