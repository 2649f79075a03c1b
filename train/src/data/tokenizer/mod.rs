//! Text to token ids and back: plain bytes, or a Hugging Face `tokenizer.json`.

mod boundaries;
mod bytes;
mod encoder;
mod files;
mod hugging_face;
mod limits;
mod stream;
#[cfg(test)]
pub(crate) mod tests_support;

use std::ops::RangeInclusive;
use std::path::Path;

pub(super) use boundaries::Boundaries;
pub(super) use encoder::Encoder;
pub(super) use files::JOINED_WITH;
pub use files::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, TokenizerFiles};
pub use hugging_face::HuggingFaceTokenizer;
pub use stream::TextStream;

use super::error::DataError;

/// Turns text into token ids and back.
#[derive(Debug, Clone)]
pub enum Tokenizer {
    /// Ids 0..=255 are bytes, 256 the end of a document, 257, 258, 259 fill-in-the-middle's begin,
    /// hole and end.
    Bytes,
    /// The tokenizer of a `tokenizer.json`.
    HuggingFace(Box<HuggingFaceTokenizer>),
}

/// The three marks of a fill-in-the-middle document in prefix-suffix-middle order.
///
/// `begin` prefix `hole` suffix `end` middle, then the end of document (DeepSeek-V3, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FimTokens {
    /// Before the prefix.
    pub begin: u32,
    /// Between prefix and suffix.
    pub hole: u32,
    /// Between suffix and middle.
    pub end: u32,
}

/// The end-of-document id of [`Tokenizer::Bytes`].
pub const BYTES_EOD: u32 = 256;
/// The fill-in-the-middle ids of [`Tokenizer::Bytes`].
pub const BYTES_FIM: FimTokens = FimTokens { begin: 257, hole: 258, end: 259 };
/// The vocabulary size of [`Tokenizer::Bytes`].
pub const BYTES_VOCAB_SIZE: usize = 260;
/// Vocabularies that a model over bytes can have: it may be without some of the special tokens.
pub const BYTES_VOCAB_SIZES: RangeInclusive<usize> = 256..=BYTES_VOCAB_SIZE;

impl Tokenizer {
    /// Reads a `tokenizer.json`; `eod_token` names its end-of-document token where that is not one
    /// of the usual names.
    ///
    /// # Errors
    /// [`DataError`] naming the file: missing, not a tokenizer, no end-of-document token.
    pub fn from_file(path: &Path, eod_token: Option<&str>) -> Result<Self, DataError> {
        let tokenizer = HuggingFaceTokenizer::from_file(path, eod_token)?;
        Ok(Tokenizer::HuggingFace(Box::new(tokenizer)))
    }

