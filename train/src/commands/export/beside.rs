//! What stands beside the weights of an exported model: its tokenizer, how to generate with it, and
//! code and licences that came with it.

use std::fs;
use std::path::Path;

use burn_deepseek::weights::{SETTINGS_BYTES, WeightsError, read_regular, read_regular_text};
use serde_json::{Value, json};

use super::scratch::write_synced;
use crate::data::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer, TokenizerFiles};
use crate::failure::{Context, Result};
use crate::model_folder::{GENERATION_FILE, Located};

/// Files that are copied where they are there.
const COPIED: [&str; 11] = [
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "tiktoken.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
];

/// Bytes of a file that is copied at most.
const COPIED_BYTES: u64 = 256 << 20;

/// Files and their contents.
pub(super) struct Beside {
    files: Vec<(String, Vec<u8>)>,
}

impl Beside {
    /// What belongs beside the weights of a model.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn of(source: &Located) -> Result<Self> {
        let folder = &source.folder;
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let entry = entry.with_context(|| folder.display().to_string())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_copied(&name) && !entry.path().is_dir() {
                let bytes = read_regular(&entry.path(), COPIED_BYTES)
                    .map_err(|source| WeightsError::Read { path: entry.path(), source })?;
                files.push((name, bytes));
            }
        }
        let has_tokenizer = files.iter().any(|(name, _)| name == TOKENIZER_FILE);
        if let (Some(tokenizer @ Tokenizer::Bytes), false) = (&source.tokenizer, has_tokenizer) {
            let made = TokenizerFiles::of_run(tokenizer, source.model.vocab_size)?;
            files.extend(made.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())));
        }
        let generation = format!("{:#}\n", generation(source)).into_bytes();
        files.push((GENERATION_FILE.to_string(), generation));
        Ok(Self { files })
    }

    /// Writes them.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.files.iter().try_for_each(|(name, bytes)| write_synced(&folder.join(name), bytes))
    }
}

/// Whether a file of a model's folder goes with its weights. Code that came with a model is named
/// in its `config.json`.
fn is_copied(name: &str) -> bool {
    COPIED.contains(&name) || name.ends_with(".py") || name.starts_with("LICENSE")
}

/// `generation_config.json`: what the model has of it, with every token that ends a text.
fn generation(source: &Located) -> Value {
    let own = read_regular_text(&source.folder.join(GENERATION_FILE), SETTINGS_BYTES).ok();
    let own = own.and_then(|text| serde_json::from_str(&text).ok()).filter(Value::is_object);
    let mut settings = own.unwrap_or_else(|| json!({}));
    if settings.get("bos_token_id").is_none_or(Value::is_null)
        && let Some(begin) = source.begin()
    {
        settings["bos_token_id"] = json!(begin);
    }
    if !source.stop.is_empty() {
        settings["eos_token_id"] = json!(source.stop);
    }
    settings
}
