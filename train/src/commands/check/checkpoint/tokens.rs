//! The tokens of a model's folder: its tokenizer against its vocabulary, and what ends a text.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use burn_deepseek::DeepSeekConfig;
use burn_deepseek::weights::{CONFIG_FILE, SETTINGS_BYTES, read_regular_text};
use serde::Serialize;
use serde_json::Value;

use crate::data::{BYTES_VOCAB_SIZES, HuggingFaceTokenizer, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use crate::model_folder::GENERATION_FILE;

/// What the files of a folder say of tokens.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tokens {
    /// Tokens that the model knows.
    pub vocab_size: usize,
    /// The largest token of `tokenizer.json` plus one; none where there is no such file.
    pub tokenizer_size: Option<usize>,
    /// What ends a text, by the file that says so.
    pub end_tokens: Vec<EndTokens>,
    #[serde(skip)]
    pub problems: Vec<String>,
    #[serde(skip)]
    pub remarks: Vec<String>,
}

/// What a file says to end a text.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct EndTokens {
    /// The file.
    pub file: &'static str,
    /// The tokens.
    pub tokens: BTreeSet<u64>,
}

impl Tokens {
    /// Reads the files of a folder, as far as they are there.
    pub fn of(folder: &Path, model: &DeepSeekConfig) -> Self {
        let mut tokens = Self { vocab_size: model.vocab_size, ..Self::default() };
        let tokenizer = tokens.read_tokenizer(folder);
        for file in [CONFIG_FILE, GENERATION_FILE] {
            if let Some(found) = read_json(folder, file, &mut tokens.problems) {
                let ends = numbers(&found["eos_token_id"]);
                if !ends.is_empty() {
                    tokens.end_tokens.push(EndTokens { file, tokens: ends });
                }
            }
        }
        tokens.read_named_end(folder, tokenizer.as_ref());
        tokens.compare();
        tokens
    }

    fn read_tokenizer(&mut self, folder: &Path) -> Option<HuggingFaceTokenizer> {
        const FILE: &str = TOKENIZER_FILE;
        let path = folder.join(FILE);
        if !path.exists() {
            if !BYTES_VOCAB_SIZES.contains(&self.vocab_size) {
                self.remarks.push(format!(
                    "{FILE} is not there; without it this folder makes no text of tokens"
                ));
            }
            return None;
        }
        let tokenizer = match HuggingFaceTokenizer::read(&path) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                self.problems.push(error.to_string());
                return None;
            }
        };
        let size = tokenizer.vocab_size();
        self.tokenizer_size = Some(size);
        if size > self.vocab_size {
            self.problems.push(format!(
                "{FILE} has tokens up to {}, the model knows {} (vocab_size)",
                size - 1,
                self.vocab_size
            ));
        }
        Some(tokenizer)
    }

    /// The token that `tokenizer_config.json` names.
    fn read_named_end(&mut self, folder: &Path, tokenizer: Option<&HuggingFaceTokenizer>) {
        const FILE: &str = TOKENIZER_CONFIG_FILE;
        let Some(found) = read_json(folder, FILE, &mut self.problems) else { return };
        let token = &found["eos_token"];
        let name = token.as_str().or_else(|| token["content"].as_str());
        let (Some(name), Some(tokenizer)) = (name, tokenizer) else { return };
        match tokenizer.id(name) {
            Some(id) => {
                let tokens = BTreeSet::from([u64::from(id)]);
                self.end_tokens.push(EndTokens { file: FILE, tokens });
            }
            None => self
                .problems
                .push(format!("{FILE} names the end token {name:?}, which tokenizer.json lacks")),
        }
    }

    /// Whether the files agree, and whether the model knows what they name.
    fn compare(&mut self) {
        let vocab_size = self.vocab_size as u64;
        for EndTokens { file, tokens } in &self.end_tokens {
            let beyond: Vec<String> =
                tokens.iter().filter(|&&t| t >= vocab_size).map(u64::to_string).collect();
            if !beyond.is_empty() {
                self.remarks.push(format!(
                    "{file}: end token {} is beyond the vocabulary of {vocab_size}",
                    beyond.join(", ")
                ));
            }
        }
        let differ = self.end_tokens.windows(2).any(|pair| pair[0].tokens != pair[1].tokens);
        if differ {
            let said: Vec<String> = self.end_tokens.iter().map(EndTokens::describe).collect();
            self.remarks.push(format!("end tokens differ: {}", said.join("; ")));
        }
        if self.end_tokens.is_empty() {
            self.remarks.push("no file names an end token".into());
        }
    }
}

impl EndTokens {
    /// As `1, 2 (config.json)`.
    pub fn describe(&self) -> String {
        let tokens: Vec<String> = self.tokens.iter().map(u64::to_string).collect();
        format!("{} ({})", tokens.join(", "), self.file)
    }
}

/// One token or a list of them.
fn numbers(value: &Value) -> BTreeSet<u64> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_u64).collect(),
        one => one.as_u64().into_iter().collect(),
    }
}

/// A file of the folder, where it is there; what is not JSON is a problem.
fn read_json(folder: &Path, file: &str, problems: &mut Vec<String>) -> Option<Value> {
    let text = match read_regular_text(&folder.join(file), SETTINGS_BYTES) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            problems.push(format!("{file} cannot be read: {error}"));
            return None;
        }
        Ok(text) => text,
    };
    match serde_json::from_str(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            problems.push(format!("{file} is not JSON: {error}"));
            None
        }
    }
}
