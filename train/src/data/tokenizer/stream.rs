//! Text of tokens as they come, whole characters only.

use super::Tokenizer;
use crate::data::error::DataError;

/// Decodes a text token by token. Put together, what it gives is what [`Tokenizer::decode`] gives
/// for all tokens at once.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Bytes that do not make a character yet.
    bytes: Vec<u8>,
    /// Tokens of the last text given, which decide how the next ones read (a space at the start,
    /// for instance), then those held back.
    tokens: Vec<u32>,
    /// How many of `tokens` have been given as text.
    given: usize,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, bytes: Vec::new(), tokens: Vec::new(), given: 0 }
    }

    /// The text that the token completes; empty while a character is incomplete.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, token: u32) -> Result<String, DataError> {
        match self.tokenizer {
            Tokenizer::Bytes => {
                self.bytes.extend(u8::try_from(token).ok());
                Ok(self.whole_characters())
            }
            Tokenizer::HuggingFace(_) => {
                self.tokens.push(token);
                let new = self.undecided()?;
                if new.is_empty() || new.ends_with(char::REPLACEMENT_CHARACTER) {
                    return Ok(String::new());
                }
                self.tokens.drain(..self.given);
                self.given = self.tokens.len();
                Ok(new)
            }
        }
    }

    /// What was held back, as far as it is text.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(mut self) -> Result<String, DataError> {
        match self.tokenizer {
            Tokenizer::Bytes => {
                Ok(String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned())
            }
            Tokenizer::HuggingFace(_) => self.undecided(),
        }
    }

    /// Takes the characters that are complete; a byte that can be part of none becomes U+FFFD.
    fn whole_characters(&mut self) -> String {
        let mut text = String::new();
        let mut taken = 0;
        for chunk in self.bytes.utf8_chunks() {
            let at_the_end =
                taken + chunk.valid().len() + chunk.invalid().len() == self.bytes.len();
            text.push_str(chunk.valid());
            taken += chunk.valid().len();
            if chunk.invalid().is_empty() || at_the_end && is_incomplete(chunk.invalid()) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            taken += chunk.invalid().len();
        }
        self.bytes.drain(..taken);
        text
    }

    /// The text after that of the tokens already given.
    fn undecided(&self) -> Result<String, DataError> {
        let before = self.tokenizer.decode(&self.tokens[..self.given])?;
        let all = self.tokenizer.decode(&self.tokens)?;
        Ok(all.get(before.len()..).unwrap_or_default().to_string())
    }
}

/// Whether more bytes can make a character of these.
fn is_incomplete(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokenizer::tests_support::tokenizer_json;
    use proptest::prelude::*;

    fn parts(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<String> {
        let mut stream = tokenizer.stream();
        let mut parts: Vec<String> =
            tokens.iter().map(|&token| stream.push(token).unwrap()).collect();
        parts.push(stream.finish().unwrap());
        parts
    }

    fn hugging_face() -> (tempfile::TempDir, Tokenizer) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, tokenizer_json(&["</s>"])).unwrap();
        let tokenizer = Tokenizer::from_file(&path, None).unwrap();
        (folder, tokenizer)
    }

    #[test]
    fn a_character_is_given_when_its_last_byte_is_there() {
        let euro: Vec<u32> = "\u{20ac}x".bytes().map(u32::from).collect();
        assert_eq!(parts(&Tokenizer::Bytes, &euro), ["", "", "\u{20ac}", "x", ""]);
        assert_eq!(parts(&Tokenizer::Bytes, &euro[..2]), ["", "", "\u{fffd}"]);
        assert_eq!(parts(&Tokenizer::Bytes, &[256, 0xff, 104]), ["", "\u{fffd}", "h", ""]);
        let (_folder, tokenizer) = hugging_face();
        let tokens = tokenizer.encode("\u{20ac}he").unwrap();
        assert_eq!(parts(&tokenizer, &tokens), ["", "", "\u{20ac}", "he", ""]);
    }

    proptest! {
        #[test]
        fn parts_make_the_whole(tokens in proptest::collection::vec(0u32..260, 0..40)) {
            let whole = Tokenizer::Bytes.decode(&tokens).unwrap();
            prop_assert_eq!(parts(&Tokenizer::Bytes, &tokens).concat(), whole);
        }

        #[test]
        fn parts_of_a_text_make_the_text(text in "\\PC{0,20}") {
            let (_folder, tokenizer) = hugging_face();
            let tokens = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(parts(&tokenizer, &tokens).concat(), text);
        }
    }
}
