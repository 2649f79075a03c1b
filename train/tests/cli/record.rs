//! What a run has on disk besides weights: its record, and a checkpoint's own account of itself.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use deepseek_train::checkpoint::{Checkpoint, Purpose};
use serde_json::Value;

use crate::generate::word_tokenizer;
use crate::workplace::Workplace;

/// A file of up to so many bytes has all of its bits flipped,
const SMALL_BYTES: usize = 4096;
/// and a larger one about so many, evenly spread.
const BITS: usize = 1500;

/// The files under a folder, named from it.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            names.extend(files(&entry.path()).into_iter().map(|file| format!("{name}/{file}")));
        } else {
            names.push(name);
        }
    }
    names.sort();
    names
}

/// Changes a byte where it is. (Some file systems write a file to the disk that is emptied and filled
/// again, which takes longer than all the rest.)
fn put(path: &Path, at: usize, byte: u8) {
    let mut file = fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(&[byte]).unwrap();
}

#[test]
fn every_bit_of_a_checkpoint_that_flips_is_noticed_and_its_file_named() {
    let place = Workplace::new();
    place.train("--steps 2 --set ema.decay=0.9 --set output.sample_tokens=0 --run-dir run").ok();
    let checkpoint = place.path("run/checkpoints/step-00000002");
    let open = || Checkpoint::open(&checkpoint, Purpose::Training);
    assert_eq!(open().unwrap().position.step, 2);
    let names = files(&checkpoint);
    assert_eq!(names.len(), 12, "{names:?}");
    for name in names {
        let path = checkpoint.join(&name);
        let whole = fs::read(&path).unwrap();
        let bits = 8 * whole.len();
        // An odd stride comes to every bit of a byte.
        let stride = if whole.len() <= SMALL_BYTES { 1 } else { (bits / BITS) | 1 };
        for bit in (0..bits).step_by(stride) {
            let at = bit / 8;
            put(&path, at, whole[at] ^ (1 << (bit % 8)));
            let error = open().expect_err(&format!("{name}: bit {bit}")).to_string();
            assert!(error.contains(&name), "{name}: bit {bit}: {error}");
            put(&path, at, whole[at]);
        }
    }
    open().unwrap();
}

/// A checkpoint with another list than its files, or a file that is not of it, or another's name.
#[test]
fn what_is_not_of_a_checkpoint_is_refused() {
    let place = Workplace::trained();
    let checkpoint = "runs/tiny-001/checkpoints/step-00000006";
    let resume = "train --resume runs/tiny-001 --steps 8";
    let generate = format!("generate --checkpoint {checkpoint} --max-new-tokens 2");
    // What a later hand puts there would be read: it names tokens that end a text.
    place.write(&format!("{checkpoint}/generation_config.json"), "{\"eos_token_id\": 97}");
    for command in [resume, &generate] {
        place.run(command).failed(2, &["generation_config.json: no file of this checkpoint"]);
    }
    fs::remove_file(place.path(checkpoint).join("generation_config.json")).unwrap();
    place.write(&format!("{checkpoint}/.DS_Store"), "");
    place.run(&generate).ok();

    let state = place.path(checkpoint).join("state.json");
    let whole = fs::read_to_string(&state).unwrap();
    let body = &whole[..whole.rfind(",\n  \"crc32\"").unwrap()];
    let seal = |body: String| {
        let sum = crc32fast::hash(body.as_bytes());
        fs::write(&state, format!("{body},\n  \"crc32\": {sum}\n}}")).unwrap();
    };
    seal(body.into());
    assert_eq!(fs::read_to_string(&state).unwrap(), whole);
    let files = body.find("\"files\"").unwrap();
    let leading_out = "\"files\": {\"../../x\": {\"bytes\": 1, \"crc32\": 2},";
    for (edited, said) in [
        (format!("{}\"files\": {{}}", &body[..files]), "its list of files lacks config.json"),
        (body.replace("\"files\": {", leading_out), "it lists \"../../x\""),
        (body.replace("\"step\": 6", "\"step\": 4"), "it is of step 4, and its folder is step-0"),
    ] {
        assert_ne!(edited, body);
        seal(edited);
        for command in [resume, &generate] {
            place.run(command).failed(2, &["state.json", "damaged", said]);
        }
    }
    fs::write(&state, whole).unwrap();
    place.run(resume).ok();
}

