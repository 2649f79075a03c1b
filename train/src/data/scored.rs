//! How many bytes of text the tokens stand for that a model has to predict.

use burn_dataset::Dataset;

use super::error::DataError;
use super::open::TokenData;
use super::tokenizer::Tokenizer;

/// Counts the bytes of tokens that follow each other in a text; the end of a document has none.
#[derive(Debug)]
pub struct ScoredBytes<'a> {
    tokenizer: &'a Tokenizer,
    /// The document so far: parts of a character are whole only together.
    document: Vec<u32>,
    bytes: usize,
}

impl<'a> ScoredBytes<'a> {
    /// Of no tokens yet.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, document: Vec::new(), bytes: 0 }
    }

    /// Adds tokens.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where they cannot be decoded.
    pub fn add(&mut self, tokens: &[u32]) -> Result<(), DataError> {
        if matches!(self.tokenizer, Tokenizer::Bytes) {
            self.bytes += tokens.iter().filter(|&&token| u8::try_from(token).is_ok()).count();
            return Ok(());
        }
        for &token in tokens {
            if token == self.tokenizer.eod() {
                self.end_document()?;
            } else {
                self.document.push(token);
            }
        }
        Ok(())
    }

    /// The bytes of all tokens that were added.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where they cannot be decoded.
    pub fn count(mut self) -> Result<usize, DataError> {
        self.end_document()?;
        Ok(self.bytes)
    }

    fn end_document(&mut self) -> Result<(), DataError> {
        self.bytes += self.tokenizer.decode(&self.document)?.len();
        self.document.clear();
        Ok(())
    }
}

impl TokenData {
    /// Bytes of text a token that is predicted in the first `windows` validation windows: the first
    /// token of all is not, and its bytes are not counted.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where tokens cannot be decoded.
    pub fn evaluated_bytes_per_token(&self, windows: usize) -> Result<f64, DataError> {
        let mut scored = ScoredBytes::new(&self.tokenizer);
        let mut tokens = 0;
        let windows = self.valid.first(windows);
        for window in windows.iter().flatten() {
            scored.add(&window.tokens[1..])?;
            tokens += window.tokens.len() - 1;
        }
        Ok(scored.count()? as f64 / tokens.max(1) as f64)
    }
}

/// Turns a mean loss in nats a token into bits a byte of the text that the tokens stand for, which
/// compares across tokenizers.
///
/// bits/byte = loss / ln 2 * tokens / bytes
pub fn bits_per_byte(loss: f64, tokens: usize, bytes: usize) -> f64 {
    loss / std::f64::consts::LN_2 * tokens as f64 / bytes.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataConfig;

    #[test]
    fn bytes_are_tokens_and_ends_are_none() {
        let mut scored = ScoredBytes::new(&Tokenizer::Bytes);
        scored.add(&[104, 195]).unwrap();
        scored.add(&[169, 256, 257, 105]).unwrap();
        assert_eq!(scored.count().unwrap(), 4);
        assert!((bits_per_byte(std::f64::consts::LN_2, 6, 4) - 1.5).abs() < 1e-12);
    }

    #[test]
    fn the_first_token_of_all_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        // The last tenth is held out: ten bytes and the end of the document; two windows of five
        // predict nine bytes and the end.
        std::fs::write(&path, "0123456789".repeat(10)).unwrap();
        let config = DataConfig {
            source: crate::data::SourceConfig::Paths(vec![path.into()]),
            ..DataConfig::default()
        };
        let data = config.open(5, 260).unwrap();
        assert_eq!(data.summary.valid.tokens, 11);
        assert_eq!(data.evaluated_bytes_per_token(1).unwrap(), 1.0);
        assert_eq!(data.evaluated_bytes_per_token(9).unwrap(), 0.9);
    }

    /// Characters whose bytes are tokens of their own count as they are in the text, wherever the
    /// tokens are cut; the end of a document is no text.
    #[test]
    fn characters_are_counted_whole() {
        use crate::data::tokenizer::tests_support::tokenizer_json;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, tokenizer_json(&["</s>"])).unwrap();
        let tokenizer = Tokenizer::from_file(&path, None).unwrap();
        let mut scored = ScoredBytes::new(&tokenizer);
        let texts = ["he said caf\u{e9}", "\u{4e2d}he"];
        for text in texts {
            for token in tokenizer.encode(text).unwrap() {
                scored.add(&[token]).unwrap();
            }
            scored.add(&[tokenizer.eod()]).unwrap();
        }
        assert_eq!(scored.count().unwrap(), texts.concat().len());
    }
}
