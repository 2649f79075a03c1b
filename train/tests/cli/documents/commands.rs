//! The commands of the documents run as they stand.
//!
//! A document (a chapter of the book, a README) is one session: a folder of its own with files
//! under the names that the documents use, in which the commands of its `sh` blocks run in order,
//! so that a later one finds what an earlier one left. Long commands are shortened, by
//! [`shortened`] and by nothing else. A block that cannot run here is marked `sh,no-test`, with its
//! reason in an HTML comment on the lines before it. A block marked `toml,file=NAME` is written to
//! that file first.

use std::fs;

use super::{blocks, documents, root};
use crate::generate::word_tokenizer;
use crate::workplace::Workplace;

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
            if rest.contains(" kernels ") && !rest.contains(" --only ") {
                added.push("--only x256".into()); // one width of casts and products
            }
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
