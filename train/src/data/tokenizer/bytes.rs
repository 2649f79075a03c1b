//! The tokenizer of bytes: its special tokens by name, and the `tokenizer.json` that gives other
//! programs the same ids.

use serde_json::{Map, Value, json};

use super::hugging_face::{EOD_NAMES, FIM_NAMES};
use super::{BYTES_EOD, BYTES_VOCAB_SIZE};

/// Different bytes; their ids are followed by those of the special tokens.
const BYTES: usize = 256;

/// The special tokens in the order of their ids, which begin with [`BYTES_EOD`]: DeepSeek's names.
pub(super) const SPECIAL: [&str; 4] =
    [EOD_NAMES[0], FIM_NAMES[0][0], FIM_NAMES[0][1], FIM_NAMES[0][2]];

/// Encodes text in which special tokens may be spelled out.
pub(super) fn encode_prompt(text: &str) -> Vec<u32> {
    let mut ids = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        let next = (BYTES_EOD..)
            .zip(SPECIAL)
            .filter_map(|(id, name)| Some((rest.find(name)?, id, name)))
            .min();
        let Some((at, id, name)) = next else { break };
        ids.extend(rest[..at].bytes().map(u32::from));
        ids.push(id);
        rest = &rest[at + name.len()..];
    }
    ids.extend(rest.bytes().map(u32::from));
    ids
}

/// A `tokenizer.json` with the ids of bytes, and of the special tokens that a model of `vocab_size`
/// has. Texts begin as those of a run do, with the end of a document.
pub(super) fn tokenizer_json(vocab_size: usize) -> Value {
    let vocab: Map<String, Value> = byte_characters().zip(0u32..).map(entry).collect();
    let special =
        (BYTES_EOD..).zip(SPECIAL).take(vocab_size.min(BYTES_VOCAB_SIZE).saturating_sub(BYTES));
    let added: Vec<Value> = special
        .map(|(id, name)| {
            json!({
                "id": id, "content": name, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        })
        .collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
    });
    let post_processor =
        if added.is_empty() { Value::Null } else { begins_with(SPECIAL[0], BYTES_EOD) };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": post_processor,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocab, "merges": [],
        },
    })
}

fn entry((character, id): (char, u32)) -> (String, Value) {
    (character.to_string(), id.into())
}

/// The character that stands for each byte in a byte-level vocabulary: itself where it is printable,
/// else the next one from U+0100 on.
fn byte_characters() -> impl Iterator<Item = char> {
    let mut unprintable = '\u{100}'..;
    (0u8..=255).map(move |byte| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        _ => unprintable.next().unwrap_or_default(),
    })
}

/// The part of a `tokenizer.json` that begins every text with one token.
pub(super) fn begins_with(token: &str, id: u32) -> Value {
    let first = json!({"SpecialToken": {"id": token, "type_id": 0}});
    let sequence = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing",
        "single": [first, sequence("A", 0)],
        "pair": [first, sequence("A", 0), sequence("B", 1)],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokenizer::Tokenizer;
    use proptest::prelude::*;

    fn written(vocab_size: usize) -> Tokenizer {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, tokenizer_json(vocab_size).to_string()).unwrap();
        Tokenizer::of_model(&path, None, &[]).unwrap()
    }

    proptest! {
        #[test]
        fn the_file_has_the_ids_of_bytes(text in "\\PC{0,40}") {
            let file = written(260);
            prop_assert_eq!(file.encode(&text).unwrap(), Tokenizer::Bytes.encode(&text).unwrap());
        }
    }

    #[test]
    fn the_file_has_every_byte_and_the_special_tokens() {
        let file = written(260);
        let every_byte: Vec<u32> = (0..256).collect();
        let alphabet: String = byte_characters().collect();
        assert_eq!(alphabet.chars().count(), 256);
        assert_eq!(file.vocab_size(), 260);
        assert_eq!((file.eod(), file.fim().unwrap()), (256, Tokenizer::Bytes.fim().unwrap()));
        assert_eq!(
            file.decode(&every_byte).unwrap(),
            Tokenizer::Bytes.decode(&every_byte).unwrap()
        );
        let text = "a\0\u{7f}\r\n\u{1F980} <｜fim▁hole｜>b";
        for tokenizer in [&file, &Tokenizer::Bytes] {
            let ids = tokenizer.encode_prompt(text).unwrap();
            assert_eq!(ids[ids.len() - 2..], [258, 98]);
            assert_eq!(ids.len(), 5 + 4 + 1 + 2);
            assert!(tokenizer.encode(text).unwrap().iter().all(|&id| id < 256));
        }
        assert_eq!(file.lead(), [256]);
    }

    #[test]
    fn special_tokens_are_found_wherever_they_stand() {
        let [eod, begin, hole, end] = SPECIAL;
        let text = format!("{eod}{begin}a{hole}{hole}b{end}<｜fim▁");
        let ids = encode_prompt(&text);
        assert_eq!(ids[..8], [256, 257, 97, 258, 258, 98, 259, u32::from(b'<')]);
        assert_eq!(ids.len(), 7 + "<｜fim▁".len());
        assert!(encode_prompt("").is_empty());
    }

    #[test]
    fn a_smaller_vocabulary_has_fewer_special_tokens() {
        assert_eq!(tokenizer_json(257)["added_tokens"].as_array().unwrap().len(), 1);
        let plain = tokenizer_json(256);
        assert_eq!((&plain["added_tokens"], &plain["post_processor"]), (&json!([]), &Value::Null));
    }
}
