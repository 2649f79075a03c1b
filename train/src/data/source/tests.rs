//! Files and folders of every format as documents, and what is refused.

use super::*;
use crate::data::chat::ChatTemplate;
use std::fs;
use std::io::Write;

fn reading(bad_lines: BadLines) -> Reading {
    Reading { field: "text".to_string(), bad_lines, chat: ChatTemplate::default() }
}

/// The documents of a path, and what was passed over.
fn documents_of(path: &Path, reading: &Reading) -> Result<(Vec<String>, PassedOver), DataError> {
    let files = Files::list([path].into_iter())?;
    let (read, mut passed) = (AtomicU64::new(0), PassedOver::default());
    let (mut documents, mut text) = (Vec::new(), String::new());
    for file in &files.files {
        read_file(&file.path, reading, &read, &mut passed, &mut |part| {
            text.push_str(part.text);
            if part.ends {
                documents.push(std::mem::take(&mut text));
            }
            Ok(())
        })?;
    }
    assert_eq!(read.into_inner(), files.bytes(), "every byte is counted once");
    passed.files = files.passed_over;
    Ok((documents, passed))
}

/// The documents of a file with this name and content.
fn documents(name: &str, content: &[u8]) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    match documents_of(&path, &reading(BadLines::Error)) {
        Ok((documents, _)) => Ok(documents),
        Err(error) => {
            let message = error.to_string();
            Err(message.strip_prefix(&format!("{}: ", path.display())).unwrap().to_string())
        }
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A few kilobytes of gzip may be a line of gigabytes.
#[test]
fn a_line_or_element_without_end_is_refused() {
    let fill = "a".repeat(65 << 20);
    for (name, content, part) in [
        ("a.jsonl.gz", format!("{{\"text\": \"{fill}\"}}\n"), "line 1 is longer than 64 MiB"),
        ("a.json.gz", format!("[\"{fill}\"]"), "an element is longer than 64 MiB"),
    ] {
        let error = documents(name, &gzip(content.as_bytes())).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn builtin_is_never_empty() {
    assert!(!builtin(1, 500).unwrap().is_empty());
    let error = builtin(1, 0).unwrap_err().to_string();
    assert!(error.starts_with("data.builtin_bytes: is 0"), "{error}");
    let error = builtin(1, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("at most 1073741824 bytes"), "{error}");
}

#[test]
fn text_is_kept_but_its_mark() {
    assert_eq!(documents("a.txt", "caf\u{e9}\r\n".as_bytes()).unwrap(), ["caf\u{e9}\r\n"]);
    assert_eq!(documents("a.txt", "\u{feff}a".as_bytes()).unwrap(), ["a"]);
    assert_eq!(documents("a.rs", b"fn").unwrap(), ["fn"]);
    // Characters that lie across what is read at a time.
    let long = "a🦀".repeat(300_000);
    assert!(documents("a.txt", long.as_bytes()).unwrap() == [long]);
}

#[test]
fn what_is_not_text_says_where() {
    let binary = |what, at| Err(format!("{what} at byte offset {at}; the file must be UTF-8 text"));
    assert_eq!(documents("a.txt", b"ab\0c"), binary("a NUL byte", 2));
    assert_eq!(documents("a.txt", b"abc\xff\0"), binary("invalid UTF-8", 3));
    assert_eq!(documents("a.txt", b"a\0\xff"), binary("a NUL byte", 1));
    assert_eq!(documents("a.txt", b"abc\xe2\x82"), binary("invalid UTF-8", 3));
    let mut far = vec![b'a'; 700_000];
    far.push(0xFF);
    assert_eq!(documents("a.txt", &far), binary("invalid UTF-8", 700_000));
    assert!(documents("a.txt", b"").unwrap_err().starts_with("the file is empty"));
    assert!(
        documents("a.txt", "\u{feff}".as_bytes()).unwrap_err().starts_with("the file is empty")
    );
    let found = documents("d.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}\n");
    assert_eq!(found, binary("invalid UTF-8", 22));
}

#[test]
fn json_lines_take_the_field() {
    let text = "{\"text\":\"a\\n\",\"id\":1}\r\n  \n{\"text\":\"\"}\n{\"text\":\"b\"}";
    for name in ["d.jsonl", "d.json", "d.txt", "d"] {
        assert_eq!(documents(name, text.as_bytes()).unwrap(), ["a\n", "b"], "{name}");
    }
}

#[test]
fn bad_lines_are_named_and_what_would_be_right() {
    let skip = " (data.bad_lines = \"skip\" passes over such ones)";
    let error = |line: &str| {
        let text = format!("{{\"text\":\"a\"}}\n\n{line}");
        documents("d.jsonl", text.as_bytes()).unwrap_err()
    };
    assert_eq!(
        error("{\"body\":\"a\",\"id\":1}"),
        format!(
            "line 3: no field \"text\"; its fields are \"body\", \"id\" (set data.jsonl_field){skip}"
        )
    );
    assert_eq!(
        error("{}"),
        format!("line 3: no field \"text\"; its fields are none (set data.jsonl_field){skip}")
    );
    assert_eq!(
        error("{\"text\":4}"),
        format!("line 3: field \"text\" is a number; it must be a string{skip}")
    );
    assert_eq!(
        error("[1]"),
        format!("line 3: an array where an object with the field \"text\" is needed{skip}")
    );
    assert!(error("\"a\"").starts_with("line 3: a string where an object is needed"));
    assert!(error("{\"text\":").starts_with("line 3: not valid JSON: EOF"));
    assert!(
        documents("d.jsonl", b"\n{\"text\":\"\"}\n").unwrap_err().starts_with("the file is empty")
    );
    // Found in a text by its first line: the second is no prose either.
    let error = documents("d.txt", b"{\"text\":\"a\"}\n{\"text\":\n").unwrap_err();
    assert!(error.starts_with("line 2: not valid JSON"), "{error}");
}

#[test]
fn bad_lines_can_be_passed_over_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.jsonl");
    fs::write(
        &path,
        b"{\"text\":\"a\"}\n{\"text\":\n\"b\"\n{\"text\":\"\xff\"}\n{\"text\":\"c\"}\n",
    )
    .unwrap();
    let (found, passed) = documents_of(&path, &reading(BadLines::Skip)).unwrap();
    assert_eq!(found, ["a", "c"]);
    assert_eq!(passed, PassedOver { lines: 3, ..PassedOver::default() });
    fs::write(&path, b"{\"text\":\n").unwrap();
    let error = documents_of(&path, &reading(BadLines::Skip)).unwrap_err().to_string();
    assert!(error.contains("the file is empty"), "{error}");
}

#[test]
fn arrays_hold_strings_or_objects() {
    for name in ["a.json", "a.txt"] {
        let text = br#" [ "a", {"text": "b", "n": [1]}, "", "c" ] "#;
        assert_eq!(documents(name, text).unwrap(), ["a", "b", "c"], "{name}");
    }
    assert!(documents("a.json", b"[]").unwrap_err().starts_with("the file is empty"));
    let error = documents("a.json", b"[\"a\", 1]").unwrap_err();
    assert!(error.starts_with("element 2: a number where an object"), "{error}");
    let error = documents("a.json", b"[\"a\",\n\"b\"").unwrap_err();
    assert!(error.starts_with("line 2: not valid JSON: EOF"), "{error}");
    let error = documents("a.json", b"[\"a\"]\n[\"b\"]").unwrap_err();
    assert!(error.starts_with("line 1: an array where an object"), "{error}");
}

#[test]
fn messages_are_joined() {
    let line = br#"{"messages":[{"role":"user","content":"Hi"},{"from":"gpt","value":"Ho"}]}"#;
    assert_eq!(documents("a.jsonl", line).unwrap(), ["user: Hi\ngpt: Ho\n"]);
    let error = documents("a.jsonl", br#"{"messages":[{"role":"user"}]}"#).unwrap_err();
    assert!(error.starts_with("line 1: message 1 has no string \"content\""), "{error}");
    let error = documents("a.jsonl", br#"{"messages":"Hi"}"#).unwrap_err();
    assert!(
        error.starts_with("line 1: field \"messages\" is a string; it must be a list"),
        "{error}"
    );
}

#[test]
fn compressed_files_are_what_is_in_them() {
    let lines = b"{\"text\":\"a\"}\n{\"text\":\"b\"}\n";
    let twice = [gzip(lines), gzip(lines)].concat();
    let zstd = |content: &[u8]| zstd::encode_all(content, 1).unwrap();
    for (name, content) in [
        ("a.jsonl.gz", gzip(lines)),
        ("a.zst", zstd(lines)),
        ("a.json.zst", zstd(lines)),
        ("a", gzip(lines)),
    ] {
        assert_eq!(documents(name, &content).unwrap(), ["a", "b"], "{name}");
    }
    assert_eq!(documents("a.jsonl.gz", &twice).unwrap(), ["a", "b", "a", "b"]);
    assert_eq!(documents("a.txt.gz", &gzip(b"prose")).unwrap(), ["prose"]);
    assert_eq!(documents("a.json.gz", &gzip(b"[\"a\"]")).unwrap(), ["a"]);
    let cut = &gzip(&b"prose ".repeat(100_000))[..300];
    let error = documents("a.txt.gz", cut).unwrap_err();
    assert!(error.starts_with("cannot be read: "), "{error}");
    let error = documents("a.txt.gz", &gzip(&gzip(b"a"))).unwrap_err();
    assert!(error.starts_with("is gzip data once more"), "{error}");
    assert!(documents("a.txt.gz", &gzip(b"")).unwrap_err().starts_with("the file is empty"));
}

#[test]
fn folder_is_recursive_and_sorted_by_path() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("b")).unwrap();
    fs::write(folder.path().join("c.txt"), "third").unwrap();
    fs::write(folder.path().join("b/x.jsonl"), "{\"text\":\"second\"}\n\n{\"text\":\"\"}\n")
        .unwrap();
    fs::write(folder.path().join("a.md"), "first").unwrap();
    fs::write(folder.path().join("d.txt.gz"), gzip(b"fourth")).unwrap();
    fs::write(folder.path().join("picture.png"), [0u8, 1]).unwrap();
    fs::write(folder.path().join("empty.txt"), "").unwrap();
    fs::write(folder.path().join(".hidden.txt"), "no").unwrap();
    let (found, passed) = documents_of(folder.path(), &reading(BadLines::Error)).unwrap();
    assert_eq!(found, ["first", "second", "third", "fourth"]);
    assert_eq!(passed, PassedOver { files: 2, documents: 1, lines: 0 });
}

#[test]
fn paths_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["z.txt", "a.rs"].map(|name| folder.path().join(name));
    fs::write(&paths[0], "z").unwrap();
    fs::write(&paths[1], "a").unwrap();
    let files = Files::list(paths.iter().map(PathBuf::as_path)).unwrap();
    assert_eq!(
        files.files.iter().map(|file| &file.path).collect::<Vec<_>>(),
        [&paths[0], &paths[1]]
    );
    assert_eq!((files.of_path.clone(), files.bytes()), (vec![1, 1], 2));
}

#[test]
fn errors_name_the_path() {
    let message = |path: &Path| Files::list([path].into_iter()).unwrap_err().to_string();
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere.txt");
    assert_eq!(message(&missing), format!("{}: no such file or folder", missing.display()));
    fs::write(folder.path().join("picture.png"), [0u8, 1]).unwrap();
    let found = message(folder.path());
    let expected = "the folder has no usable files: 1 found, none non-empty with an ending \
                    among .txt .text .md";
    assert!(found.contains(expected), "{found}");
    let none = Files::list(std::iter::empty()).unwrap_err().to_string();
    assert!(none.starts_with("data.source: names no documents"), "{none}");
    if cfg!(unix) {
        assert_eq!(message(Path::new("/dev/null")), "/dev/null: is neither a file nor a folder");
    }
}
