//! Links, files and keys that the documents name are there.

use std::fs;
use std::path::Path;

use super::{documents, files_in, root};
use crate::workplace::Workplace;

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

/// A source file that a document names by the end of its path is there.
#[test]
fn source_files_that_the_documents_name_exist() {
    let mut sources = vec![];
    for folder in ["cubecl-kernels", "burn-deepseek", "train", "tests"] {
        files_in(folder, &mut sources);
    }
    let (mut wrong, mut checked) = (vec![], 0);
    for document in documents().iter().filter(|path| !path.starts_with("docs/log")) {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for name in text.split('`').filter(|name| name.ends_with(".rs") && !name.contains(' ')) {
            checked += 1;
            if !sources.iter().any(|path| path == name || path.ends_with(&format!("/{name}"))) {
                wrong.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(checked > 20, "only {checked} names were found");
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