/// A kill after the last checkpoint: what its step owes was not recorded, or in part.
#[test]
fn what_a_step_owes_is_made_once() {
    let place = Workplace::new();
    place.train("--run-dir straight").ok();
    let straight = place.record("straight");
    let kinds: Vec<&str> = straight.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    let half = ["step", "step", "step", "evaluation", "sample"];
    assert_eq!(kinds, [half, half].concat());
    let text = fs::read_to_string(place.path("straight/metrics.jsonl")).unwrap();
    let sample = text.trim_end().rfind('\n').unwrap() + 1;
    let evaluation = text[..sample - 1].rfind('\n').unwrap() + 1;
    for kept in [evaluation, evaluation + 9, sample - 1, sample, sample + 9, text.len() - 1] {
        place.copy("straight", "killed");
        place.write("killed/metrics.jsonl", &text[..kept]);
        let resumed = place.run("train --resume killed --json").ok();
        assert_eq!(place.record("killed"), straight, "{kept}");
        let before = fs::read(place.path("killed/metrics.jsonl")).unwrap();
        let again = place.run("train --resume killed --json").ok();
        assert!(again.stdout.contains("finished    "), "{}", again.dump());
        for results in [resumed.json(), again.json()] {
            assert_eq!(results["valid_loss"], straight[8]["valid_loss"]);
            assert_eq!(results["sample"], straight[9]["text"]);
        }
        assert!(fs::read(place.path("killed/metrics.jsonl")).unwrap() == before);
        place.remove("killed");
    }
}

/// What rules say of a run is the same wherever it was stopped, and is recorded once.
#[test]
fn alerts_are_raised_once() {
    let place = Workplace::new();
    let rules = "--set schedule.lr=0.5 --set alerts.window=2 --set alerts.loss_spike=0.01 --set \
                 alerts.loss_rise=0.01 --set alerts.valid_rise=1 --set \
                 alerts.dead_experts=1 --set alerts.expert_violation=0.01 --set metrics.every=1 \
                 --set train.checkpoint_every=1 --set train.keep_checkpoints=9";
    let straight = place.train(&format!("{rules} --run-dir straight --plain --json")).ok();
    let record = place.record("straight");
    let alerts: Vec<&Value> = record.iter().filter(|line| line["kind"] == "alert").collect();
    assert!(alerts.len() >= 4, "{alerts:?}");
    assert_eq!(straight.json()["alerts"].as_array().unwrap().len(), alerts.len());
    for alert in &alerts {
        let said = format!("step {}: {}", alert["step"], alert["message"].as_str().unwrap());
        assert!(straight.stdout.contains(&said), "{said}: {}", straight.dump());
    }
    for stop in 1..6 {
        place.copy("straight", "stopped");
        for step in stop + 1..=6 {
            place.remove(&format!("stopped/checkpoints/step-{step:08}"));
        }
        place.run("train --resume stopped").ok();
        assert_eq!(place.record("stopped"), record, "stopped after {stop}");
        place.remove("stopped");
    }
}

/// An evaluation that is made up has the weights of the loss of its own step, not of the next: with
/// lambda at 0 the MTP modules would not be measured.
#[test]
fn an_evaluation_that_is_made_up_is_the_same_where_the_schedule_changes() {
    let place = Workplace::new();
    let lambda = "--set schedule.mtp_lambda=[{until=\"4steps\",at=0.3},{at=0}]";
    let settings = "--set train.eval_every=2 --set train.keep_checkpoints=9 --run-dir straight";
    place.train(&format!("{lambda} {settings}")).ok();
    let straight = place.metrics("straight");
    let depths = |step: u64| {
        let line =
            straight.iter().find(|line| line["kind"] == "evaluation" && line["step"] == step);
        line.unwrap()["valid_mtp_losses"].as_array().unwrap().len()
    };
    assert_eq!([depths(2), depths(4), depths(6)], [1, 1, 0]);
    for step in [2, 4] {
        place.copy("straight", "killed");
        for later in (step + 2..=6).step_by(2) {
            place.remove(&format!("killed/checkpoints/step-{later:08}"));
        }
        // Up to the step's line: its evaluation is missing.
        let text = fs::read_to_string(place.path("straight/metrics.jsonl")).unwrap();
        let lines = text.lines().take((step + 2 * (step / 2 - 1)) as usize);
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        assert!(text.lines().last().unwrap().contains("\"kind\":\"step\""));
        place.write("killed/metrics.jsonl", text);
        place.run("train --resume killed").ok();
        assert_eq!(place.metrics("killed"), straight, "{step}");
        place.remove("killed");
    }
}

