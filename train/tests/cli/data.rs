//! Text in: formats, tokens that are kept, text that changed, and what a signal leaves behind.

use std::fs;
use std::path::PathBuf;

use crate::workplace::Workplace;

const KEPT: &str = ".cache/burn-deepseek/tokens";

/// The files of kept tokens.
fn kept(place: &Workplace) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place.path(KEPT)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "tokens"))
        .collect();
    paths.sort();
    paths
}

fn prose(first: usize) -> String {
    (first..first + 200).map(|n| format!("The {n}th stone lies by the river. ")).collect()
}

/// JSON lines in a file that does not say so, as public corpora have them.
#[test]
fn json_lines_called_json_are_no_prose() {
    let place = Workplace::new();
    let lines: String =
        (0..60).map(|n| format!("{{\"text\":\"the {n}th stone\",\"url\":\"x\"}}\n")).collect();
    for name in ["lines.json", "lines.txt"] {
        place.write(name, &lines);
        let finished = place.train(&format!("--data {name} --steps 1 --json")).ok();
        assert!(finished.stdout.contains("training    54 documents"), "{}", finished.dump());
        assert!(finished.stdout.contains("validation  6 documents"), "{}", finished.dump());
    }
}

#[test]
fn what_is_not_text_is_refused_by_name() {
    let place = Workplace::new();
    place.write("paper.txt", "%PDF-1.7\nstream");
    place.write("table.parquet", "not one");
    place.write("one.json", "{\n \"a\": 1\n}\n");
    place.write("lines.jsonl", "{\"text\":\"a\"}\n{\"text\":\n");
    for (data, parts) in [
        ("paper.txt", ["paper.txt", "is a PDF document"]),
        ("table.parquet", ["table.parquet", "its name says Parquet"]),
        ("one.json", ["one.json", "one JSON object over several lines"]),
        ("lines.jsonl", ["line 2: not valid JSON", "data.bad_lines = \"skip\""]),
    ] {
        place.train(&format!("--data {data}")).failed(2, &parts);
    }
    assert!(!place.path("runs").exists());
}

#[test]
fn kept_tokens_are_taken_by_the_next_start_a_resume_and_an_eval() {
    let place = Workplace::new();
    place.write("a.txt", prose(0));
    place.train("--data a.txt --run-dir first").ok();
    let tokens = kept(&place);
    assert_eq!(tokens.len(), 2, "a file a split");
    let written =
        || kept(&place).iter().map(|p| p.metadata().unwrap().modified().unwrap()).collect();
    let before: Vec<_> = written();
    place.train("--data a.txt --run-dir second").ok();
    place.run("train --resume first --steps 8").ok();
    let eval = "eval --checkpoint second --json";
    let results = place.run(eval).ok().json();
    assert_eq!((kept(&place), written()), (tokens.clone(), before));
    let second = place.metrics("second");
    assert_eq!(place.metrics("first")[..second.len()], second);

    // Without them it is the same run.
    let uncached = place.run(&format!("{eval} --no-cache")).ok().json();
    assert_eq!(uncached["loss"], results["loss"]);
    fs::remove_dir_all(place.path(".cache")).unwrap();
    place.train("--data a.txt --run-dir third --no-cache").ok();
    assert!(!place.path(KEPT).exists());
    assert_eq!(place.metrics("third"), place.metrics("second"));
    place.train("--data a.txt --run-dir fourth --set data.cache_dir=here").ok();
    assert!(place.path("here").is_dir() && !place.path(KEPT).exists());
}

