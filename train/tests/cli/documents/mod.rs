//! The documents of the project, held against the program: their commands run, their links lead
//! somewhere, what they name is there.

mod commands;
mod references;

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every document, by its path from the root of the workspace.
fn documents() -> Vec<String> {
    let fixed = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "cubecl-kernels/README.md",
        "burn-deepseek/README.md",
        "train/README.md",
    ];
    let mut found: Vec<String> = fixed.map(String::from).into();
    files_in("docs", &mut found);
    found.retain(|path| path.ends_with(".md"));
    found.sort();
    found
}

/// The files in a folder and below it.
fn files_in(folder: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap) {
        let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files_in(&path, found);
        } else {
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
