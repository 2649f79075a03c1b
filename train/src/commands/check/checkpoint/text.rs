//! A report on a checkpoint as a page of text.

use std::fmt::Write;

use super::Report;
use crate::commands::check::binary;
use crate::digits::grouped;

/// Columns of the page.
const WIDTH: usize = 80;
/// Where a row's text begins.
const INDENT: usize = 12;
/// Lines of a list.
const LINES: usize = 10;
/// Tokens that a cache is shown for at most.
const CACHED_TOKENS: u64 = 4096;

/// The report, at most 80 columns wide where no name is longer.
pub(super) fn page(report: &Report) -> String {
    let mut page = String::new();
    let Report { headers, tokens, parameters, .. } = report;
    row(&mut page, "checkpoint", &report.path.display().to_string());
    let bytes: u64 = headers.files.iter().map(|file| file.bytes).sum();
    let files = match &headers.files[..] {
        [file] => file.name.clone(),
        files => format!("{} files", files.len()),
    };
    let index = if headers.indexed { ", with an index" } else { "" };
    row(&mut page, "files", &format!("{files}, {}{index}", binary(bytes)));
    let model = format!(
        "{} layers of {}, {} parameters, {} active a token",
        report.model.num_hidden_layers,
        report.model.hidden_size,
        grouped(parameters.total),
        grouped(parameters.active)
    );
    row(&mut page, "model", &model);
    let stored = headers.stored.iter().map(|facts| {
        format!("{} {} in {} tensors", facts.dtype, binary(facts.bytes), grouped(facts.tensors))
    });
    row(&mut page, "stored", &stored.collect::<Vec<_>>().join(", "));
    let tokenizer = match tokens.tokenizer_size {
        Some(size) => format!("tokenizer.json has {} of them", grouped(size)),
        None => "no tokenizer.json".into(),
    };
    row(&mut page, "tokens", &format!("{}; {tokenizer}", grouped(tokens.vocab_size)));
    let ends: Vec<String> = tokens.end_tokens.iter().map(|ends| ends.describe()).collect();
    let ends = if ends.is_empty() { "nothing".into() } else { ends.join(", ") };
    row(&mut page, "ends with", &ends);
    memory(&mut page, report);
    list(&mut page, "not read", &report.ignored);
    list(&mut page, "remarks", &report.remarks);
    list(&mut page, "wrong", &report.problems);
    let verdict = match report.problems.len() {
        0 if report.values.is_some() => "conforms: headers and values",
        0 => "conforms: its headers; --deep reads every value",
        _ => "does not conform",
    };
    let _ = writeln!(page, "\n{verdict}");
    page
}

fn memory(page: &mut String, report: &Report) {
    if report.memory.is_empty() {
        return;
    }
    let cache = report.kv_cache_bytes_per_token;
    let cached = CACHED_TOKENS.min(report.model.max_position_embeddings as u64);
    let _ = writeln!(
        page,
        "\nmemory to decode, {} bytes of it a token of context:\n{:12}{:>12}{:>12}{:>28}",
        grouped(cache),
        "",
        "weights",
        "process",
        format!("with {} tokens", grouped(cached))
    );
    for memory in &report.memory {
        let _ = writeln!(
            page,
            "  {:10}{:>12}{:>12}{:>28}",
            memory.format.name(),
            binary(memory.weights_bytes),
            binary(memory.resident_bytes),
            binary(memory.resident_bytes + cache * cached)
        );
    }
    if let Some(memory) = report.memory.first().filter(|memory| memory.mtp_bytes > 0) {
        let _ = writeln!(page, "  MTP modules add {} as stored", binary(memory.mtp_bytes));
    }
}

/// A title and its text, from the twelfth column on.
fn row(page: &mut String, title: &str, text: &str) {
    let _ = writeln!(page, "{title:INDENT$}{}", wrapped(text, INDENT, INDENT));
}

/// A list under its title, cut at ten.
fn list(page: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n{title}:");
    for item in items.iter().take(LINES) {
        let _ = writeln!(page, "  - {}", wrapped(item, 4, 4));
    }
    if items.len() > LINES {
        let _ = writeln!(page, "  - and {} more", items.len() - LINES);
    }
}

/// Text whose lines go on after `indent` columns; the first begins in column `at`.
fn wrapped(text: &str, indent: usize, at: usize) -> String {
    let (mut out, mut column) = (String::new(), at);
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > indent && column + 1 + width > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if !out.is_empty() {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += width;
    }
    out
}
