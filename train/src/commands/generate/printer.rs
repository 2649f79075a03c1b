//! The text on standard output, as it is decided, and when it was.

use std::time::Instant;

use crate::data::{TextStream, Tokenizer};
use crate::failure::Result;
use crate::stdout::write_generated;

/// Prints the prompt with the first token, then each token's text.
#[derive(Debug)]
pub(super) struct Printer<'a> {
    stream: TextStream<'a>,
    /// What is still to be printed before the next token.
    prompt: &'a str,
    text: String,
    /// When the first token was decided.
    pub first: Option<Instant>,
    /// When the last token was decided.
    pub last: Option<Instant>,
}

impl<'a> Printer<'a> {
    pub fn new(tokenizer: &'a Tokenizer, prompt: &'a str) -> Self {
        Self { stream: tokenizer.stream(), prompt, text: String::new(), first: None, last: None }
    }

    /// Prints what the token completes.
    pub fn token(&mut self, token: u32) -> Result<()> {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        let part = self.stream.push(token)?;
        self.text += &part;
        write_generated(&format!("{}{part}", std::mem::take(&mut self.prompt)))
    }

    /// Prints what was held back and ends the line; returns the text without the prompt.
    pub fn finish(self) -> Result<String> {
        let rest = self.stream.finish()?;
        write_generated(&format!("{}{rest}\n", self.prompt))?;
        Ok(self.text + &rest)
    }
}
