//! `report`: its files, what they hold, and that nothing of a run's text is read as markup.

use std::fs;

use serde_json::json;

use crate::bounded::Bounded;
use crate::workplace::{Workplace, number};

/// What is in none of a report's files unless something of it was not escaped.
const MARKUP: &str = "<script>alert(1)</script> |a| *b* [c](d) `e`";

fn read(place: &Workplace, file: &str) -> String {
    fs::read_to_string(place.path(file)).unwrap()
}

/// Every picture that Markdown names is there, and is one.
fn pictures(place: &Workplace, folder: &str) -> Vec<String> {
    let text = read(place, &format!("{folder}/report.md"));
    let named = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let named: Vec<String> =
        named.filter(|name| name.ends_with(".svg")).map(String::from).collect();
    for name in &named {
        let drawn = read(place, &format!("{folder}/{name}"));
        assert!(drawn.starts_with("<svg xmlns=") && drawn.ends_with("</svg>\n"), "{name}");
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{name}: {drawn}");
    }
    let mut files = place.names(folder);
    files.retain(|name| name != "report.md");
    let mut sorted = named.clone();
    sorted.sort();
    assert_eq!(sorted, files);
    named
}

#[test]
fn a_run_is_reported_as_markdown_and_html() {
    let place = Workplace::trained();
    place.command("runs note runs/tiny-001").arg(MARKUP).ended();
    place.run("runs tag runs/tiny-001 <b>bold</b> base").ok();
    let told = place.run("report runs/tiny-001 --out kept --html kept.html --json").ok().json();
    let drawn = pictures(&place, "kept");
    let expected = ["loss", "lr", "gradients", "speed", "seconds", "violation", "loads"]
        .map(|name| format!("{name}.svg"));
    assert_eq!(drawn, expected);
    let mut files: Vec<String> = expected.iter().map(|name| format!("kept/{name}")).collect();
    files.extend(["kept/report.md".into(), "kept.html".into()]);
    assert_eq!(told["files"], json!(files));

    let record = place.record("runs/tiny-001");
    let last = record.iter().rev().find(|line| line["kind"] == "evaluation").unwrap();
    let sample = record.iter().rev().find(|line| line["kind"] == "sample").unwrap();
    let valid = format!("{:.4}", number(last, "valid_loss"));
    let (text, page) = (read(&place, "kept/report.md"), read(&place, "kept.html"));
    for part in [
        "# tiny-001\n",
        "**finished**: step 6 of 6, in runs/tiny-001",
        "## Evaluations\n",
        "## Experts\n",
        "seq_len = 16",
        "checkpoints/step-00000006",
        "deepseek train --config runs/tiny-001/run.toml",
        "&lt;b&gt;bold&lt;/b&gt;",
        &format!("```\n{MARKUP}\n```"),
        &valid,
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let said = shown(sample["text"].as_str().unwrap());
    assert!(text.contains(said.trim_end()), "{said:?} is not in {text}");
    for part in [
        "<title>tiny-001</title>",
        "prefers-color-scheme: dark",
        "&lt;script&gt;alert(1)",
        "&lt;b&gt;bold",
        "default-src 'none'",
        "deepseek train --config runs",
        &valid,
    ] {
        assert!(page.contains(part), "{part:?} is not in the page");
    }
    assert_eq!(page.matches("<svg ").count(), expected.len());
    for absent in ["<script", "<b>bold", "href=", "src=", "url(http", "@import"] {
        assert!(!page.contains(absent), "{absent}");
    }
    // Each picture's panels are cut by its own frame.
    for clip in ["loss-panel1", "lr-panel1"] {
        assert_eq!(page.matches(&format!("id=\"{clip}\"")).count(), 1, "{clip}");
    }
    // The command of the report makes the run once more.
    place.run("train --config runs/tiny-001/run.toml").ok();
    assert_eq!(place.record("runs/tiny-002"), record);
}

/// A sample as a report has it: control characters but for lines and tabs are written out.
fn shown(sample: &str) -> String {
    let letter = |letter: char| match letter {
        '\n' | '\t' => letter.to_string(),
        _ if letter.is_control() => letter.escape_unicode().to_string(),
        _ => letter.to_string(),
    };
    sample.chars().map(letter).collect()
}

#[test]
fn several_runs_are_laid_over_each_other() {
    let place = Workplace::trained();
    place.train("--set train.seed=7 --steps 4").ok();
    place.run("report runs --html both.html").ok();
    let page = read(&place, "both.html");
    for part in ["2 runs", "Side by side", "train.seed", "tiny-001", "tiny-002", "Validation loss"]
    {
        assert!(page.contains(part), "{part:?} is not in the page");
    }
    let told = place.run("report runs/tiny-001 runs/tiny-002 --json").ok().json();
    assert_eq!(told["out"], "runs-report");
    assert_eq!(pictures(&place, "runs-report").len(), 6);
    let text = read(&place, "runs-report/report.md");
    assert!(text.contains("\n## tiny-002\n") && text.contains("### Evaluations"), "{text}");
    // A cell a column in every row.
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| runs/tiny-00")).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].matches('|').count(), rows[1].matches('|').count());
}

#[test]
fn nothing_is_written_over_unless_that_is_said() {
    let place = Workplace::trained();
    place.run("report runs/tiny-001").ok();
    let folder = "tiny-001-report";
    assert!(!pictures(&place, folder).is_empty());
    place
        .run("report runs/tiny-001")
        .failed(2, &["--out tiny-001-report: it is there and is not empty"]);
    place.write("page.html", "mine");
    place
        .run("report runs/tiny-001 --html page.html")
        .failed(2, &["--html page.html: is there already"]);
    assert_eq!(read(&place, "page.html"), "mine");
    place.write(&format!("{folder}/report.md"), "old");
    place.run(&format!("report runs/tiny-001 --out {folder} --html page.html --force")).ok();
    assert!(read(&place, &format!("{folder}/report.md")).contains("# tiny-001"));
    assert!(read(&place, "page.html").starts_with("<!DOCTYPE html>"));
    fs::create_dir(place.path("empty")).unwrap();
    place.run("report empty").failed(2, &["no runs in empty"]);
    place.run("report nowhere").failed(2, &["nowhere: no such folder"]);
    place.write("file", "");
    place.run("report runs/tiny-001 --out file").failed(2, &["--out file: it is a file"]);
    place
        .run("report runs/tiny-001 --html file/page.html")
        .failed(3, &["file/page.html", "Not a directory"]);
}

/// The address of a webhook often is all that one needs to post there.
#[test]
fn what_is_secret_of_a_configuration_is_not_handed_on() {
    let place = Workplace::trained();
    let run = read(&place, "runs/tiny-001/run.toml");
    let address = "webhook = \"https://hooks.example.com/secret\"";
    let with = run.replace("[alerts]\n", &format!("[alerts]\n{address}\n"));
    assert_ne!(with, run);
    place.write("runs/tiny-001/run.toml", with);
    place.copy("runs/tiny-001", "runs/tiny-002");
    place.run("report runs/tiny-001 --out kept --html kept.html").ok();
    place.run("report runs --html both.html").ok();
    let exported = place.run("runs export runs/tiny-001 --tensorboard logs --json").ok().json();
    let file = exported["file"].as_str().unwrap();
    for file in ["kept/report.md", "kept.html", "both.html", file] {
        let bytes = fs::read(place.path(file)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("hooks.example.com"), "{file} tells that there is one");
        assert!(!text.contains("secret"), "{file}");
    }
}

/// A run of no steps, and one whose record holds what nobody can read.
#[test]
fn what_is_not_there_is_left_out() {
    let place = Workplace::trained();
    fs::remove_file(place.path("runs/tiny-001/metrics.jsonl")).unwrap();
    place.run("report runs/tiny-001 --out bare --html bare.html").ok();
    assert_eq!(pictures(&place, "bare"), Vec::<String>::new());
    assert!(read(&place, "bare/report.md").contains("**stopped**: step 0 of 6"));

    place.train("--run-dir other --steps 1 --set output.sample_tokens=0").ok();
    let record = read(&place, "other/metrics.jsonl");
    place.write("other/metrics.jsonl", format!("{record}{{\"kind\": \"dream\"}}\n"));
    place.run("report other --out one").ok();
    let text = read(&place, "one/report.md");
    assert!(text.contains("1 lines of the record could not be read"), "{text}");
    assert!(text.contains("--config other/run.toml --run-dir again"), "{text}");
    assert!(!pictures(&place, "one").is_empty());
}
