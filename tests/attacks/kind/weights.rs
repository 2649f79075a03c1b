//! A folder of weights in the form of Hugging Face: its configuration, headers, index and the files
//! of its tokens.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::prepared::{sharded, single};
use super::{Kind, words};
use crate::mutation::Form;

const GENERATION: &str = r#"{"bos_token_id": 0, "eos_token_id": [1, 256], "do_sample": true,
    "temperature": 0.6, "top_p": 0.95, "_from_model_config": true}"#;

/// The kinds.
pub fn kinds() -> Vec<Kind> {
    let kind = |name, share, form, seeds, file, furnish| Kind {
        name,
        share,
        form,
        seeds,
        file: Some(file),
        furnish,
        arguments: |place, _| words(place, "check --json --deep --checkpoint @model"),
        call: None,
    };
    type Seeds = fn(&Path) -> Result<Vec<Vec<u8>>>;
    let generation: Seeds = |prepared| {
        let written = fs::read(prepared.join("single/generation_config.json")).ok();
        Ok(written.into_iter().chain([GENERATION.into()]).collect())
    };
    vec![
        kind(
            "config-beside",
            60,
            Form::Text,
            |prepared| of(prepared, "config.json"),
            "model/config.json",
            single,
        ),
        kind("generation", 30, Form::Text, generation, "model/generation_config.json", single),
        kind(
            "tokenizer-config",
            30,
            Form::Text,
            |prepared| of(prepared, "tokenizer_config.json"),
            "model/tokenizer_config.json",
            single,
        ),
        kind(
            "tokenizer-beside",
            20,
            Form::Text,
            |prepared| of(prepared, "tokenizer.json"),
            "model/tokenizer.json",
            single,
        ),
        kind(
            "header",
            100,
            Form::Header,
            |prepared| of(prepared, "model.safetensors"),
            "model/model.safetensors",
            single,
        ),
        kind(
            "index",
            60,
            Form::Text,
            |prepared| Ok(vec![fs::read(prepared.join("sharded/model.safetensors.index.json"))?]),
            "model/model.safetensors.index.json",
            sharded,
        ),
    ]
}

/// A file of the folders with one file of weights.
fn of(prepared: &Path, name: &str) -> Result<Vec<Vec<u8>>> {
    ["single", "fp8"]
        .into_iter()
        .map(|folder| Ok(fs::read(prepared.join(folder).join(name))?))
        .collect()
}
