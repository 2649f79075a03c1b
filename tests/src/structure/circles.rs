//! Which modules of a crate name each other, and the circles among them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::tokens::{Token, tokens};

/// For each module the modules that it names, each with the first file that does.
type Edges = BTreeMap<String, BTreeMap<String, String>>;

/// Modules each of which leads to every other.
#[derive(Debug)]
pub(super) struct Circle {
    modules: Vec<String>,
    /// From, to, and the file in which the one names the other.
    steps: Vec<(String, String, String)>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a circle of {}", self.modules.join(", "))?;
        self.steps.iter().try_for_each(|(from, to, file)| write!(f, "\n  {from} -> {to} ({file})"))
    }
}

/// The circles among the modules of the crate whose sources are in a folder.
pub(super) fn circles(source: &Path) -> Vec<Circle> {
    let edges = edges(source);
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        edges.keys().map(|module| (module.as_str(), reached_from(&edges, module))).collect();
    let mut found: Vec<Circle> = Vec::new();
    for (module, theirs) in &reached {
        let named = found.iter().any(|circle| circle.modules.iter().any(|known| known == module));
        if named || !theirs.contains(module) {
            continue;
        }
        let modules: Vec<String> = theirs
            .iter()
            .filter(|other| reached[*other].contains(module))
            .map(ToString::to_string)
            .collect();
        let steps = modules.iter().flat_map(|from| {
            let to = edges[from].iter().filter(|(to, _)| modules.contains(to));
            to.map(move |(to, file)| (from.clone(), to.clone(), file.clone()))
        });
        found.push(Circle { steps: steps.collect(), modules: modules.clone() });
    }
    found
}

/// What can be reached from a module, over at least one edge.
fn reached_from<'a>(edges: &'a Edges, module: &str) -> BTreeSet<&'a str> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![module]);
    while let Some(module) = left.pop() {
        for next in edges[module].keys() {
            if seen.insert(next.as_str()) {
                left.push(next);
            }
        }
    }
    seen
}

fn edges(source: &Path) -> Edges {
    let files = sources(source);
    let modules: BTreeSet<String> = files
        .iter()
        .map(|file| module_path(file)[0].clone())
        .filter(|module| module != "lib" && module != "main")
        .collect();
    let text = |file: &Path| std::fs::read_to_string(source.join(file)).unwrap();
    let root =
        if source.join("lib.rs").is_file() { text("lib.rs".as_ref()) } else { String::new() };
    let root = tokens(&root);
    let exported = exported(&root, &modules);
    let mut edges: Edges = modules.iter().map(|module| (module.clone(), BTreeMap::new())).collect();
    for file in &files {
        let path = module_path(file);
        let Some(of_module) = edges.get_mut(&path[0]) else { continue };
        for name in named_at_root(&tokens(&text(file)), path.len()) {
            let to = if modules.contains(name) { Some(name) } else { exported.get(name).copied() };
            if let Some(to) = to.filter(|to| *to != path[0]) {
                of_module.entry(to.to_string()).or_insert_with(|| file.display().to_string());
            }
        }
    }
    edges
}

/// The sources under a folder, tests left out, in order.
fn sources(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let of_tests = ["test", "tests"].contains(&stem.as_str())
                || ["_test", "_tests"].iter().any(|end| stem.ends_with(end));
            if of_tests {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

/// `["a", "b"]` of `a/b.rs` and of `a/b/mod.rs`.
fn module_path(file: &Path) -> Vec<String> {
    let path = file.with_extension("");
    let mut names: Vec<String> =
        path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if names.len() > 1 && names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    names
}

/// The names that a source, so many modules deep, uses of the crate's root.
fn named_at_root<'a>(tokens: &[Token<'a>], depth: usize) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let root = match tokens[at] {
            Token::Word("crate") => after_colons(tokens, at + 1),
            Token::Word("super") => {
                let (mut supers, mut next) = (1, after_colons(tokens, at + 1));
                while let Some(behind) = next
                    && tokens.get(behind) == Some(&Token::Word("super"))
                {
                    (supers, next) = (supers + 1, after_colons(tokens, behind + 1));
                    at = behind;
                }
                next.filter(|_| supers == depth)
            }
            _ => None,
        };
        if let Some(behind) = root {
            names.extend(heads(tokens, behind));
        }
        at += 1;
    }
    names
}

/// Where the path goes on, if `::` stands at `at`.
fn after_colons(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    tokens.get(at..)?.starts_with(&[Token::Sign(':'), Token::Sign(':')]).then_some(at + 2)
}

/// The first name of each path that begins at `start`: of one, or of all in braces.
fn heads<'a>(tokens: &[Token<'a>], start: usize) -> Vec<&'a str> {
    match tokens.get(start) {
        Some(Token::Word(name)) => vec![name],
        Some(Token::Sign('{')) => {
            let (mut names, mut depth, mut first) = (Vec::new(), 0, true);
            for token in &tokens[start..] {
                match token {
                    Token::Sign('{') => depth += 1,
                    Token::Sign('}') => depth -= 1,
                    Token::Sign(',') if depth == 1 => first = true,
                    Token::Word(name) if first => {
                        names.push(*name);
                        first = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            names
        }
        _ => Vec::new(),
    }
}

/// The names that the root gives on from its modules, each with its module.
fn exported<'a>(tokens: &[Token<'a>], modules: &BTreeSet<String>) -> BTreeMap<&'a str, &'a str> {
    let mut found = BTreeMap::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair != [Token::Word("pub"), Token::Word("use")] {
            continue;
        }
        let end = tokens[at..]
            .iter()
            .position(|token| *token == Token::Sign(';'))
            .map_or(tokens.len(), |length| at + length);
        let words: Vec<&str> = tokens[at + 2..end]
            .iter()
            .filter_map(|token| match token {
                Token::Word(word) => Some(*word),
                Token::Sign(_) => None,
            })
            .filter(|word| !["self", "crate"].contains(word))
            .collect();
        if let Some((module, names)) = words.split_first()
            && modules.contains(*module)
        {
            found.extend(names.iter().map(|name| (*name, *module)));
        }
    }
    found
}