#[test]
fn damaged_tokens_are_said_and_made_again() {
    let place = Workplace::new();
    place.write("a.txt", prose(0));
    place.train("--data a.txt --run-dir first").ok();
    for path in kept(&place) {
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let finished = place.train("--data a.txt --run-dir second").ok();
    let said = "its checksum differs; the tokens are made again";
    assert!(finished.stderr.lines().any(|line| line.ends_with(said)), "{}", finished.dump());
    assert_eq!(place.metrics("first"), place.metrics("second"));
    assert!(!place.train("--data a.txt").ok().stderr.contains(said));
}

#[test]
fn a_run_goes_on_over_its_own_text_alone() {
    let place = Workplace::new();
    place.write("a.txt", prose(0));
    place.train("--data a.txt --steps 2 --run-dir run").ok();
    place.write("a.txt", prose(1));
    let resume = "train --resume run --steps 4";
    let refused = place.run(resume);
    refused.failed(2, &["the data of this run has changed", "a.txt has ", "--allow-changed-data"]);
    assert_eq!(place.names("run/checkpoints"), ["step-00000002"]);
    let finished = place.run(&format!("{resume} --allow-changed-data")).ok();
    assert!(finished.stdout.contains("data        changed since"), "{}", finished.dump());
    let finished = place.run("eval --checkpoint run").ok();
    let note = "note: the run's data has changed";
    assert!(!finished.stderr.contains(note), "the new text is that of the new checkpoint");
    place.write("a.txt", prose(0));
    let finished = place.run("eval --checkpoint run").ok();
    assert!(finished.stderr.contains(note), "{}", finished.dump());

    place.write("b.txt", prose(0));
    place
        .run(&format!("{resume} --data b.txt"))
        .failed(2, &["a.txt is not read any more", "b.txt is new"]);
    assert_eq!(place.train("--allow-changed-data").code, Some(2));
}

#[test]
fn another_file_validates() {
    let place = Workplace::new();
    place.write("a.txt", prose(0));
    place.write("v.txt", prose(900));
    let bytes = prose(900).len();
    let finished = place.train("--data a.txt --set data.valid_source=v.txt").ok();
    assert!(
        finished.stdout.contains(&format!("validation  1 documents, {bytes} bytes")),
        "{}",
        finished.dump()
    );
}

/// Memory and signals while a long text is tokenized.
#[cfg(target_os = "linux")]
mod long {
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::bounded::outcome;
    use crate::generate::word_tokenizer;
    use crate::workplace::{Finished, peak_bytes};

    /// A place with a text of many megabytes and a tokenizer of its words.
    fn place(megabytes: usize, pre_tokenizer: &str) -> Workplace {
        let place = Workplace::new();
        let words = ["the", "stone", "lies", "by", "river"];
        let tokenizer = word_tokenizer(&words, 250).replace("\"Whitespace\"", pre_tokenizer);
        place.write("words.json", tokenizer);
        let line = "the stone lies by the river \n";
        place.write("long.txt", line.repeat(megabytes * 1_000_000 / line.len()));
        place
    }

    fn started(place: &Workplace, more: &str) -> Child {
        let arguments = format!(
            "train --config ./tiny.toml --data long.txt --set data.tokenizer=words.json --steps 1 \
             {more}"
        );
        let mut command = place.command(&arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn memory_does_not_grow_with_the_text() {
        let peak_mb = |megabytes| {
            let place = place(megabytes, "\"Whitespace\"");
            let (peak, finished) = peak_bytes(started(&place, ""));
            finished.ok();
            peak / 1_000_000
        };
        let (small, large) = (peak_mb(4), peak_mb(32));
        assert!(large < small + 40, "{small} MB for 4 MB of text, {large} MB for 32");
    }

    /// The tokenizer takes the text as one word: it does not look up before it is done.
    #[test]
    fn a_signal_while_tokenizing_stops_at_once_and_leaves_nothing() {
        let place = place(12, "\"Digits\", \"individual_digits\": false");
        let partial = |place: &Workplace| {
            fs::read_dir(place.path(KEPT)).is_ok_and(|entries| {
                entries
                    .map(|entry| entry.unwrap().path())
                    .any(|path| path.extension().is_some_and(|ending| ending == "partial"))
            })
        };
        let child = started(&place, "--json");
        let begun = Instant::now();
        while !partial(&place) {
            assert!(begun.elapsed() < Duration::from_secs(60), "tokenizing never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        let killed = Instant::now();
        let kill = format!("kill -s INT {}", child.id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let finished = Finished::of("interrupted", outcome(child, "interrupted"));
        assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
        assert_eq!(finished.code, Some(130), "{}", finished.dump());
        assert!(finished.stderr.ends_with("interrupted\n"), "{}", finished.dump());
        assert_eq!(finished.json()["exit_code"], 130);
        assert!(!place.path("runs").exists());
        assert!(kept(&place).is_empty());
        // The next start clears away what is left.
        place.write("a.txt", prose(0));
        place.train("--data a.txt").ok();
        assert!(!partial(&place) && kept(&place).len() == 2);
    }
}
