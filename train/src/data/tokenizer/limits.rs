//! What a `tokenizer.json` may not ask for: memory or time that has nothing to do with its length.
//!
//! The tokenizers library takes what the file says for granted. Four things in it are numbers or
//! texts whose cost is not their own length: the size that a `Precompiled` map claims, counted
//! repetitions in a regular expression, replacements that lengthen the text one after the other,
//! and the length of words that are looked at from every letter on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// A pattern's length times the product of its counted repetitions at most. Published ones have a
/// few hundred characters and `{1,3}` once or twice.
const MOST_PATTERN: u64 = 1 << 15;
/// How many times longer normalizers, or decoders, may make a text, one after the other.
const MOST_GROWTH: usize = 1 << 10;
/// Letters of a word that is looked up piece by piece.
const MOST_WORD: u64 = 1 << 10;

/// What is wrong with a tokenizer's file, if anything is.
///
/// # Errors
///
/// The first thing in it that asks for too much, with the key.
pub(super) fn check(tokenizer: &Value) -> Result<(), String> {
    for key in ["normalizer", "pre_tokenizer", "post_processor", "decoder", "model"] {
        check_part(&tokenizer[key], key)?;
    }
    for key in ["normalizer", "decoder"] {
        let growth = growth(&tokenizer[key]);
        if growth > MOST_GROWTH {
            return Err(format!(
                "{key}: its replacements make a text up to {growth} times as long; the most is \
                 {MOST_GROWTH}"
            ));
        }
    }
    Ok(())
}

/// Looks at every object below `part`, which is as deep as the JSON parser lets it be.
fn check_part(part: &Value, key: &str) -> Result<(), String> {
    match part {
        Value::Array(parts) => parts.iter().try_for_each(|part| check_part(part, key)),
        Value::Object(map) => {
            check_object(map).map_err(|problem| format!("{key}: {problem}"))?;
            let deeper =
                map.iter().filter(|(name, _)| !matches!(name.as_str(), "vocab" | "merges"));
            deeper.map(|(_, part)| part).try_for_each(|part| check_part(part, key))
        }
        _ => Ok(()),
    }
}

fn check_object(map: &Map<String, Value>) -> Result<(), String> {
    if let Some(Value::String(pattern)) = map.get("Regex") {
        check_pattern(pattern)?;
    }
    if let Some(characters) = map.get("precompiled_charsmap") {
        check_precompiled(characters.as_str().unwrap_or_default())?;
    }
    match map.get("max_input_chars_per_word").and_then(Value::as_u64) {
        Some(letters) if letters > MOST_WORD => {
            Err(format!("max_input_chars_per_word is {letters}; the most is {MOST_WORD}"))
        }
        _ => Ok(()),
    }
}

/// A repetition `{n}` of a part is compiled as n parts, and so in each other.
fn check_pattern(pattern: &str) -> Result<(), String> {
    let counts = pattern.split('{').skip(1).filter_map(|rest| {
        let inside = rest.split_once('}')?.0;
        inside.split(',').filter_map(|count| count.trim().parse::<u64>().ok()).max()
    });
    let parts = counts.fold(pattern.len() as u64, |all, count| all.saturating_mul(count.max(1)));
    if parts > MOST_PATTERN {
        return Err(format!(
            "a regular expression of {} bytes with its repetitions written out has up to {parts}; \
             the most is {MOST_PATTERN}",
            pattern.len()
        ));
    }
    Ok(())
}

/// A map of characters as SentencePiece has it: the length of a trie, the trie, and the texts that
/// it points to, each with a zero behind it.
fn check_precompiled(characters: &str) -> Result<(), String> {
    let wrong = |problem: &str| Err(format!("precompiled_charsmap {problem}"));
    let Ok(bytes) = STANDARD.decode(characters) else { return wrong("is not Base64") };
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return wrong("has no length of its trie");
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || !length.is_multiple_of(4) {
        return wrong("has a trie whose length is not one of whole units");
    }
    let Some(texts) = rest.get(length..) else {
        return Err(format!(
            "precompiled_charsmap is cut short: its trie has {length} bytes, {} are there",
            rest.len()
        ));
    };
    match texts.split(|&byte| byte == 0).map(<[u8]>::len).max() {
        Some(longest) if longest > MOST_GROWTH => Err(format!(
            "precompiled_charsmap replaces a character by {longest} bytes; the most is {MOST_GROWTH}"
        )),
        _ => Ok(()),
    }
}

/// How many times longer a chain of normalizers or decoders can make a text.
fn growth(part: &Value) -> usize {
    let chain = part["normalizers"].as_array().or(part["decoders"].as_array());
    if let Some(chain) = chain {
        return chain.iter().map(growth).fold(1, usize::saturating_mul);
    }
    match part["type"].as_str() {
        Some("Replace") => part["content"].as_str().map_or(1, |text| text.len().max(1)),
        // Once for each piece of a text, which has a letter at least.
        Some("Prepend") => part["prepend"].as_str().map_or(1, |text| text.len() + 1),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn charsmap(length: u32, rest: &[u8]) -> Value {
        let bytes = [&length.to_le_bytes()[..], rest].concat();
        json!({"normalizer": {"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(bytes)}})
    }

    #[test]
    fn what_published_tokenizers_have_passes() {
        let digits = r"\p{N}{1,3}";
        let words = r"[^\r\n\p{L}\p{N}]?\p{Lu}{2,}|\s+(?!\S)|\s+|[^\s\p{L}\p{N}]+".repeat(6);
        let chain = [(" ", "\u{2581}"), ("``", "\""), ("''", "\"")].map(
            |(from, to)| json!({"type": "Replace", "pattern": {"String": from}, "content": to}),
        );
        let tokenizer = json!({
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "\u{2581}"}, chain[0], chain[1], chain[2],
            ]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": digits}},
                {"type": "Split", "pattern": {"Regex": words}},
            ]},
            "model": {"type": "WordPiece", "max_input_chars_per_word": 100},
        });
        assert_eq!(check(&tokenizer), Ok(()));
        assert_eq!(check(&charsmap(8, &[0; 12])), Ok(()));
    }

    #[test]
    fn what_costs_more_than_its_length_is_refused() {
        let replace = |content: &str| json!({"type": "Replace", "pattern": {"String": "a"}, "content": content});
        let chain = vec![replace("aaaaaaaaaa"); 10];
        for (tokenizer, part) in [
            (charsmap(u32::MAX - 3, &[0; 12]), "normalizer: precompiled_charsmap is cut short"),
            (charsmap(7, &[0; 12]), "not one of whole units"),
            (charsmap(8, &[b'x'; 5000]), "by 4992 bytes"),
            (
                json!({"normalizer": {"type": "Sequence", "normalizers": [
                    {"type": "Precompiled", "precompiled_charsmap": "AAA"}]}}),
                "is not Base64",
            ),
            (
                json!({"pre_tokenizer": {"pattern": {"Regex": "(?:(?=a){1000}){1000}"}}}),
                "pre_tokenizer: a regular expression of 21 bytes",
            ),
            (
                json!({"decoder": {"pattern": {"Regex": "(?=a){3,18446744073709551615}"}}}),
                "decoder: a regular expression",
            ),
            (
                json!({"normalizer": {"type": "Sequence", "normalizers": chain}}),
                "normalizer: its replacements make a text up to 10000000000 times as long",
            ),
            (json!({"decoder": replace(&"b".repeat(2000))}), "decoder: its replacements"),
            (
                json!({"model": {"max_input_chars_per_word": 1_000_000}}),
                "model: max_input_chars_per_word is 1000000",
            ),
        ] {
            let problem = check(&tokenizer).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
