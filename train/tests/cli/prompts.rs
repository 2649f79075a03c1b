//! Prompts and what ends a text: special tokens, the token that begins a text, end tokens wherever
//! they are named, and models whose logits are no numbers.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bounded::Bounded;
use crate::workplace::{Finished, Workplace};

/// The model of a run over bytes in `hf`, whose special tokens have names of their own, none of
/// them put before a text by the tokenizer.
fn chat_model() -> Workplace {
    let place = Workplace::trained();
    place.run("export --checkpoint runs/tiny-001 --out hf --dtype f32").ok();
    edit(&place, "hf/tokenizer.json", |tokenizer| {
        tokenizer["post_processor"] = Value::Null;
        let names = ["<|endoftext|>", "<|im_end|>", "<|bos|>", "<|user|>"];
        for (token, name) in tokenizer["added_tokens"].as_array_mut().unwrap().iter_mut().zip(names)
        {
            token["content"] = name.into();
        }
    });
    place.write("hf/tokenizer_config.json", "{}");
    fs::remove_file(place.path("hf/generation_config.json")).unwrap();
    edit(&place, "hf/config.json", |config| {
        config["bos_token_id"] = json!(258);
        config["eos_token_id"] = json!([256, 257]);
    });
    place
}

fn edit(place: &Workplace, file: &str, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(place.path(file)).unwrap()).unwrap();
    change(&mut value);
    place.write(file, value.to_string());
}

/// What comes of a prompt, which may have spaces.
fn generate(place: &Workplace, folder: &str, prompt: &str) -> Finished {
    let mut command = place
        .command(&format!("generate --checkpoint {folder} --max-new-tokens 6 --json --prompt"));
    command.arg(prompt).stdin(Stdio::null());
    Finished::of(prompt, command.ended())
}

fn prompt_tokens(place: &Workplace, folder: &str, prompt: &str) -> Value {
    generate(place, folder, prompt).ok().json()["prompt_token_ids"].clone()
}

#[test]
fn special_tokens_of_a_prompt_are_those_tokens_and_a_text_begins_once() {
    let place = chat_model();
    for (prompt, tokens) in [
        ("<|bos|><|user|>hi", json!([258, 259, 104, 105])),
        ("<|user|>hi", json!([258, 259, 104, 105])),
        ("hi<|bos|>", json!([258, 104, 105, 258])),
        ("a <|im_end|>", json!([258, 97, 32, 257])),
        ("<|bos|>", json!([258])),
        ("", json!([258])),
    ] {
        assert_eq!(prompt_tokens(&place, "hf", prompt), tokens, "{prompt:?}");
    }
    // A run over bytes has the names that its export gives to others.
    for folder in ["runs/tiny-001", "runs/tiny-001/checkpoints/step-00000006"] {
        for (prompt, tokens) in [
            ("<｜fim▁begin｜>a<｜fim▁hole｜><｜fim▁end｜>", json!([256, 257, 97, 258, 259])),
            ("<｜end▁of▁sentence｜>a", json!([256, 97])),
            ("", json!([256])),
        ] {
            assert_eq!(prompt_tokens(&place, folder, prompt), tokens, "{prompt:?}");
        }
    }
}

/// Without a tokenizer tokens are bytes, and what begins a text is the end of another, whatever
/// `config.json` says or leaves to its defaults.
#[test]
fn a_text_of_bytes_begins_with_the_end_of_a_document() {
    let place = chat_model();
    fs::remove_file(place.path("hf/tokenizer.json")).unwrap();
    for written in [Some(json!(0)), Some(Value::Null), None] {
        edit(&place, "hf/config.json", |config| {
            let keys = config.as_object_mut().unwrap();
            keys.remove("bos_token_id");
            keys.extend(written.clone().map(|token| ("bos_token_id".to_string(), token)));
        });
        assert_eq!(prompt_tokens(&place, "hf", "a"), json!([256, 97]), "{written:?}");
    }
}