/// Damage in the record does not keep a run from going on, and nothing of it is lost.
#[test]
fn lines_that_cannot_be_read_are_set_aside() {
    let place = Workplace::trained();
    let log = place.path("runs/tiny-001/metrics.jsonl");
    let whole = fs::read(&log).unwrap();
    let mut lines: Vec<Vec<u8>> =
        whole.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    let damaged = b"{\"step\": 2, \"loss\": \xff\xfe}\n".to_vec();
    let kept: Vec<u8> = lines.concat();
    lines.insert(2, damaged.clone());
    lines.push(b"<<<<<<< garbage\n".to_vec());
    fs::write(&log, lines.concat()).unwrap();
    let resumed = place.run("train --resume runs/tiny-001").ok();
    let said = resumed.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = "set aside runs/tiny-001/metrics.jsonl: line 3 is not UTF-8, line 12 is no JSON \
                    object: now in runs/tiny-001/metrics.jsonl.set-aside";
    assert!(said.contains(expected), "{}", resumed.dump());
    assert!(fs::read(&log).unwrap() == kept);
    let aside = fs::read(place.path("runs/tiny-001/metrics.jsonl.set-aside")).unwrap();
    assert_eq!(aside, [&damaged[..], b"<<<<<<< garbage\n"].concat());
    assert!(!place.run("train --resume runs/tiny-001").ok().stdout.contains("set aside"));
}

/// The file that the tokenizer was read from may be gone, or another: the checkpoint has it.
#[test]
fn a_run_goes_on_with_the_tokenizer_of_its_checkpoint() {
    let place = Workplace::new();
    place.write("words.json", word_tokenizer(&["?", "a", "b", "user", ":"], 200));
    place.write(
        "tokenizer_config.json",
        "{\"chat_template\": \"a {{ eos_token }} b\", \"eos_token\": \"a\"}",
    );
    let talk = "{\"messages\": [{\"role\": \"user\", \"content\": \"b a\"}]}\n";
    place.write(
        "talk.jsonl",
        format!("{{\"text\": \"{}\"}}\n{talk}", "a b a b b a ".repeat(100)).repeat(9),
    );
    let settings =
        "--set data.tokenizer=words.json --data talk.jsonl --set data.split=position --steps 4";
    place.train(&format!("{settings} --run-dir straight")).ok();
    let straight = place.metrics("straight");
    let other = word_tokenizer(&["?", "b", "a", "user", ":"], 200);
    for (what, change) in [("gone", None), ("another", Some(other.as_str()))] {
        place.copy("straight", "killed");
        place.remove("killed/checkpoints/step-00000004");
        match change {
            None => fs::remove_file(place.path("words.json")).unwrap(),
            Some(text) => place.write("words.json", text),
        }
        fs::rename(place.path("tokenizer_config.json"), place.path("away")).unwrap();
        let resumed = place.run("train --resume killed").ok();
        let said = resumed.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = "words.json: not there, or not what it was; the run goes on with \
                        killed/checkpoints/step-00000002/tokenizer.json";
        assert!(said.contains(expected), "{}", resumed.dump());
        assert!(!resumed.stderr.contains("tokenizing"), "{}", resumed.dump());
        assert_eq!(place.metrics("killed"), straight, "{what}");
        let file = |run: &str, name: &str| {
            fs::read(place.path(run).join("checkpoints/step-00000004").join(name)).unwrap()
        };
        for name in ["tokenizer.json", "tokenizer_config.json", "data.json", "model.safetensors"] {
            assert!(file("killed", name) == file("straight", name), "{what}: {name}");
        }
        place.remove("killed");
        fs::rename(place.path("away"), place.path("tokenizer_config.json")).unwrap();
    }
    // Another one that was asked for is compared with what the run was begun with.
    place.write("other.json", &other);
    place
        .run("train --resume straight --steps 6 --set data.tokenizer=other.json")
        .failed(2, &["the tokenizer is another", "--allow-changed-data"]);
}

/// A share of merges that is left out at random would make a run that cannot be repeated.
#[test]
fn a_tokenizers_dropout_is_off_and_that_is_said() {
    let place = Workplace::new();
    let mut tokenizer: Value = serde_json::from_str(&word_tokenizer(&["?"], 200)).unwrap();
    tokenizer["model"] = serde_json::json!({
        "type": "BPE", "dropout": 0.5, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": false, "vocab": {"a": 0, "b": 1, "ab": 2, "abab": 3, "</s>": 200},
        "merges": [["a", "b"], ["ab", "ab"]],
    });
    place.write("dropping.json", tokenizer.to_string());
    place.write("text.txt", "abab ab ababab b ".repeat(300));
    let settings = "--set data.tokenizer=dropping.json --data text.txt --set data.split=position \
                    --steps 2 --no-cache";
    for run in ["one", "two"] {
        let said = place.train(&format!("{settings} --run-dir {run}")).ok();
        let line = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected =
            "dropping.json; its dropout of 0.5 is off: a text has the same tokens each time)";
        assert!(line.contains(expected), "{}", said.dump());
    }
    assert_eq!(place.metrics("one"), place.metrics("two"));
    let copy =
        fs::read_to_string(place.path("one/checkpoints/step-00000002/tokenizer.json")).unwrap();
    let copy: Value = serde_json::from_str(&copy).unwrap();
    assert_eq!(copy.pointer("/model/dropout"), Some(&Value::Null), "others would apply it");
}
