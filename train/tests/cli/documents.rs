//! The commands of the documents run as they stand, and what the documents point to is there.
//!
//! A document (a chapter of the book, a README) is one session: a folder of its own with files
//! under the names that the documents use, in which the commands of its `sh` blocks run in order,
//! so that a later one finds what an earlier one left. Long commands are shortened, by
//! [`shortened`] and by nothing else. A block that cannot run here is marked `sh,no-test`, with its
//! reason in an HTML comment on the lines before it. A block marked `toml,file=NAME` is written to
//! that file first.

use std::fs;
use std::path::{Path, PathBuf};

use crate::commands::word_tokenizer;
use crate::workplace::Workplace;

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every document, by its path from the root of the workspace.
fn documents() -> Vec<String> {
    let mut found = vec![];
    for readme in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"] {
        found.push(readme.to_owned());
    }
    for folder in ["cubecl-kernels", "burn-deepseek", "train"] {
        let readme = format!("{folder}/README.md");
        if root().join(&readme).exists() {
            found.push(readme);
        }
    }
    markdown_in("docs", &mut found);
    found.sort();
    found
}

fn markdown_in(folder: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if entry.file_type().unwrap().is_dir() {
            markdown_in(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// A fenced block.
struct Block {
    /// Line of the fence, from 1.
    line: usize,
    /// What follows the fence: a language and marks.
    info: String,
    lines: Vec<String>,
    /// Whether an HTML comment stands before it.
    explained: bool,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = vec![];
    let (mut open, mut explained) = (false, false);
    for (index, line) in text.lines().enumerate() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            if !open {
                let info = info.trim().to_owned();
                found.push(Block { line: index + 1, info, lines: vec![], explained });
            }
            open = !open;
        } else if open {
            found.last_mut().unwrap().lines.push(line.to_owned());
        }
        if !line.trim().is_empty() {
            explained = line.trim_end().ends_with("-->");
        }
    }
    assert!(!open, "a block is not closed");
    found
}

impl Block {
    fn is_shell(&self) -> bool {
        self.info.split(',').next() == Some("sh")
    }

    fn is_marked(&self, mark: &str) -> bool {
        self.info.split(',').skip(1).any(|found| found == mark)
    }

    /// The file that the block is the content of.
    fn file(&self) -> Option<&str> {
        self.info.split(',').find_map(|mark| mark.strip_prefix("file="))
    }

    /// Commands with the line that each begins on; lines that end in a backslash are joined.
    fn commands(&self) -> Vec<(usize, String)> {
        let mut commands: Vec<(usize, String)> = vec![];
        let mut goes_on = false;
        for (index, line) in self.lines.iter().enumerate() {
            let text = line.trim();
            if !goes_on {
                if text.is_empty() || text.starts_with('#') {
                    continue;
                }
                commands.push((self.line + 1 + index, String::new()));
            }
            let command = &mut commands.last_mut().unwrap().1;
            goes_on = text.ends_with('\\');
            command.push_str(text.trim_end_matches('\\'));
        }
        commands
    }
}

/// What comes after `deepseek` in a command, which may also be `cargo run --release --`.
fn arguments(command: &str) -> Option<&str> {
    ["deepseek ", "cargo run --release -- "].iter().find_map(|name| command.strip_prefix(name))
}

/// A command that takes seconds in place of minutes. Flags are added where the command does not
/// have them, and a length is replaced by one of two steps; what a command asks for otherwise is
/// as it stands. A resumed run needs an end beyond the one before: `resumed` counts them.
fn shortened(arguments: &str, resumed: &mut usize) -> String {
    let (command, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let rest = format!(" {rest} ");
    let mut without = rest.clone();
    let mut added = vec![];
    match command {
        "train" => {
            *resumed += usize::from(rest.contains(" --resume "));
            let steps = if rest.contains(" --resume ") { 2 + *resumed } else { 2 };
            without = without_value(&without_value(&rest, " --steps "), " --tokens ");
            added.push(format!("--steps {steps}"));
            added.push("--set train.eval_batches=1 --set output.sample_tokens=8".into());
        }
        "compare-precision" => {
            without = without_value(&rest, " --tokens ");
            added.push("--tokens 2048 --set train.eval_batches=1".into());
        }
        "bench" => {
            // The target comes first.
            added.push("--reps 1 --warmup 0".into());
            let more = added.join(" ");
            return format!("bench{}{more}", without_value(&rest, " --reps "));
        }
        "eval" if !rest.contains(" --batches ") => added.push("--batches 1".into()),
        _ => {}
    }
    format!("{command} {}{without}", added.join(" "))
}

/// An argument and its value taken out, where they are there.
fn without_value(arguments: &str, name: &str) -> String {
    let Some(start) = arguments.find(name) else { return arguments.to_owned() };
    let value = &arguments[start + name.len()..];
    let end = value.find(' ').unwrap_or(value.len());
    format!("{}{}", &arguments[..start], &value[end..])
}

/// A folder with the files that the documents name.
fn session() -> Workplace {
    let place = Workplace::new();
    let book = |word: &str| {
        let sentence = format!("Once upon a time there was {word}, and nobody knew where.\n");
        sentence.repeat(600)
    };
    place.write("my-book.txt", book("a whale"));
    place.write("another-book.txt", book("a white whale"));
    fs::create_dir(place.path("books")).unwrap();
    place.write("books/one.txt", book("one"));
    place.write("books/two.txt", book("two"));
    let articles: String = (0..40)
        .map(|index| format!("{{\"text\": \"Article {index}: {}\"}}\n", "word ".repeat(200)))
        .collect();
    place.write("articles.jsonl", articles);
    place.write("tokenizer.json", word_tokenizer(&["Once", "upon", "a", "time", "word"], 300));
    place
}

/// How the commands of a document went.
#[derive(Default)]
struct Tally {
    run: usize,
    not_run: usize,
    failures: Vec<String>,
}

fn run_document(document: &str, tally: &mut Tally) {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let blocks = blocks(&text);
    let (mut place, mut resumed) = (None, 0);
    for block in &blocks {
        if let Some(file) = block.file() {
            let text = block.lines.join("\n") + "\n";
            place.get_or_insert_with(session).write(file, text);
        }
        if !block.is_shell() {
            continue;
        }
        let here = format!("{document}:{}", block.line);
        if block.is_marked("no-test") {
            tally.not_run += block.commands().len();
            if !block.explained {
                tally.failures.push(format!("{here}: no-test without a comment that says why"));
            }
            continue;
        }
        // A block is one script, so that its variables last.
        let mut script = "set -e\n".to_owned();
        for (line, command) in block.commands() {
            let command = match arguments(&command) {
                Some(arguments) => format!("\"$DEEPSEEK\" {}", shortened(arguments, &mut resumed)),
                None => command,
            };
            script += &format!("echo '{document}:{line}' >&2\n{command}\n");
            tally.run += 1;
        }
        let finished = place.get_or_insert_with(session).shell(&script);
        if finished.code != Some(0) || finished.stderr.contains("panicked") {
            let tail: Vec<&str> = finished.stderr.lines().rev().take(4).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            tally.failures.push(format!("{here}: {:?}\n{}", finished.code, tail.join("\n")));
        }
    }
}

#[test]
fn commands_of_the_documents_run() {
    let mut tally = Tally::default();
    // The log tells what was run once; its commands are not shortened to anything meaningful.
    for document in documents().iter().filter(|path| !path.starts_with("docs/log")) {
        let before = (tally.run, tally.not_run);
        let started = std::time::Instant::now();
        run_document(document, &mut tally);
        println!(
            "{document}: {} run, {} not run, {:.1} s",
            tally.run - before.0,
            tally.not_run - before.1,
            started.elapsed().as_secs_f64()
        );
    }
    println!("commands of the documents: {} run, {} not run", tally.run, tally.not_run);
    assert!(tally.failures.is_empty(), "\n{}", tally.failures.join("\n\n"));
    assert!(tally.run > 50, "only {} commands were found", tally.run);
}

/// Links to files of the repository and to headings of their pages.
#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut wrong = vec![];
    let mut checked = 0;
    for document in documents() {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        let folder = root().join(&document).parent().unwrap().to_owned();
        for target in links(&text) {
            if target.contains("://") {
                continue;
            }
            checked += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { root().join(&document) } else { folder.join(file) };
            let there = path.exists()
                && (anchor.is_empty() || headings(&path).contains(&anchor.to_owned()));
            if !there {
                wrong.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(checked > 20, "only {checked} links were found");
}

#[test]
fn every_chapter_is_in_the_summary() {
    let summary = fs::read_to_string(root().join("docs/src/SUMMARY.md")).unwrap();
    let chapters = links(&summary);
    for document in documents().iter().filter_map(|path| path.strip_prefix("docs/src/")) {
        assert!(document == "SUMMARY.md" || chapters.contains(&document), "{document}");
    }
}

/// Targets of `[...](target)` outside of blocks, and of `{{#include target}}` in them.
fn links(text: &str) -> Vec<&str> {
    let mut found = vec![];
    let mut open = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            open = !open;
        }
        if open {
            let included = line.strip_prefix("{{#include ");
            found.extend(included.and_then(|target| target.strip_suffix("}}")));
            continue;
        }
        for (start, _) in line.match_indices("](") {
            let target = &line[start + 2..];
            if let Some(end) = target.find(')') {
                found.push(&target[..end]);
            }
        }
    }
    found
}

/// The anchors that headings of a page have, as mdBook and code hosts make them.
fn headings(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let anchor = |title: &str| {
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    let titles = text.lines().filter(|line| line.starts_with('#'));
    titles.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// The reference names every key that a complete configuration has.
#[test]
fn the_reference_has_every_key() {
    let page = fs::read_to_string(root().join("docs/src/configuration.md")).unwrap();
    let place = Workplace::new();
    let printed = place.run("check --config ./tiny.toml --set ema.decay=0.9").ok().stdout;
    let keys: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with(char::is_alphabetic))
        .filter_map(|line| line.split_once(" = ").map(|(key, _)| key))
        .collect();
    assert!(keys.len() > 50, "{keys:?}");
    let absent: Vec<&&str> =
        keys.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert!(absent.is_empty(), "{absent:?}");
}
