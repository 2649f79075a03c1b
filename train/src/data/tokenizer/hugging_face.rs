//! A Hugging Face `tokenizer.json`, with the special tokens that training needs found by name.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn_deepseek::weights::read_regular;

use super::{Boundaries, FimTokens, limits};
use crate::data::contained::contained;
use crate::data::error::DataError;

/// What reads the files.
const LIBRARY: &str = "tokenizers";
/// Bytes of a `tokenizer.json` at most; published ones have up to 35 MB.
pub(super) const TOKENIZER_BYTES: u64 = 64 << 20;

/// Names of end-of-document tokens, DeepSeek's first; the first that the file has is used.
pub(super) const EOD_NAMES: [&str; 6] =
    ["<｜end▁of▁sentence｜>", "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>"];

/// Names of begin, hole and end in prefix-suffix-middle order, DeepSeek's first.
pub(super) const FIM_NAMES: [[&str; 3]; 3] = [
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
];

/// Where the share of merges is that the tokenizer leaves out at random.
pub(super) const DROPOUT: &str = "/model/dropout";

/// A tokenizer read from a `tokenizer.json`.
#[derive(Debug, Clone)]
pub struct HuggingFaceTokenizer {
    path: PathBuf,
    tokenizer: tokenizers::Tokenizer,
    vocab_size: usize,
    eod: u32,
    boundaries: Boundaries,
    content_hash: String,
    /// The file's dropout, which is off.
    dropout: Option<String>,
    /// The same, for texts in which special tokens are spelled; made when the first comes.
    special: OnceLock<Box<tokenizers::Tokenizer>>,
}

impl HuggingFaceTokenizer {
    /// Reads the file; `eod_token` names the end-of-document token, otherwise the usual names are
    /// tried.
    ///
    /// # Errors
    /// [`DataError`] naming the file: missing, not a tokenizer, no end-of-document token.
    pub fn from_file(path: &Path, eod_token: Option<&str>) -> Result<Self, DataError> {
        let mut tokenizer = Self::read(path)?;
        tokenizer.eod = match eod_token {
            Some(name) => tokenizer.id(name).ok_or_else(|| {
                tokenizer.failed(format!("has no token {name:?} (data.eod_token)"))
            })?,
            None => tokenizer.usual_eod("data.eod_token")?,
        };
        Ok(tokenizer)
    }

    /// Reads the file of a model whose other files may name its end-of-document token: `eos_token`
    /// by name, or else the first of `ids` that it has; otherwise the usual names are tried.
    ///
    /// # Errors
    /// As [`HuggingFaceTokenizer::from_file`].
    pub fn of_model(path: &Path, eos_token: Option<&str>, ids: &[u32]) -> Result<Self, DataError> {
        let mut tokenizer = Self::read(path)?;
        let named = eos_token.and_then(|name| tokenizer.id(name));
        let numbered = || ids.iter().copied().find(|&id| tokenizer.token(id).is_some());
        tokenizer.eod = match named.or_else(numbered) {
            Some(id) => id,
            None => tokenizer.usual_eod("eos_token of tokenizer_config.json")?,
        };
        Ok(tokenizer)
    }

