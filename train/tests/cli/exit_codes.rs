//! One rule for all commands: 2 for what was given, wherever it is met; 3 for what failed while it
//! ran; each tells programs the same.

use crate::workplace::Workplace;

/// Commands that come to their end in a workplace with a run and a folder `hf`.
const GOOD: [&str; 10] = [
    "train --config ./tiny.toml --steps 1 --run-dir once",
    "eval --checkpoint runs/tiny-001 --batches 1",
    "generate --checkpoint runs/tiny-001 --prompt a --max-new-tokens 2",
    "export --checkpoint runs/tiny-001 --out exported",
    "check",
    "check --checkpoint hf",
    "plan schedule --ranks 4 --chunks 8",
    "plan cluster",
    "plan experts --loads runs/tiny-001 --replicas 4 --gpus 2",
    "bench kernels --only fprop --reps 1 --warmup 0 --device flex",
];

#[test]
fn what_was_given_is_2_wherever_it_is_met() {
    let place = Workplace::trained();
    place.run("export --checkpoint runs/tiny-001 --out hf").ok();
    place.write("junk", [0xff; 300]);
    place.write("text.txt", "the river stone goes home. ".repeat(100));
    for folder in ["cut", "long", "foreign", "other", "nothing"] {
        place.copy("hf", folder);
    }
    let whole = std::fs::read(place.path("hf/model.safetensors")).unwrap();
    place.write("cut/model.safetensors", &whole[..whole.len() - 1]);
    place.write("long/model.safetensors", [&whole[..], &[0]].concat());
    place.write("foreign/model.safetensors", [0xff; 300]);
    place.write("other/config.json", "{\"model_type\": \"llama\"}");
    std::fs::remove_file(place.path("nothing/model.safetensors")).unwrap();
    let folders = ["absent", "junk", "cut", "long", "foreign", "other", "nothing"];
    for folder in folders {
        for command in [
            format!("eval --checkpoint {folder} --data text.txt"),
            format!("generate --checkpoint {folder} --prompt a"),
            format!("export --checkpoint {folder} --out new"),
            format!("check --checkpoint {folder}"),
            format!("check --checkpoint {folder} --deep"),
        ] {
            place.run(&command).failed(2, &[]);
        }
        // Of a folder to begin with the weights alone count.
        let begin = "train --config ./tiny.toml --run-dir new --set train.init_from=";
        if folder != "other" {
            place.run(&format!("{begin}{folder}")).failed(2, &[folder]);
        }
    }
    for command in [
        "train --config none.toml",
        "train --config ./tiny.toml --run-dir new --data none",
        "train --config ./tiny.toml --run-dir new --data junk",
        "train --config ./tiny.toml --run-dir new --set data.tokenizer=junk",
        "train --config ./tiny.toml --run-dir new --cluster none.toml",
        "train --config ./tiny.toml --run-dir new --device ws://127.0.0.1:9 --token-file none",
        "train --resume none",
        "train --resume junk",
        "eval --checkpoint hf --data junk",
        "eval --checkpoint hf",
        "generate --checkpoint hf --prompt a --expert-placement junk",
        "generate --checkpoint hf --prompt a --expert-placement none",
        "check --config none.toml",
        "check --preset none.toml",
        "check --hugging-face none",
        "check --hugging-face junk",
        "plan schedule --ranks 3 --chunks 8",
        "plan cluster --cluster none.toml",
        "plan experts --loads none --replicas 4 --gpus 2",
        "plan experts --loads junk --replicas 4 --gpus 2",
        "plan experts --loads runs/tiny-001 --replicas 3 --gpus 2",
        "compare-precision --config none.toml",
        "compare-precision --config ./tiny.toml --out new --data none",
        "bench train --set model.vocab_size=0",
        "bench kernels --only none --device flex",
        "worker --listen nowhere",
        "worker --listen 127.0.0.1:0 --token-file none",
    ] {
        let finished = place.run(command);
        finished.failed(2, &[]);
        let finished = place.run(&format!("{command} --json"));
        assert_eq!(finished.json()["exit_code"], 2, "{}", finished.dump());
    }
    assert!(!place.path("new").exists());
}

/// What was typed wrongly is told with the usage.
#[test]
fn a_command_line_that_cannot_be_read_is_2() {
    let place = Workplace::new();
    for command in [
        "",
        "trian",
        "check --confg a",
        "plan",
        "bench",
        "generate",
        "eval --checkpoint a --batches x",
    ] {
        assert_eq!(place.run(command).code, Some(2), "{command}");
    }
    for command in ["--help", "--version", "train --help", "plan schedule --help"] {
        place.run(command).ok();
    }
}

/// A full disk behind standard output is nobody's mistake.
#[cfg(target_os = "linux")]
#[test]
fn what_fails_while_it_runs_is_3() {
    let place = Workplace::trained();
    place.run("export --checkpoint runs/tiny-001 --out hf").ok();
    for command in GOOD {
        let full = place.shell(&format!("$DEEPSEEK {command} --json > /dev/full"));
        assert_eq!(full.code, Some(3), "{}", full.dump());
        assert!(full.stderr.contains("standard output cannot be written"), "{}", full.dump());
        let _ = std::fs::remove_dir_all(place.path("once"));
        let _ = std::fs::remove_dir_all(place.path("exported"));
    }
    place.write("file", "");
    for command in [
        "train --config ./tiny.toml --run-dir file/run",
        "export --checkpoint hf --out file/out",
        "plan schedule --ranks 4 --chunks 8 --svg /dev/full",
        "plan schedule --ranks 4 --chunks 8 --trace /dev/full",
        "plan experts --loads runs/tiny-001 --replicas 4 --gpus 2 --out /dev/full",
        "eval --checkpoint runs/tiny-001 --batches 1 --expert-loads /dev/full",
    ] {
        place.run(command).failed(3, &[]);
    }
    for command in GOOD {
        place.run(command).ok();
    }
}

/// A file that is there already may be a text, a weight or a record: nothing is written over it, and
/// it is said before anything is computed. A folder that is not there is said as early.
#[test]
fn no_file_is_written_over() {
    let place = Workplace::trained();
    place.write("kept", "mine");
    for (command, option) in [
        ("plan schedule --ranks 4 --chunks 8", "--svg"),
        ("plan schedule --ranks 4 --chunks 8", "--trace"),
        ("plan experts --loads runs/tiny-001 --replicas 4 --gpus 2", "--out"),
        ("eval --checkpoint runs/tiny-001 --batches 1", "--expert-loads"),
        ("eval --checkpoint runs/tiny-001 --batches 1", "--save-routing"),
        ("inspect --checkpoint runs/tiny-001 --prompt abc", "--out"),
        ("inspect --checkpoint runs/tiny-001 --prompt abc", "--routing-out"),
        ("train --config ./tiny.toml --run-dir new", "--save-routing"),
        ("train --config ./tiny.toml --run-dir new --set parallel.pipeline=2", "--trace"),
    ] {
        let there = format!("{option} kept: it is there already");
        place.run(&format!("{command} {option} kept")).failed(2, &[&there]);
        place.run(&format!("{command} {option} none/a")).failed(2, &[option, "none/a"]);
        assert_eq!(std::fs::read(place.path("kept")).unwrap(), b"mine", "{command} {option}");
    }
    assert!(!place.path("new").exists());
}
