//! The files that make a tokenizer in a model's folder, so that other programs give the same tokens.

use std::path::Path;

use burn_deepseek::weights::{SETTINGS_BYTES, read_regular, read_regular_text};
use serde_json::{Value, json};

use super::bytes::{self, SPECIAL};
use super::hugging_face::{DROPOUT, TOKENIZER_BYTES};
use super::{BYTES_EOD, HuggingFaceTokenizer, Tokenizer};
use crate::data::error::DataError;

/// The tokenizer itself.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Which of its tokens begin and end a text, and how a conversation is written.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
/// How a conversation is written, where it is a file of its own.
const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";

/// Key of a copy's settings: the tokens that the chat template was given where the run's text was
/// read, which the settings beside it may have replaced.
pub(in crate::data) const JOINED_WITH: &str = "chat_template_context";

/// Files that go beside a model's weights, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerFiles {
    files: Vec<(&'static str, Vec<u8>)>,
}

impl TokenizerFiles {
    /// The files of a run's tokenizer, for a model of `vocab_size`. Texts begin with the end of a
    /// document, as the run's do: `tokenizer.json` says so to other programs. What the settings
    /// beside the run's own file say otherwise is kept.
    ///
    /// # Errors
    /// [`DataError`] naming a file that cannot be read or is not JSON.
    pub fn of_run(tokenizer: &Tokenizer, vocab_size: usize) -> Result<Self, DataError> {
        match tokenizer {
            Tokenizer::Bytes => {
                let settings = if vocab_size > BYTES_EOD as usize {
                    settings(json!({}), SPECIAL[0])
                } else {
                    settings_without_tokens()
                };
                Ok(Self {
                    files: vec![
                        (TOKENIZER_FILE, written(&bytes::tokenizer_json(vocab_size))),
                        (TOKENIZER_CONFIG_FILE, written(&settings)),
                    ],
                })
            }
            Tokenizer::HuggingFace(tokenizer) => Self::of_file(tokenizer),
        }
    }

    fn of_file(tokenizer: &HuggingFaceTokenizer) -> Result<Self, DataError> {
        let path = tokenizer.path();
        let eod = tokenizer.eod();
        let name = tokenizer.token(eod).unwrap_or_default();
        let mut file = json_of(path)?.unwrap_or_default();
        file["post_processor"] = bytes::begins_with(&name, eod);
        // Other programs would apply it.
        if let Some(dropout) = file.pointer_mut(DROPOUT) {
            *dropout = Value::Null;
        }
        let own = json_of(&path.with_file_name(TOKENIZER_CONFIG_FILE))?;
        let own = own.unwrap_or_else(|| json!({}));
        let template = path.with_file_name(CHAT_TEMPLATE_FILE);
        let settings = match own.get("chat_template").is_some() || template.is_file() {
            true => settings_of_copy(own, &name),
            false => settings(own, &name),
        };
        let mut files =
            vec![(TOKENIZER_FILE, written(&file)), (TOKENIZER_CONFIG_FILE, written(&settings))];
        if template.is_file() {
            let text = read_regular(&template, SETTINGS_BYTES)
                .map_err(|e| DataError::read(template, e))?;
            files.push((CHAT_TEMPLATE_FILE, text));
        }
        Ok(Self { files })
    }

    /// The names and the contents.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (*name, bytes.as_slice()))
    }

    /// Whether these are the files in a folder, which it may have others beside.
    pub fn are_in(&self, folder: &Path) -> bool {
        self.iter().all(|(name, bytes)| {
            read_regular(&folder.join(name), TOKENIZER_BYTES).is_ok_and(|found| found == bytes)
        })
    }
}

/// Settings that agree with a run: `eod` ends a text, and also begins it where nothing is said to.
fn settings(mut own: Value, eod: &str) -> Value {
    if let Some(keys) = own.as_object_mut() {
        // tokenizer.json says what a text begins with; these would say it again, or otherwise.
        for key in ["add_bos_token", "add_eos_token", "auto_map"] {
            keys.remove(key);
        }
        keys.entry("bos_token").or_insert_with(|| eod.into());
        keys.insert("eos_token".into(), eod.into());
        keys.extend(as_a_map(settings_without_tokens()));
    }
    own
}

