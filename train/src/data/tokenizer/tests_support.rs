//! A small tokenizer.json for tests.

/// A byte-level BPE with one merge, "he", and the special tokens named, from id 300 on: ids have a
/// gap.
pub(crate) fn tokenizer_json(special: &[&str]) -> String {
    let mut vocab = serde_json::Map::new();
    let mut symbols: Vec<char> =
        tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    symbols.sort_unstable();
    for symbol in symbols {
        vocab.insert(symbol.to_string(), vocab.len().into());
    }
    vocab.insert("he".to_string(), vocab.len().into());
    let added: Vec<_> = special
        .iter()
        .enumerate()
        .map(|(index, name)| {
            vocab.insert(name.to_string(), (300 + index).into());
            serde_json::json!({"id": 300 + index, "content": name, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let bytes = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
    });
    serde_json::json!({
        "version": "1.0",
        "truncation":
            {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes,
        "post_processor": null,
        "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "vocab": vocab, "merges": ["h e"]}
    })
    .to_string()
}
