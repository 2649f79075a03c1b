//! What a `tokenizer.json` may not ask for: memory or time that has nothing to do with its length.
//!
//! The tokenizers library takes what the file says for granted. Seven things in it are numbers or
//! texts whose cost is not their own length: the size that a `Precompiled` map claims, regular
//! expressions (each part costs a thousand times its length, and is there as often as it is
//! counted), replacements that lengthen the text one after the other, a template that repeats it,
//! the length of words that are looked at from every letter on, that of added tokens (an automaton
//! takes its square), and that of a `Unigram` model's pieces (a tree is as deep).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Of all patterns together, length times the product of counted repetitions at most. Published
/// ones have a few hundred characters and `{1,3}` once or twice.
const MOST_PATTERN: u64 = 1 << 13;
/// How many times longer normalizers, or decoders, may make a text, one after the other.
const MOST_GROWTH: usize = 1 << 8;
/// Letters of a word that is looked up piece by piece, and bytes of an added token or of a piece of
/// a `Unigram` model, which the library goes down byte by byte, a call in a call.
const MOST_WORD: u64 = 1 << 10;

/// What is wrong with a tokenizer's file, if anything is.
///
/// # Errors
///
/// The first thing in it that asks for too much, with the key.
pub(super) fn check(tokenizer: &Value) -> Result<(), String> {
    for token in tokenizer["added_tokens"].as_array().into_iter().flatten() {
        let bytes = token["content"].as_str().map_or(0, str::len) as u64;
        if bytes > MOST_WORD {
            return Err(format!(
                "added_tokens has a token of {bytes} bytes; the most is {MOST_WORD}"
            ));
        }
    }
    for piece in tokenizer["model"]["vocab"].as_array().into_iter().flatten() {
        let bytes = piece[0].as_str().map_or(0, str::len) as u64;
        if bytes > MOST_WORD {
            return Err(format!(
                "model: vocab has a piece of {bytes} bytes; the most is {MOST_WORD}"
            ));
        }
    }
    let mut patterns = 0;
    for key in ["normalizer", "pre_tokenizer", "post_processor", "decoder", "model"] {
        check_part(&tokenizer[key], key, &mut patterns)?;
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
fn check_part(part: &Value, key: &str, patterns: &mut u64) -> Result<(), String> {
    match part {
        Value::Array(parts) => parts.iter().try_for_each(|part| check_part(part, key, patterns)),
        Value::Object(map) => {
            check_object(map, patterns).map_err(|problem| format!("{key}: {problem}"))?;
            let deeper =
                map.iter().filter(|(name, _)| !matches!(name.as_str(), "vocab" | "merges"));
            deeper.map(|(_, part)| part).try_for_each(|part| check_part(part, key, patterns))
        }
        _ => Ok(()),
    }
}

fn check_object(map: &Map<String, Value>, patterns: &mut u64) -> Result<(), String> {
    if let Some(Value::String(pattern)) = map.get("Regex") {
        *patterns = patterns.saturating_add(parts_of(pattern));
        if *patterns > MOST_PATTERN {
            return Err(format!(
                "regular expressions with their repetitions written out have up to {patterns} \
                 parts; the most is {MOST_PATTERN}"
            ));
        }
    }
    if let Some(Value::Array(single)) = map.get("single") {
        let texts = single.iter().filter(|piece| piece.get("Sequence").is_some()).count();
        if texts > 1 {
            return Err(format!("single has the text {texts} times; it must be there once"));
        }
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

/// How many parts a pattern is compiled to at most: a repetition `{n}` of a part is n parts, and so
/// in each other.
fn parts_of(pattern: &str) -> u64 {
    let counts = pattern.split('{').skip(1).filter_map(|rest| {
        let inside = rest.split_once('}')?.0;
        inside.split(',').filter_map(|count| count.trim().parse::<u64>().ok()).max()
    });
    counts.fold(pattern.len() as u64, |all, count| all.saturating_mul(count.max(1)))
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
        Some("Replace") => {
            let content = part["content"].as_str().map_or(0, str::len);
            match part["pattern"]["String"].as_str() {
                Some(pattern) if !pattern.is_empty() => content.div_ceil(pattern.len()).max(1),
                // What matches nothing, too, may match between any two letters.
                _ => content + 1,
            }
        }
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
        let words = r"[^\r\n\p{L}\p{N}]?\p{Lu}{2,}|\s+(?!\S)|\s+|[^\s\p{L}\p{N}]+".repeat(3);
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
                json!({"pre_tokenizer": {"pattern": {"Regex": r"(?=\pL)".repeat(4000)}}}),
                "have up to 28000 parts",
            ),
            (
                json!({"pre_tokenizer": vec![json!({"Regex": "a".repeat(5000)}); 2]}),
                "have up to 10000 parts",
            ),
            (
                json!({"normalizer": {"type": "Sequence", "normalizers": vec![
                    json!({"type": "Replace", "pattern": {"String": ""}, "content": "yy"}); 9]}}),
                "up to 19683 times as long",
            ),
            (
                json!({"post_processor": {"single": vec![json!({"Sequence": {"id": "A"}}); 3]}}),
                "post_processor: single has the text 3 times",
            ),
            (
                json!({"normalizer": {"type": "Sequence", "normalizers": [
                    {"type": "Precompiled", "precompiled_charsmap": "AAA"}]}}),
                "is not Base64",
            ),
            (
                json!({"pre_tokenizer": {"pattern": {"Regex": "(?:(?=a){1000}){1000}"}}}),
                "pre_tokenizer: regular expressions",
            ),
            (
                json!({"decoder": {"pattern": {"Regex": "(?=a){3,18446744073709551615}"}}}),
                "decoder: regular expressions",
            ),
            (
                json!({"normalizer": {"type": "Sequence", "normalizers": chain}}),
                "normalizer: its replacements make a text up to 10000000000 times as long",
            ),
            (json!({"decoder": replace(&"b".repeat(2000))}), "decoder: its replacements"),
            (
                json!({"added_tokens": [{"content": "a"}, {"content": "b".repeat(2000)}]}),
                "added_tokens has a token of 2000 bytes",
            ),
            (
                json!({"model": {"vocab": [["a", 0.0], ["b".repeat(200_000), -1.0]]}}),
                "model: vocab has a piece of 200000 bytes",
            ),
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
