//! Encodes much text: the ids of short parts are remembered.

use std::collections::HashMap;

use super::{Boundaries, Tokenizer};
use crate::data::error::DataError;

/// Parts that are longer occur once, and are not remembered.
const PART_BYTES: usize = 48;
/// Parts that are remembered: some 60 MB.
const PARTS: usize = 1 << 19;

/// Encodes text with a memory of its own, one for each thread. What it gives is what
/// [`Tokenizer::encode`] gives.
#[derive(Debug)]
pub(crate) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    boundaries: Boundaries,
    /// Where the ids of a part lie in `ids`, and how many there are.
    known: HashMap<Box<str>, (u32, u32)>,
    ids: Vec<u32>,
}

impl<'a> Encoder<'a> {
    /// One that remembers nothing yet.
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        let boundaries = tokenizer.boundaries();
        Self { tokenizer, boundaries, known: HashMap::new(), ids: Vec::new() }
    }

    /// Appends the ids of a text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub(crate) fn append(&mut self, text: &str, tokens: &mut Vec<u32>) -> Result<(), DataError> {
        match self.tokenizer {
            Tokenizer::Bytes => {
                tokens.extend(text.bytes().map(u32::from));
                Ok(())
            }
            Tokenizer::HuggingFace(_) => {
                let boundaries = self.boundaries;
                boundaries.parts(text).try_for_each(|part| self.append_part(part, tokens))
            }
        }
    }

    /// Appends the ids of a text in which special tokens that are spelled are those tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub(crate) fn append_special(
        &mut self,
        text: &str,
        tokens: &mut Vec<u32>,
    ) -> Result<(), DataError> {
        match self.tokenizer {
            Tokenizer::Bytes => self.append(text, tokens),
            Tokenizer::HuggingFace(tokenizer) => {
                tokens.extend(tokenizer.encode_prompt(text)?);
                Ok(())
            }
        }
    }

    fn append_part(&mut self, part: &str, tokens: &mut Vec<u32>) -> Result<(), DataError> {
        if let Some(&(start, count)) = self.known.get(part) {
            tokens.extend(&self.ids[start as usize..start as usize + count as usize]);
            return Ok(());
        }
        let ids = self.tokenizer.encode(part)?;
        tokens.extend(&ids);
        if part.len() <= PART_BYTES {
            if self.known.len() >= PARTS {
                self.known.clear();
                self.ids.clear();
            }
            self.known.insert(part.into(), (self.ids.len() as u32, ids.len() as u32));
            self.ids.extend(ids);
        }
        Ok(())
    }
}
