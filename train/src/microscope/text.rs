//! A text as the tokens that a model sees, each with what is shown of it.

use crate::data::{BYTES_EOD, BYTES_FIM, Tokenizer};
use crate::failure::Result;

/// The tokens of a text, what begins every text of the model among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Ids.
    pub tokens: Vec<u32>,
    /// What is shown of each: its characters, as soon as they are whole; a byte or the name of a
    /// token that has none.
    pub shown: Vec<String>,
}

impl Text {
    /// Finds what is shown of tokens.
    ///
    /// # Errors
    ///
    /// Tokens that the tokenizer cannot decode.
    pub fn of(tokenizer: &Tokenizer, tokens: Vec<u32>) -> Result<Self> {
        let mut stream = tokenizer.stream();
        let mut shown = Vec::with_capacity(tokens.len());
        for &token in &tokens {
            let text = stream.push(token)?;
            shown.push(if text.is_empty() { name_of(tokenizer, token) } else { text });
        }
        Ok(Self { tokens, shown })
    }

    /// What is shown of a token that stands alone.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn alone(tokenizer: &Tokenizer, token: u32) -> Result<String> {
        let text = tokenizer.decode(&[token])?;
        let whole = !text.is_empty() && !text.contains('\u{fffd}');
        Ok(if whole { text } else { name_of(tokenizer, token) })
    }
}

/// What a token is called that has no characters of its own.
fn name_of(tokenizer: &Tokenizer, token: u32) -> String {
    match tokenizer {
        Tokenizer::Bytes => match (token, u8::try_from(token)) {
            (_, Ok(byte)) => format!("\\x{byte:02X}"),
            (BYTES_EOD, _) => "<end>".into(),
            (id, _) if id == BYTES_FIM.begin => "<fim begin>".into(),
            (id, _) if id == BYTES_FIM.hole => "<fim hole>".into(),
            (id, _) if id == BYTES_FIM.end => "<fim end>".into(),
            (id, _) => format!("<{id}>"),
        },
        Tokenizer::HuggingFace(tokenizer) => {
            tokenizer.token(token).unwrap_or_else(|| format!("<{token}>"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_shown_and_characters_are_whole() {
        let tokens = vec![BYTES_EOD, b'a'.into(), 0xC3, 0xA9, 0xFF, b'b'.into()];
        let text = Text::of(&Tokenizer::Bytes, tokens).unwrap();
        assert_eq!(text.shown[..4], ["<end>", "a", "\\xC3", "é"]);
        assert_eq!(text.shown.len(), 6);
        assert_eq!(Text::alone(&Tokenizer::Bytes, 0xC3).unwrap(), "\\xC3");
        assert_eq!(Text::alone(&Tokenizer::Bytes, 65).unwrap(), "A");
    }
}