    /// Reads the file, its end-of-document token not looked for: for whoever looks at it alone.
    ///
    /// # Errors
    /// [`DataError`] naming the file: missing, not a tokenizer.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let failed = |message| DataError::Tokenizer { path: path.to_path_buf(), message };
        let bytes = read_regular(path, TOKENIZER_BYTES).map_err(|e| DataError::read(path, e))?;
        let not_one =
            |e: &dyn std::fmt::Display| failed(format!("not a Hugging Face tokenizer.json: {e}"));
        let mut json: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| not_one(&e))?;
        limits::check(&json).map_err(|problem| not_one(&problem))?;
        // Dropout would give other ids for the same text each time.
        let dropout = json.pointer_mut(DROPOUT).map(serde_json::Value::take);
        let dropout = dropout.filter(|value| !value.is_null()).map(|value| value.to_string());
        let made = contained(LIBRARY, || match &dropout {
            None => tokenizers::Tokenizer::from_bytes(&bytes),
            Some(_) => tokenizers::Tokenizer::from_bytes(json.to_string()),
        });
        let mut tokenizer = made.map_err(|e| not_one(&e))?.map_err(|e| not_one(&e))?;
        // A document is one text: it is not cut, padded, or ended where it happens to spell a
        // special token.
        tokenizer
            .with_truncation(None)
            .map_err(|e| failed(format!("its truncation cannot be turned off: {e}")))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);

        let vocab_size =
            tokenizer.get_vocab(true).values().max().map_or(0, |&largest| largest as usize + 1);
        Ok(Self {
            path: path.to_path_buf(),
            tokenizer,
            vocab_size,
            eod: 0,
            boundaries: Boundaries::of(&json),
            content_hash: blake3::hash(&bytes).to_string(),
            dropout,
            special: OnceLock::new(),
        })
    }

    /// The end-of-document token by its usual names; `key` could name another.
    fn usual_eod(&self, key: &str) -> Result<u32, DataError> {
        EOD_NAMES.iter().find_map(|name| self.id(name)).ok_or_else(|| {
            let names = EOD_NAMES.join(" ");
            self.failed(format!(
                "has no end-of-document token among {names}; name its own in {key}"
            ))
        })
    }

    /// The id of a token, where there is one of this name.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The name of a token, where there is one of this id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id that ends a document.
    pub fn eod(&self) -> u32 {
        self.eod
    }

    pub(super) fn boundaries(&self) -> Boundaries {
        self.boundaries
    }

    /// BLAKE3 of the file, or of the one that it is [a copy of](Self::copy_of).
    pub(in crate::data) fn content_hash(&self) -> &str {
        &self.content_hash
    }

    /// This tokenizer as the copy of a file with another content, which gave the same ids.
    pub(super) fn copy_of(self, content_hash: &str) -> Self {
        Self { content_hash: content_hash.to_owned(), ..self }
    }

    /// The dropout of the file, as it is written there: none is applied, for a text is to have the
    /// same ids each time.
    pub fn dropout(&self) -> Option<&str> {
        self.dropout.as_deref()
    }

    /// The marks of fill-in-the-middle.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where the file has none of the known names.
    pub fn fim(&self) -> Result<FimTokens, DataError> {
        let id = |name: &str| self.id(name);
        FIM_NAMES
            .iter()
            .find_map(|[begin, hole, end]| {
                Some(FimTokens { begin: id(begin)?, hole: id(hole)?, end: id(end)? })
            })
            .ok_or_else(|| {
                let names = FIM_NAMES.map(|names| names.join(" ")).join(", or ");
                self.failed(format!(
                    "has no fill-in-the-middle tokens ({names}); set data.fim_rate to 0"
                ))
            })
    }

    /// Encodes text without adding special tokens.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where the tokenizer fails on the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        self.encode_with(&self.tokenizer, text)
    }

    /// Encodes text in which special tokens may be spelled out, without adding any.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where the tokenizer fails on the text.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let special = self.special.get_or_init(|| {
            let mut tokenizer = self.tokenizer.clone();
            tokenizer.set_encode_special_tokens(false);
            Box::new(tokenizer)
        });
        self.encode_with(special, text)
    }

    fn encode_with(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        text: &str,
    ) -> Result<Vec<u32>, DataError> {
        let failed =
            |e: &dyn std::fmt::Display| self.failed(format!("cannot encode the text: {e}"));
        let encoding = contained(LIBRARY, || tokenizer.encode_fast(text, false));
        let encoding = encoding.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// What the file puts before every text.
    pub fn lead(&self) -> Vec<u32> {
        let ids = |special| {
            let encoding = contained(LIBRARY, || self.tokenizer.encode_fast("a", special)).ok();
            let encoding = encoding.and_then(Result::ok);
            encoding.map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
        };
        let (bare, mut whole) = (ids(false), ids(true));
        let at = whole.windows(bare.len().max(1)).position(|part| part == bare);
        whole.truncate(at.unwrap_or(0));
        whole
    }

    /// Decodes ids to text without special tokens; ids that the file does not have are left out.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where the decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        let failed = |e: &dyn std::fmt::Display| {
            self.failed(format!("cannot decode {} tokens: {e}", ids.len()))
        };
        let text = contained(LIBRARY, || self.tokenizer.decode(ids, true));
        text.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
    }

    fn failed(&self, message: String) -> DataError {
        DataError::Tokenizer { path: self.path.clone(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokenizer::Tokenizer;
    use crate::data::tokenizer::tests_support::tokenizer_json;

    fn written(json: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, json).unwrap();
        (folder, path)
    }

    const ALL: [&str; 4] =
        ["<｜end▁of▁sentence｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"];

    #[test]
    fn text_round_trips_uncut_and_merged() {
        let (_folder, path) = written(&tokenizer_json(&ALL));
        let tokenizer = Tokenizer::from_file(&path, None).unwrap();
        let text = "the caf\u{e9} \u{1F980} he said";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids.len(), text.len() - 2, "two merges of \"he\", no truncation to 4");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        assert_eq!((tokenizer.eod(), tokenizer.vocab_size()), (300, 304));
        assert_eq!(tokenizer.fim().unwrap(), FimTokens { begin: 301, hole: 302, end: 303 });
        assert_eq!(tokenizer.decode(&[300, ids[0], 290]).unwrap(), "t");
    }

    /// Dropout leaves merges out at random: of 2 * 40 here, with a chance of one in 2^80 for all.
    #[test]
    fn dropout_is_off() {
        let mut json: serde_json::Value = serde_json::from_str(&tokenizer_json(&ALL)).unwrap();
        let (_folder, path) = written(&json.to_string());
        let without = HuggingFaceTokenizer::from_file(&path, None).unwrap();
        assert_eq!(without.dropout(), None);
        json["model"]["dropout"] = 0.5.into();
        let (_folder, path) = written(&json.to_string());
        let tokenizer = HuggingFaceTokenizer::from_file(&path, None).unwrap();
        let text = "he ".repeat(40);
        let ids = without.encode(&text).unwrap();
        assert!(ids.len() < text.len(), "some are merged");
        assert_eq!(tokenizer.encode(&text).unwrap(), ids);
        assert_eq!(tokenizer.encode_prompt(&text).unwrap(), ids);
        assert_eq!(tokenizer.dropout(), Some("0.5"));
    }

    /// A document that quotes the end-of-document token must not end there; a prompt may.
    #[test]
    fn special_tokens_in_text_stay_text_and_in_a_prompt_do_not() {
        let (_folder, path) = written(&tokenizer_json(&ALL));
        let tokenizer = Tokenizer::from_file(&path, None).unwrap();
        let ids = tokenizer.encode("a<｜end▁of▁sentence｜>b").unwrap();
        assert!(!ids.contains(&300) && ids.len() > 10, "{ids:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), "a<｜end▁of▁sentence｜>b");
        let prompt = tokenizer.encode_prompt("a<｜end▁of▁sentence｜>b").unwrap();
        assert_eq!(prompt, [ids[0], 300, ids[ids.len() - 1]]);
        assert_eq!(tokenizer.encode("a<｜end▁of▁sentence｜>b").unwrap(), ids);
        assert!(tokenizer.lead().is_empty());
    }

    /// The other files of a model name its end-of-document token, by name or by number.
    #[test]
    fn the_end_of_a_document_is_what_the_model_says() {
        let (_folder, path) = written(&tokenizer_json(&["<done>", "</s>"]));
        let eod = |name, ids: &[u32]| Tokenizer::of_model(&path, name, ids).unwrap().eod();
        assert_eq!(eod(Some("<done>"), &[301]), 300);
        assert_eq!(eod(Some("<other>"), &[999, 300]), 300);
        assert_eq!(eod(None, &[]), 301);
        let (_folder, path) = written(&tokenizer_json(&["<done>"]));
        let error = Tokenizer::of_model(&path, None, &[]).unwrap_err().to_string();
        assert!(error.ends_with("name its own in eos_token of tokenizer_config.json"), "{error}");
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let (_folder, path) = written(&tokenizer_json(&["<done>"]));
        let message = |result: Result<Tokenizer, DataError>| result.unwrap_err().to_string();
        let found = message(Tokenizer::from_file(&path, None));
        assert!(found.starts_with(&path.display().to_string()), "{found}");
        assert!(found.ends_with("name its own in data.eod_token"), "{found}");
        let found = message(Tokenizer::from_file(&path, Some("<end>")));
        assert!(found.ends_with("has no token \"<end>\" (data.eod_token)"), "{found}");

        let tokenizer = Tokenizer::from_file(&path, Some("<done>")).unwrap();
        let found = tokenizer.fim().unwrap_err().to_string();
        assert!(found.contains("<｜fim▁begin｜> <｜fim▁hole｜> <｜fim▁end｜>, or "), "{found}");
        assert!(found.ends_with("set data.fim_rate to 0"), "{found}");
        let found = tokenizer.check_vocab_size(256).unwrap_err().to_string();
        let expected = format!(
            "({}) needs a vocabulary of 301 but the model's vocab_size is 256",
            path.display()
        );
        assert!(found.contains(&expected), "{found}");

        let (_folder, path) = written("{\"version\":\"1.0\"}");
        let found = message(Tokenizer::from_file(&path, None));
        assert!(found.contains("not a Hugging Face tokenizer.json: "), "{found}");
        let missing = path.with_file_name("none.json");
        let found = message(Tokenizer::from_file(&missing, None));
        assert_eq!(found, format!("{}: no such file or folder", missing.display()));
    }
}