/// The settings of a copy, which keep what the chat template was given where they replace it.
fn settings_of_copy(own: Value, eod: &str) -> Value {
    let tokens = |of: &Value| json!({"bos_token": of["bos_token"], "eos_token": of["eos_token"]});
    let before = tokens(&own);
    let mut settings = settings(own, eod);
    if tokens(&settings) != before && settings.get(JOINED_WITH).is_none() {
        settings[JOINED_WITH] = before;
    }
    settings
}

/// Settings that hold for every tokenizer of this program.
fn settings_without_tokens() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
    })
}

fn as_a_map(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    }
}

fn written(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// A JSON object in a file; none where the file is not there.
fn json_of(path: &Path) -> Result<Option<Value>, DataError> {
    let text = match read_regular_text(path, TOKENIZER_BYTES) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|e| DataError::read(path, e))?,
    };
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => Ok(Some(value)),
        Ok(_) => {
            let message = "not a JSON object".to_string();
            Err(DataError::Tokenizer { path: path.to_path_buf(), message })
        }
        Err(error) => Err(DataError::Tokenizer {
            path: path.to_path_buf(),
            message: format!("not JSON: {error}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokenizer::tests_support::tokenizer_json;

    #[test]
    fn the_files_of_a_file_say_what_a_text_begins_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.json");
        std::fs::write(&path, tokenizer_json(&["<s>", "</s>"])).unwrap();
        std::fs::write(
            folder.path().join(TOKENIZER_CONFIG_FILE),
            r#"{"bos_token": "<s>", "add_bos_token": true, "chat_template": "{{ messages }}"}"#,
        )
        .unwrap();
        std::fs::write(folder.path().join(CHAT_TEMPLATE_FILE), "{{ bos_token }}").unwrap();
        let tokenizer = Tokenizer::from_file(&path, None).unwrap();
        let files = TokenizerFiles::of_run(&tokenizer, 400).unwrap();
        assert!(!files.are_in(folder.path()));

        let copy = tempfile::tempdir().unwrap();
        for (name, bytes) in files.iter() {
            std::fs::write(copy.path().join(name), bytes).unwrap();
        }
        assert!(files.are_in(copy.path()));
        assert_eq!(
            std::fs::read(copy.path().join(CHAT_TEMPLATE_FILE)).unwrap(),
            b"{{ bos_token }}"
        );
        let settings = std::fs::read_to_string(copy.path().join(TOKENIZER_CONFIG_FILE)).unwrap();
        let settings: Value = serde_json::from_str(&settings).unwrap();
        assert_eq!(settings["bos_token"], "<s>");
        assert_eq!(settings["eos_token"], "</s>");
        assert_eq!(settings["chat_template"], "{{ messages }}");
        assert_eq!(settings.get("add_bos_token"), None);
        assert_eq!(settings[JOINED_WITH], json!({"bos_token": "<s>", "eos_token": null}));
        let copied = Tokenizer::from_file(&copy.path().join(TOKENIZER_FILE), Some("</s>")).unwrap();
        assert_eq!((copied.eod(), copied.lead()), (301, vec![301]));
        let text = "the caf\u{e9} </s>";
        assert_eq!(copied.encode(text).unwrap(), tokenizer.encode(text).unwrap());
        // Made again from their own copy they are the same.
        assert_eq!(TokenizerFiles::of_run(&copied, 400).unwrap(), files);
    }

    #[test]
    fn settings_that_are_no_object_name_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TOKENIZER_FILE);
        std::fs::write(&path, tokenizer_json(&["</s>"])).unwrap();
        let tokenizer = Tokenizer::from_file(&path, None).unwrap();
        for (text, problem) in [("[]", "not a JSON object"), ("{", "not JSON: ")] {
            std::fs::write(folder.path().join(TOKENIZER_CONFIG_FILE), text).unwrap();
            let error = TokenizerFiles::of_run(&tokenizer, 400).unwrap_err().to_string();
            assert!(error.contains(TOKENIZER_CONFIG_FILE) && error.contains(problem), "{error}");
        }
    }
}
