//! Every tokenizer that may be cut gives for the parts what it gives for the whole, and those that
//! could not are not cut.

use super::*;
use crate::data::tokenizer::tests_support::tokenizer_json;
use proptest::prelude::*;
use serde_json::json;

const DEEPSEEK: &str = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?\
    [\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn byte_level(prefix: bool, regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true,
        "use_regex": regex})
}

fn split(regex: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

fn sequence(stages: &[Value]) -> Value {
    json!({"type": "Sequence", "pretokenizers": stages})
}

/// The pre-tokenizers of published models, and how many of the six kinds of places they allow.
fn known() -> Vec<(&'static str, Value, usize)> {
    let deepseek = sequence(&[
        split(r"\p{N}{1,3}"),
        split("[一-龥぀-ゟ゠-ヿ]+"),
        split(DEEPSEEK),
        byte_level(false, false),
    ]);
    let metaspace =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true});
    vec![
        ("gpt2", byte_level(false, true), 6),
        ("gpt2, a space before", byte_level(true, true), 3),
        ("cl100k", sequence(&[split(CL100K), byte_level(false, false)]), 6),
        ("o200k", sequence(&[split(O200K), byte_level(false, false)]), 6),
        ("deepseek", deepseek, 6),
        ("metaspace", metaspace, 3),
        ("whitespace", json!({"type": "Whitespace"}), 6),
        ("bert", json!({"type": "BertPreTokenizer"}), 6),
    ]
}

fn with(pre_tokenizer: &Value, normalizer: Value) -> (Value, tokenizers::Tokenizer) {
    let mut json: Value = serde_json::from_str(&tokenizer_json(&["</s>"])).unwrap();
    json["pre_tokenizer"] = pre_tokenizer.clone();
    json["normalizer"] = normalizer;
    json["truncation"] = Value::Null;
    let tokenizer = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
    (json, tokenizer)
}

fn allowed(json: &Value) -> usize {
    match Boundaries::of(json) {
        Boundaries::Between { allowed } => allowed.iter().flatten().filter(|&&cell| cell).count(),
        Boundaries::Nowhere => 0,
        Boundaries::Everywhere => unreachable!("of bytes alone"),
    }
}

/// Texts of what the patterns care about.
fn text() -> impl Strategy<Value = String> {
    let pieces = [
        " ", " ", "  ", "\n", "\r\n", "\t", "a", "the", "He", "'s", "'S", ".", ",", "...", "1",
        "2345", "中", "文字", "か", "é", "e\u{301}", "\u{301}", "-", "_", "/", "!", "\u{a0}", "🦀",
        "<", "</s>",
    ];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..24)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Pieces rather than ids: they show every difference, and there is no vocabulary in the way.
    #[test]
    fn parts_are_pre_tokenized_as_the_whole(text in text()) {
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizer, PreTokenizedString};
        for (name, pre_tokenizer, _) in known() {
            for normalizer in [Value::Null, json!({"type": "NFKC"})] {
                let (json, tokenizer) = with(&pre_tokenizer, normalizer);
                let pieces = |text: &str| -> Vec<String> {
                    let normalized = match tokenizer.get_normalizer() {
                        None => text.to_string(),
                        Some(normalizer) => {
                            let mut string = tokenizers::NormalizedString::from(text);
                            tokenizers::Normalizer::normalize(normalizer, &mut string).unwrap();
                            string.get().to_string()
                        }
                    };
                    let mut string = PreTokenizedString::from(normalized.as_str());
                    tokenizer.get_pre_tokenizer().unwrap().pre_tokenize(&mut string).unwrap();
                    string
                        .get_splits(OffsetReferential::Normalized, OffsetType::Byte)
                        .into_iter()
                        .map(|(piece, ..)| piece.to_string())
                        .collect()
                };
                let boundaries = Boundaries::of(&json);
                let parts: Vec<&str> = boundaries.parts(&text).collect();
                prop_assert_eq!(parts.concat(), text.as_str());
                let cut: Vec<String> = parts.iter().flat_map(|part| pieces(part)).collect();
                prop_assert_eq!(cut, pieces(&text), "{}: {:?}", name, parts);
                prop_assert_eq!(
                    boundaries.last(&text, 0),
                    parts.last().map(|last| text.len() - last.len()).filter(|&place| place > 0)
                );
            }
        }
    }
}

#[test]
fn published_tokenizers_are_cut() {
    for (name, pre_tokenizer, expected) in known() {
        let (json, _) = with(&pre_tokenizer, Value::Null);
        assert_eq!(allowed(&json), expected, "{name}");
    }
    let (json, _) = with(&known()[0].1, Value::Null);
    let parts: Vec<&str> = Boundaries::of(&json).parts("Up, up\nand  文字 a.\n b").collect();
    assert_eq!(parts, ["Up, up", "\nand", "  文字", " a.\n b"]);
}

#[test]
fn what_cannot_be_proved_is_not_cut() {
    let none = |pre_tokenizer: &Value, normalizer: Value| {
        let (json, _) = with(pre_tokenizer, normalizer);
        assert_eq!(Boundaries::of(&json), Boundaries::Nowhere, "{json}");
    };
    for regex in [
        r"\w+ \w+|\s+",  // two words in one piece
        r"(?<=a)\s|\w+", // looks back
        r"\b\w+\b",      // edges
        r"\w+(?= )|\w",  // another assertion
        r"\p{N}+",       // leaves letters and blanks together
        r"\w*",          // matches nothing
        r"(\w\s)+|\w",   // crosses by repetition
    ] {
        none(&split(regex), Value::Null);
    }
    let (json, _) = with(&split(r"[^\n]+|\n"), Value::Null);
    let lines = Boundaries::Between { allowed: [[false, true]; 3] };
    assert_eq!(Boundaries::of(&json), lines, "lines are cut at their ends alone");
    let gpt2 = byte_level(false, true);
    none(&gpt2, json!({"type": "Prepend", "prepend": "▁"}));
    none(&gpt2, json!({"type": "Strip", "strip_left": true, "strip_right": true}));
    none(&json!(null), Value::Null);
    none(&byte_level(false, false), Value::Null);
    for (content, lstrip, local) in
        [("x y", false, false), ("<x>", true, false), ("  ", false, true)]
    {
        let (mut json, _) = with(&gpt2, Value::Null);
        json["added_tokens"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": 310, "content": content, "single_word": false, "lstrip": lstrip,
                "rstrip": false, "normalized": false, "special": false}));
        assert_eq!(allowed(&json) > 0, local, "{content:?}");
    }
}
