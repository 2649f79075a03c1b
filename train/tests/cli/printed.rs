//! What is printed cannot make a terminal do anything: names and values that others wrote come with
//! their control characters written out.

use serde_json::json;

use crate::bounded::Bounded;
use crate::workplace::{Finished, Workplace};

/// Clears the screen, sets the title, turns the direction of writing.
const EVIL: &str = "\u{1b}[2J\u{1b}]0;mine\u{7}\u{9b}31m\u{202e}evil\r";

impl Finished {
    fn is_visible(&self) {
        for letter in self.stdout.chars().chain(self.stderr.chars()) {
            let obeyed = letter.is_control() && !matches!(letter, '\n' | '\t');
            assert!(!obeyed && letter != '\u{202e}', "{letter:?} in {}", self.dump());
        }
    }
}

/// A safetensors file with a single number.
fn weights(name: &str) -> Vec<u8> {
    let header = json!({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat()
}

#[test]
fn names_and_values_of_others_are_written_out() {
    let place = Workplace::trained();
    place.run("export --checkpoint runs/tiny-001 --out hf").ok();
    let evil = serde_json::to_string(EVIL).unwrap();
    place.write("hf/model.safetensors", weights(&format!("model.{EVIL}.weight")));
    place.write("key.toml", "[model]\npreset = \"tiny\"\n\"\\u001b[2J\\u009b\\u202E\" = 1\n");
    place.write("value.toml", "[model]\npreset = \"\\u001b[2J\\u009b\\u202E\"\n");
    place.write("type.json", format!("{{\"model_type\": {evil}}}"));
    place.write("bad.jsonl", format!("{{{evil}: 1}}\n"));
    place.write("tokenizer.json", format!("{{\"model\": {{\"type\": {evil}}}}}"));
    for command in [
        "generate --checkpoint hf --prompt a",
        "generate --checkpoint hf --prompt a --json",
        "check --checkpoint hf",
        "check --checkpoint hf --json",
        "export --checkpoint hf --out new",
        "check --config ./key.toml",
        "check --config ./value.toml --json",
        "check --hugging-face type.json",
        "train --config ./tiny.toml --run-dir new --data bad.jsonl",
        "train --config ./tiny.toml --run-dir new --set data.tokenizer=tokenizer.json --json",
    ] {
        let finished = place.run(command);
        assert_eq!(finished.code, Some(2), "{}", finished.dump());
        finished.is_visible();
    }
}

/// Names of files and what is typed on the command line, for a name may come from a pattern.
#[cfg(unix)]
#[test]
fn names_of_files_are_written_out() {
    let place = Workplace::trained();
    let name = "a\u{1b}[2J\u{202e}b";
    place.write(&format!("{name}.txt"), "the river stone goes home. ".repeat(200));
    for (arguments, code) in [
        (vec!["check", "--config", "\u{1b}[2J.toml"], 2),
        (vec!["\u{1b}[2J"], 2),
        (vec!["train", "--steps", "\u{1b}[2J\u{202e}"], 2),
        (vec!["plan", "schedule", "--\u{1b}[2J\u{9b}"], 2),
        (vec!["check", "--set", "model.\u{1b}[2J=1"], 2),
    ] {
        let mut command = place.command("");
        let output = command.args(&arguments).ended();
        let finished = Finished::of(&format!("{arguments:?}"), output);
        assert_eq!(finished.code, Some(code), "{}", finished.dump());
        finished.is_visible();
    }
    let mut command = place.command("eval --checkpoint runs/tiny-001 --json --data");
    let output = command.arg(format!("{name}.txt")).ended();
    let finished = Finished::of("eval", output).ok();
    finished.is_visible();
}
