//! Checkpoints that something happened to: exit code 3, the file named, and the others still
//! usable.

use std::fs;

use crate::workplace::Workplace;

const NEWEST: &str = "runs/tiny-001/checkpoints/step-00000006";
const FILES: [&str; 9] = [
    "config.json",
    "data.json",
    "ema/model.safetensors",
    "model.safetensors",
    "optimizer.safetensors",
    "run.toml",
    "state.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Whether a command is one that a file is not read for.
fn is_spared(file: &str, command: &str) -> bool {
    let of_training = file == "optimizer.safetensors" || file.starts_with("ema/");
    of_training && !command.starts_with("train")
}

/// Does something to each file in turn and looks at what every command says of it.
fn each_file_is_named(damage: impl Fn(&std::path::Path), said: &str) {
    let place = Workplace::new();
    place.train("--set ema.decay=0.9").ok();
    for file in FILES {
        let path = place.path(NEWEST).join(file);
        let whole = fs::read(&path).unwrap();
        damage(&path);
        for command in [
            "train --resume runs/tiny-001 --steps 8",
            "eval --checkpoint runs/tiny-001",
            "generate --checkpoint runs/tiny-001 --max-new-tokens 9",
        ] {
            let finished = place.run(command);
            if is_spared(file, command) {
                finished.ok();
                continue;
            }
            finished.failed(2, &[&format!("step-00000006/{file}"), "damaged"]);
            assert!(file == "state.json" || finished.stderr.contains(said), "{}", finished.dump());
        }
        fs::write(&path, whole).unwrap();
    }
    place.run("eval --checkpoint runs/tiny-001 --batches 1").ok();
}

#[test]
fn a_file_that_was_cut_off() {
    each_file_is_named(
        |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        "bytes instead of",
    );
}

#[test]
fn a_byte_that_changed() {
    each_file_is_named(
        |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            fs::write(path, bytes).unwrap();
        },
        "checksum differs",
    );
}

/// Another version's checkpoint is no damaged one: it is said which format it has.
#[test]
fn a_checkpoint_of_another_format() {
    let place = Workplace::trained();
    let path = place.path(NEWEST).join("state.json");
    let state = fs::read_to_string(&path).unwrap();
    let body = &state[..state.rfind(",\n  \"crc32\"").unwrap()];
    assert!(body.contains("\"format\": 4,"), "{state}");
    let first = format!("{}\n}}", body.replace("\"format\": 4,", ""));
    let later = body.replace("\"format\": 4,", "\"format\": 77, \"more\": 1,");
    let later = format!("{later},\n  \"crc32\": {}\n}}", crc32fast::hash(later.as_bytes()));
    for (other, found) in [(first, "format 1"), (later, "format 77")] {
        fs::write(&path, other).unwrap();
        for command in [
            "train --resume runs/tiny-001",
            "eval --checkpoint runs/tiny-001",
            "generate --checkpoint runs/tiny-001 --max-new-tokens 9",
        ] {
            place.run(command).failed(2, &["state.json", found, "reads format 4"]);
        }
    }
}

#[test]
fn a_file_that_is_gone() {
    let place = Workplace::trained();
    fs::remove_file(place.path(NEWEST).join("optimizer.safetensors")).unwrap();
    place
        .run("train --resume runs/tiny-001 --steps 8")
        .failed(2, &["optimizer.safetensors", "missing"]);
    // An older checkpoint of the run, as the message of a damaged one advises.
    let results =
        place.run("train --resume runs/tiny-001/checkpoints/step-00000004 --json").ok().json();
    assert_eq!(results["steps"], 6);
}

/// A damaged Hugging Face folder has no list of sums; its tensors do not fit then.
#[test]
fn a_hugging_face_file_that_was_cut_off() {
    let place = Workplace::trained();
    place.copy(NEWEST, "hf");
    fs::remove_file(place.path("hf/state.json")).unwrap();
    let path = place.path("hf/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    place.run("generate --checkpoint hf").failed(2, &["hf/model.safetensors", "damaged"]);
    fs::write(&path, &bytes[..20]).unwrap();
    place.run("generate --checkpoint hf").failed(2, &["hf/model.safetensors"]);
}

/// The last good checkpoint is kept when the loss is no number any more.
#[test]
fn a_training_that_diverges() {
    let place = Workplace::new();
    let finished = place.train("--set schedule.lr=1e30 --set train.checkpoint_every=1");
    finished.failed(3, &["diverged", "schedule.lr"]);
    let kept = place.names("runs/tiny-001/checkpoints");
    assert!(!kept.is_empty() && kept.iter().all(|name| name.starts_with("step-")), "{kept:?}");
}