    /// Reads the `tokenizer.json` of a model whose other files may name its end-of-document token:
    /// `eos_token` by name, or else the first of `ids` that it has.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn of_model(path: &Path, eos_token: Option<&str>, ids: &[u32]) -> Result<Self, DataError> {
        let tokenizer = HuggingFaceTokenizer::of_model(path, eos_token, ids)?;
        Ok(Tokenizer::HuggingFace(Box::new(tokenizer)))
    }

    /// What it is, for people: "bytes", or the file.
    pub fn description(&self) -> String {
        match self {
            Tokenizer::Bytes => "bytes".to_string(),
            Tokenizer::HuggingFace(tokenizer) => tokenizer.path().display().to_string(),
        }
    }

    /// What a user is to know of it, where there is something.
    pub fn remark(&self) -> Option<String> {
        let Tokenizer::HuggingFace(tokenizer) = self else { return None };
        let dropout = tokenizer.dropout()?;
        Some(format!("its dropout of {dropout} is off: a text has the same tokens each time"))
    }

    /// This tokenizer, read from a checkpoint's copy, as the one with this [`Tokenizer::identity`]
    /// that the run was begun with.
    pub fn copy_of(self, identity: &str) -> Self {
        match self {
            Tokenizer::Bytes => self,
            Tokenizer::HuggingFace(tokenizer) => {
                let hash = identity.split(' ').next().unwrap_or_default();
                Tokenizer::HuggingFace(Box::new(tokenizer.copy_of(hash)))
            }
        }
    }

    /// Where texts may be cut without a change of their ids.
    pub(super) fn boundaries(&self) -> Boundaries {
        match self {
            Tokenizer::Bytes => Boundaries::Everywhere,
            Tokenizer::HuggingFace(tokenizer) => tokenizer.boundaries(),
        }
    }

    /// What decides its ids, in a few characters: equal for equal tokenizers.
    pub fn identity(&self) -> String {
        match self {
            Tokenizer::Bytes => "bytes".to_string(),
            Tokenizer::HuggingFace(tokenizer) => {
                format!("{} eod {}", tokenizer.content_hash(), tokenizer.eod())
            }
        }
    }

    /// The number of ids: the largest id plus one (ids of a file may have gaps).
    pub fn vocab_size(&self) -> usize {
        match self {
            Tokenizer::Bytes => BYTES_VOCAB_SIZE,
            Tokenizer::HuggingFace(tokenizer) => tokenizer.vocab_size(),
        }
    }

    /// The id that ends a document.
    pub fn eod(&self) -> u32 {
        match self {
            Tokenizer::Bytes => BYTES_EOD,
            Tokenizer::HuggingFace(tokenizer) => tokenizer.eod(),
        }
    }

    /// The marks of fill-in-the-middle.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where the file has no such tokens.
    pub fn fim(&self) -> Result<FimTokens, DataError> {
        match self {
            Tokenizer::Bytes => Ok(BYTES_FIM),
            Tokenizer::HuggingFace(tokenizer) => tokenizer.fim(),
        }
    }

    /// Encodes text. No special token is added, and special tokens spelled out in the text stay
    /// text.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where the file's tokenizer fails on the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match self {
            Tokenizer::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Tokenizer::HuggingFace(tokenizer) => tokenizer.encode(text),
        }
    }

    /// Encodes a prompt: no special token is added, and those spelled out in it are themselves.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match self {
            Tokenizer::Bytes => Ok(bytes::encode_prompt(text)),
            Tokenizer::HuggingFace(tokenizer) => tokenizer.encode_prompt(text),
        }
    }

    /// The tokens that the tokenizer's file puts before every text.
    pub fn lead(&self) -> Vec<u32> {
        match self {
            Tokenizer::Bytes => Vec::new(),
            Tokenizer::HuggingFace(tokenizer) => tokenizer.lead(),
        }
    }

    /// Decodes ids to text, for people: special tokens are left out and what is not UTF-8 becomes
    /// U+FFFD.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where the file's decoder fails on the tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        match self {
            Tokenizer::Bytes => {
                let bytes: Vec<u8> = ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Tokenizer::HuggingFace(tokenizer) => tokenizer.decode(ids),
        }
    }

    /// Decodes ids one after another, giving text as soon as its characters are whole.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(self)
    }

    /// Checks that a model has an embedding for every id.
    ///
    /// # Errors
    /// [`DataError::Vocabulary`] with both numbers and the tokenizer's file.
    pub fn check_vocab_size(&self, vocab_size: usize) -> Result<(), DataError> {
        let needed = self.vocab_size();
        if needed > vocab_size {
            return Err(DataError::Vocabulary {
                tokenizer: self.description(),
                needed,
                vocab_size,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_round_trip(text in "\\PC{0,40}") {
            let ids = Tokenizer::Bytes.encode(&text).unwrap();
            prop_assert_eq!(ids.len(), text.len());
            prop_assert_eq!(Tokenizer::Bytes.decode(&ids).unwrap(), text);
        }
    }

    #[test]
    fn bytes_decode_is_lossy_and_leaves_marks_out() {
        let ids = [104, 0xC3, 256, 105, 257, 4_000_000_000];
        assert_eq!(Tokenizer::Bytes.decode(&ids).unwrap(), "h\u{fffd}i");
    }

    #[test]
    fn bytes_ids_fit_the_vocabulary() {
        let tokenizer = Tokenizer::Bytes;
        assert_eq!((tokenizer.eod(), tokenizer.vocab_size()), (256, 260));
        assert_eq!(tokenizer.fim().unwrap(), FimTokens { begin: 257, hole: 258, end: 259 });
        assert!(tokenizer.check_vocab_size(260).is_ok());
        assert_eq!(
            tokenizer.check_vocab_size(256).unwrap_err().to_string(),
            "the tokenizer (bytes) needs a vocabulary of 260 but the model's vocab_size is 256; \
             set vocab_size to at least 260"
        );
    }
}