/// The tokenizer's own word on what a text begins with goes before the model's.
#[test]
fn what_begins_a_text_is_what_the_tokenizer_says() {
    let place = chat_model();
    place.write("hf/tokenizer_config.json", r#"{"add_bos_token": false}"#);
    assert_eq!(prompt_tokens(&place, "hf", "a"), json!([97]));
    assert_eq!(prompt_tokens(&place, "hf", ""), json!([256]), "a text must begin with something");
    let named = r#"{"add_bos_token": true, "bos_token": {"content": "<|user|>"}}"#;
    place.write("hf/tokenizer_config.json", named);
    assert_eq!(prompt_tokens(&place, "hf", "a"), json!([259, 97]));
    place.write("hf/tokenizer_config.json", r#"{"add_bos_token": true}"#);
    assert_eq!(prompt_tokens(&place, "hf", "a"), json!([258, 97]));
    edit(&place, "hf/tokenizer.json", |tokenizer| {
        tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}},
                {"SpecialToken": {"id": "<|user|>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "<|im_end|>": {"id": "<|im_end|>", "ids": [257], "tokens": ["<|im_end|>"]},
                "<|user|>": {"id": "<|user|>", "ids": [259], "tokens": ["<|user|>"]},
                "<|endoftext|>": {"id": "<|endoftext|>", "ids": [256], "tokens": ["<|endoftext|>"]},
            },
        });
    });
    assert_eq!(prompt_tokens(&place, "hf", "a"), json!([257, 259, 97]));
    assert_eq!(prompt_tokens(&place, "hf", "<|im_end|><|user|>a"), json!([257, 259, 97]));
}

/// The token that ends a text is the last of it, whichever of the files names it.
#[test]
fn every_end_token_ends_a_text() {
    let place = chat_model();
    // Drawn tokens differ, greedy ones of a model that was hardly trained need not.
    let drawn = |prompt: &str| {
        let arguments = format!(
            "generate --checkpoint hf --prompt {prompt} --max-new-tokens 12 --temperature 1.5 \
             --seed 4 --json"
        );
        place.run(&arguments).ok().json()
    };
    edit(&place, "hf/config.json", |config| config["eos_token_id"] = json!([299, 298]));
    let free = drawn("a");
    let tokens = free["token_ids"].as_array().unwrap().clone();
    assert_eq!((tokens.len(), &free["stopped_by"]), (12, &Value::Null));
    let at = (2..11).find(|&at| !tokens[..at].contains(&tokens[at])).unwrap();
    let ends = |what: &str| {
        let stopped = drawn("a");
        assert_eq!(stopped["token_ids"], json!(tokens[..=at]), "{what}");
        assert_eq!((&stopped["stopped_by"], &stopped["interrupted"]), (&tokens[at], &json!(false)));
    };
    let end = tokens[at].clone();
    edit(&place, "hf/config.json", |config| config["eos_token_id"] = json!([299, end]));
    ends("the second of config.json");
    for written in [json!(end), json!([298, end])] {
        edit(&place, "hf/config.json", |config| config["eos_token_id"] = json!(299));
        place.write("hf/generation_config.json", json!({"eos_token_id": written}).to_string());
        ends("generation_config.json");
    }
    edit(&place, "hf/config.json", |config| config["eos_token_id"] = Value::Null);
    ends("generation_config.json alone");
}

/// Changes the first value of a tensor of F32.
fn set(place: &Workplace, tensor: &str, value: f32) {
    let path = place.path("hf/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header_bytes = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    let range = |end: usize| header[tensor]["data_offsets"][end].as_u64().unwrap() as usize;
    let data = &mut bytes[8 + header_bytes..][range(0)..range(1)];
    data.as_chunks_mut::<4>().0.iter_mut().for_each(|bytes| *bytes = value.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

/// No text is made of what is no number: it is said where that begins, and whose fault it is.
#[test]
fn logits_that_are_not_finite_name_where_they_begin() {
    let place = chat_model();
    place.write("text.txt", "what is measured");
    let commands = [
        "generate --checkpoint hf --prompt a --max-new-tokens 9",
        "generate --checkpoint hf --prompt a --max-new-tokens 9 --speculative --temperature 1",
        "eval --checkpoint hf --data text.txt",
    ];
    set(&place, "model.layers.0.mlp.down_proj.weight", 3e38);
    set(&place, "model.layers.0.mlp.up_proj.weight", 1e30);
    for command in commands {
        place.run(command).failed(3, &["layer 0 (model.layers.0.mlp)", "overflow"]);
    }
    // What is no number itself is refused before that.
    set(&place, "model.layers.0.mlp.down_proj.weight", f32::NAN);
    for command in commands {
        place.run(command).failed(2, &["model.layers.0.mlp.down_proj.weight", "NaN"]);
    }
}
