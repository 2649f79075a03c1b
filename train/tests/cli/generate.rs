//! What `generate` continues: checkpoints in every form, averages of weights, Hugging Face folders.

use serde_json::Value;

use crate::workplace::{Workplace, number};

#[test]
fn generate_continues_a_prompt_in_every_form() {
    let place = Workplace::trained();
    let generate = |more: &str| {
        place
            .run(&format!("generate --checkpoint runs/tiny-001 --max-new-tokens 12 --json {more}"))
            .ok()
    };
    let plain = generate("--prompt the");
    let results = plain.json();
    assert_eq!(results["prompt_tokens"], 4, "the end of a document, then three bytes");
    assert!(
        plain.stdout.starts_with(&format!("the{}", results["text"].as_str().unwrap())),
        "{}",
        plain.dump()
    );
    assert!(number(&results, "prefill_tokens_per_second") > 0.0);
    assert_eq!(results["acceptance_rate"], Value::Null);
    for form in ["--naive", "--absorbed", "--speculative", "--speculative --naive"] {
        let other = generate(&format!("--prompt the {form}")).json();
        assert_eq!(other["token_ids"], results["token_ids"], "{form}");
    }
    let speculative = generate("--prompt the --speculative");
    let drafted = number(&speculative.json(), "drafted");
    assert!(
        drafted > 0.0 && speculative.stderr.contains("drafts accepted"),
        "{}",
        speculative.dump()
    );
    assert_eq!(generate("").json()["prompt_tokens"], 1);
    let draws = generate("--temperature 1.5 --top-p 0.9 --seed 5").json();
    assert_eq!(
        draws["token_ids"],
        generate("--temperature 1.5 --top-p 0.9 --seed 5").json()["token_ids"]
    );
    assert_ne!(
        draws["token_ids"],
        generate("--temperature 1.5 --top-p 0.9 --seed 6").json()["token_ids"]
    );
    assert_eq!(generate("--prompt caf\u{e9}").json()["prompt_tokens"], 6);
}

/// Another model than the weights, by eval, by generate, and as the Hugging Face folder that it is.
#[test]
fn the_average_of_the_weights_is_a_model() {
    let place = Workplace::new();
    place.train("--set ema.decay=0.5").ok();
    let eval =
        |more: &str| place.run(&format!("eval --checkpoint runs/tiny-001 --json {more}")).ok();
    let (weights, average) = (eval("").json(), eval("--ema"));
    assert!(average.stdout.contains("the average of the weights"), "{}", average.dump());
    let average = average.json();
    assert_eq!((&weights["ema"], &average["ema"]), (&false.into(), &true.into()));
    assert_ne!(weights["loss"], average["loss"]);
    assert!(
        (number(&weights, "loss") - number(&average, "loss")).abs() < 0.5,
        "{weights} {average}"
    );
    let generate = |folder: &str, more: &str| {
        let arguments = format!(
            "generate --checkpoint {folder} --prompt a --max-new-tokens 6 --temperature 2 --json \
             {more}"
        );
        place.run(&arguments).ok().json()
    };
    let folder = "runs/tiny-001/checkpoints/step-00000006/ema";
    assert_eq!(generate("runs/tiny-001", "--ema")["token_ids"], generate(folder, "")["token_ids"]);
    let finished = place.run(&format!("generate --checkpoint {folder} --ema"));
    finished.failed(2, &["--ema needs a run's checkpoint"]);
    place.train("").ok();
    for command in ["eval", "generate"] {
        place
            .run(&format!("{command} --checkpoint runs/tiny-002 --ema"))
            .failed(2, &["no average", "ema.decay"]);
    }
}

/// A checkpoint without our own files is a Hugging Face folder, and a model of 260 tokens one over
/// bytes.
#[test]
fn generate_takes_hugging_face_folders() {
    let place = Workplace::trained();
    place.copy("runs/tiny-001/checkpoints/step-00000006", "hf");
    let ours_alone = ["state.json", "run.toml", "optimizer.safetensors"];
    for file in ours_alone.iter().chain(&["tokenizer.json", "tokenizer_config.json"]) {
        std::fs::remove_file(place.path("hf").join(file)).unwrap();
    }
    let generate = |folder: &str| {
        place
            .run(&format!("generate --checkpoint {folder} --prompt a --max-new-tokens 6 --json"))
            .ok()
            .json()
    };
    let ours = generate("runs/tiny-001");
    assert_eq!(generate("hf")["token_ids"], ours["token_ids"]);
    place.write("hf/tokenizer.json", word_tokenizer(&["a", "b"], 256));
    let words = generate("hf");
    assert_eq!(words["prompt_tokens"], 2, "config.json says what a text begins with");
    let empty = place.run("generate --checkpoint hf --max-new-tokens 2 --json").ok().json();
    assert_eq!(empty["prompt_tokens"], 1, "the end of a document");
}

/// A tokenizer of whole words, from id 0, whose `</s>` has the given id.
pub fn word_tokenizer(words: &[&str], eod: u32) -> String {
    let mut vocab: serde_json::Map<String, Value> =
        words.iter().zip(0..).map(|(word, id)| (word.to_string(), Value::from(id))).collect();
    vocab.insert("</s>".into(), eod.into());
    let special = serde_json::json!({"id": eod, "content": "</s>", "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    serde_json::json!({"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": words[0]}})
    .to_string()
}
