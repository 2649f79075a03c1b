//! Text that others wrote, with what a terminal would obey made visible.
//!
//! Names of tensors and files, values of JSON and the tokens of a tokenizer come from anywhere. In a
//! message or a table, control characters and the marks that turn the direction of writing are
//! written out, as in `\u{1b}`; the text itself is not changed otherwise.

use std::borrow::Cow;

/// `text` as it can go to a terminal: lines and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    replaced(text, obeyed, |letter| letter.escape_unicode().to_string())
}

/// `json`, which is JSON, with the same letters as JSON writes them; it stays the same value.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    replaced(json, obeyed, |letter| {
        letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    })
}

/// Text that a model made, as it can go to a terminal: it is in whatever language it is in, so only
/// control characters are written out.
pub fn visible_prose(text: &str) -> Cow<'_, str> {
    replaced(text, is_control, |letter| letter.escape_unicode().to_string())
}

fn replaced(text: &str, hidden: fn(char) -> bool, shown: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if hidden(letter) { replaced += &shown(letter) } else { replaced.push(letter) }
    }
    Cow::Owned(replaced)
}

/// Whether a terminal does something else with it than showing it.
fn obeyed(letter: char) -> bool {
    is_control(letter)
        || matches!(
            letter,
            // Marks, embeddings, overrides and isolates of direction; separators of lines and
            // paragraphs; the byte order mark; tags.
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// C0 but for lines and tabs, DEL, and C1, which some terminals take for escape sequences too.
fn is_control(letter: char) -> bool {
    letter.is_control() && !matches!(letter, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(visible("a\x1b[31mred\r\u{7}\u{9b}2J"), "a\\u{1b}[31mred\\u{d}\\u{7}\\u{9b}2J");
        assert_eq!(visible("\u{202e}txt.exe\u{2066}\u{7f}"), "\\u{202e}txt.exe\\u{2066}\\u{7f}");
        let plain = "one\n\ttwo \u{e9}\u{4e2d}\u{1f980} \u{5e9}\u{5dc}";
        assert!(matches!(visible(plain), Cow::Borrowed(text) if text == plain));
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"a\u{202e}": "\u{9b}\u{7f}\u{1b}\u{e0041}\u{e9}"});
        let written = value.to_string();
        let shown = visible_json(&written);
        assert!(shown.chars().all(|letter| !obeyed(letter)), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn prose_keeps_its_direction() {
        assert_eq!(visible_prose("\u{200f}\u{5e9}\x1b[2J\n"), "\u{200f}\u{5e9}\\u{1b}[2J\n");
    }
}
