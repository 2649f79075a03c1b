//! Tokenizers of every model, with normalizers, cutters, decoders and processors of every type.

use std::path::Path;

use anyhow::Result;
use deepseek_train::data::{Tokenizer, TokenizerFiles};
use deepseek_train::failure::line_of;
use serde_json::{Map, Value, json};

use super::{Kind, words};
use crate::mutation::Form;
use crate::program::TINY;

/// What is tokenized.
const TEXTS: [&str; 6] = [
    "",
    "he heard the river, 1234567 times",
    "  caf\u{e9} \u{1f600}\u{200d}\u{1f525}\r\n\t</s> <unk> \u{2581}\u{ff21}",
    "\u{0}\u{7f}\u{feff}\u{fffd}\u{10ffff}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u{4f60}\u{597d}\u{4e16}\u{754c} \u{627}\u{644}\u{639}\u{631}\u{628}\u{64a}\u{629}",
];

/// The kind.
pub fn kinds() -> Vec<Kind> {
    vec![Kind {
        name: "tokenizer",
        share: 120,
        form: Form::Text,
        seeds: |_| Ok(seeds()),
        file: Some("tokenizer.json"),
        furnish: |_, place| {
            std::fs::write(place.join("tiny.toml"), TINY)?;
            Ok(std::fs::write(
                place.join("text.txt"),
                TEXTS.join(" ").replace('\0', "").repeat(20),
            )?)
        },
        arguments: |place, _| {
            words(
                place,
                "train --config @tiny.toml --steps 1 --run-dir @run --data @text.txt --set \
                 model.vocab_size=1000 --set data.tokenizer=tokenizer.json",
            )
        },
        call: Some(used),
    }]
}

/// Reads the file, and uses what it says.
fn used(place: &Path) -> Option<String> {
    let tried = || -> Result<(), deepseek_train::data::DataError> {
        let tokenizer = Tokenizer::from_file(&place.join("tokenizer.json"), None)?;
        let vocab_size = tokenizer.vocab_size();
        tokenizer.check_vocab_size(100_000_000)?;
        let _ = (tokenizer.fim(), tokenizer.lead());
        let ids: Vec<u32> = (0..400).chain([u32::MAX, vocab_size as u32]).collect();
        tokenizer.decode(&ids)?;
        let mut stream = tokenizer.stream();
        for &id in &ids[..40] {
            stream.push(id)?;
        }
        stream.finish()?;
        for text in TEXTS {
            let encoded = tokenizer.encode(text)?;
            tokenizer.decode(&encoded)?;
            tokenizer.encode_prompt(text)?;
        }
        TokenizerFiles::of_run(&tokenizer, vocab_size).map(drop)
    };
    tried().err().map(|error| line_of(&error.into()))
}

/// One tokenizer of each model, and of it one with each part.
fn seeds() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for model in models() {
        found.push(tokenizer(&model, [Value::Null, Value::Null, Value::Null, Value::Null]));
    }
    let models = models();
    for (index, parts) in parts().into_iter().enumerate() {
        found.push(tokenizer(&models[index % models.len()], parts));
    }
    found
}

fn tokenizer(model: &Value, parts: [Value; 4]) -> Vec<u8> {
    let [normalizer, pre_tokenizer, post_processor, decoder] = parts;
    let special = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": special})
    };
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"},
        "added_tokens": [special(300, "</s>", true), special(301, "<s>", true), special(302, "river", false)],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor, "decoder": decoder, "model": model
    })
    .to_string()
    .into_bytes()
}

fn models() -> Vec<Value> {
    let numbered = |words: &[&str]| -> Map<String, Value> {
        words.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), Value::from(id))).collect()
    };
    let letters =
        ["<unk>", "h", "e", "he", "r", "a", "d", " ", "t", "the", "\u{2581}", "\u{c3}", "\u{a9}"];
    let bytes: Vec<String> = ["<unk>", "h", "e", "he"]
        .iter()
        .map(ToString::to_string)
        .chain((0..256).map(|byte| format!("<0x{byte:02X}>")))
        .collect();
    let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
    vec![
        json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": false,
            "vocab": numbered(&letters), "merges": ["h e"]}),
        json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": true, "ignore_merges": true,
            "vocab": numbered(&bytes), "merges": [["h", "e"]]}),
        json!({"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": numbered(&["<unk>", "he", "##ard", "the", "##r", "river", "1"])}),
        json!({"type": "Unigram", "unk_id": 0, "byte_fallback": false,
            "vocab": [["<unk>", 0.0], ["\u{2581}", -2.5], ["he", -3.0], ["h", -4.5], ["e", -4.0], ["the", -1.0], ["aa", -2.0]]}),
        json!({"type": "WordLevel", "unk_token": "<unk>", "vocab": numbered(&["<unk>", "he", "heard", "the", ","])}),
    ]
}

/// Normalizers, cutters, processors and decoders together.
fn parts() -> Vec<[Value; 4]> {
    // A table of replacements that has none: its length, a trie of zeros, an empty text.
    let charsmap = format!("AAQA{}", "AAAA".repeat(342));
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let metaspace = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
    let template = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [301], "tokens": ["<s>"]}}});
    let split = |pattern: Value, behavior: &str| json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": false});
    let cutter = "\\p{N}{1,3}|[^\\s\\p{L}\\p{N}]?\\p{L}+|\\s+(?!\\S)|\\s+";
    vec![
        [Value::Null, byte_level.clone(), byte_level.clone(), byte_level.clone()],
        [
            json!({"type": "Precompiled", "precompiled_charsmap": charsmap}),
            metaspace.clone(),
            template.clone(),
            metaspace.clone(),
        ],
        [
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}),
            json!({"type": "BertPreTokenizer"}),
            json!({"type": "BertProcessing", "sep": ["</s>", 300], "cls": ["<s>", 301]}),
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        ],
        [
            json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Prepend", "prepend": "\u{2581}"},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u{2581}"},
                {"type": "Replace", "pattern": {"String": "he"}, "content": ""}]}),
            json!({"type": "Sequence", "pretokenizers": [split(json!({"Regex": cutter}), "Isolated"), byte_level.clone()]}),
            json!({"type": "Sequence", "processors": [byte_level.clone(), template]}),
            json!({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
        ],
        [
            json!({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
                {"type": "Strip", "strip_left": true, "strip_right": true}, {"type": "Nmt"}]}),
            json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true},
                {"type": "Punctuation", "behavior": "MergedWithPrevious"}, {"type": "WhitespaceSplit"}]}),
            json!({"type": "RobertaProcessing", "sep": ["</s>", 300], "cls": ["<s>", 301], "trim_offsets": true, "add_prefix_space": true}),
            json!({"type": "CTC", "pad_token": "<unk>", "word_delimiter_token": "|", "cleanup": true}),
        ],
        [
            json!({"type": "NFC"}),
            json!({"type": "CharDelimiterSplit", "delimiter": "|"}),
            Value::Null,
            json!({"type": "BPEDecoder", "suffix": "</w>"}),
        ],
        [
            json!({"type": "ByteLevel"}),
            json!({"type": "UnicodeScripts"}),
            Value::Null,
            json!({"type": "Fuse"}),
        ],
        [
            json!({"type": "NFKD"}),
            json!({"type": "FixedLength", "length": 3}),
            Value::Null,
            json!({"type": "ByteFallback"}),
        ],
        [Value::Null, split(json!({"String": " "}), "Removed"), Value::Null, Value::Null],
        [Value::Null, json!({"type": "Whitespace"}), Value::Null, byte_level],
    ]
}
