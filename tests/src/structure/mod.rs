//! No crate has a circle of modules: what stands above may know what stands below, not the other
//! way round.
//!
//! Looked at are the modules directly under a crate's root, and what they name of each other in
//! their sources (`crate::name`, or as many `super::` as lead to the root); tests may name
//! anything.

mod circles;
mod tokens;

use std::path::Path;

use circles::circles;

/// The crates whose sources are read.
const CRATES: [&str; 3] = ["cubecl-kernels", "burn-deepseek", "train"];

#[test]
fn no_crate_has_a_circle_of_modules() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let found: Vec<String> = CRATES
        .iter()
        .flat_map(|name| {
            circles(&workspace.join(name).join("src"))
                .into_iter()
                .map(move |circle| format!("{name}: {circle}"))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A crate's sources, written for a test.
fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn a_circle_is_found_and_each_of_its_steps_named() {
    let source = written(&[
        ("lib.rs", "mod low;\nmod middle;\nmod high;\npub use high::{Roof, Wall as Side};\n"),
        ("low.rs", "//! Below.\nuse crate::{middle::Floor, other::Thing};\n"),
        ("middle/mod.rs", "mod stairs;\n"),
        ("middle/stairs.rs", "use super::super::high::Roof;\n"),
        ("high.rs", "fn build(brick: crate::low::Brick) {}\n"),
    ]);
    let [circle] = &circles(source.path())[..] else { panic!("one circle") };
    assert_eq!(
        circle.to_string(),
        "a circle of high, low, middle\n  high -> low (high.rs)\n  low -> middle (low.rs)\n  \
         middle -> high (middle/stairs.rs)"
    );
}

#[test]
fn a_name_of_the_root_is_its_module_s() {
    let source = written(&[
        ("lib.rs", "mod low;\nmod high;\npub use self::high::{Roof, inner::Wall};\n"),
        ("low.rs", "use super::Wall;\n"),
        ("high.rs", "use crate::low;\n"),
    ]);
    assert_eq!(circles(source.path()).len(), 1);
}

#[test]
fn comments_texts_and_tests_make_no_circle() {
    let source = written(&[
        ("lib.rs", "mod low;\nmod high;\n"),
        (
            "low.rs",
            "/// As [`crate::high`] has it.\nconst TEXT: &str = r#\"crate::high::Roof // \"{\"#; \
             /* \
             crate::high */\nfn first<'a>(text: &'a str) -> char { '\"' }\n#[cfg(test)]\nmod tests \
             {\n    use crate::high::Roof;\n}\n#[cfg(test)]\nuse crate::high;\n",
        ),
        ("low/tests.rs", "use crate::high::Roof;\n"),
        ("low/kernel_tests/all.rs", "use crate::high::Roof;\n"),
        ("high.rs", "use crate::low::TEXT;\n"),
    ]);
    let found: Vec<String> = circles(source.path()).iter().map(ToString::to_string).collect();
    assert_eq!(found, Vec::<String>::new());
}
