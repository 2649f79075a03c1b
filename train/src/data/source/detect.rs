//! What a file is, by its content first and its name second.
//!
//! A file that is something else than its name says is read as what it is, or refused: what is not
//! prose is never taken for it.

use std::path::Path;

use serde_json::Value;
use serde_json::error::Category;

use super::compressed::Opened;
use crate::data::error::DataError;

/// How a content is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One document.
    Text,
    /// A document a line.
    JsonLines,
    /// A document an element.
    JsonArray,
    /// A document a row.
    Parquet,
}

const PARQUET: &[u8] = b"PAR1";

/// What other formats begin with.
const FOREIGN: [(&[u8], &str); 24] = [
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a zip archive (as docx, xlsx, epub and npz files are)"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xD0\xCF\x11\xE0", "an old Office document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xFF\xD8\xFF", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a RIFF file (sound or image)"),
    (b"\x1F\x8B", "gzip data once more"),
    (b"\x28\xB5\x2F\xFD", "Zstandard data once more"),
    (b"BZh", "bzip2 data"),
    (b"\xFD7zXZ", "xz data"),
    (b"7z\xBC\xAF", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x04\x22\x4D\x18", "LZ4 data"),
    (b"ARROW1", "an Arrow file"),
    (b"FEA1", "a Feather file"),
    (b"Obj\x01", "an Avro file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "GGUF weights"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x80\x04\x95", "a Python pickle"),
];

/// What the text encodings begin with that are not read.
const OTHER_ENCODINGS: [(&[u8], &str); 2] =
    [(b"\xFF\xFE", "UTF-16 or UTF-32 text"), (b"\xFE\xFF", "UTF-16 text")];

/// A file's ending in small letters, without that of a compression.
pub(in crate::data) fn ending(path: &Path) -> String {
    let of = |path: &Path| {
        path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
    };
    match (of(path).as_str(), path.file_stem()) {
        ("gz" | "zst", Some(stem)) => of(Path::new(stem)),
        (ending, _) => ending.to_string(),
    }
}

/// What a file is.
///
/// # Errors
/// [`DataError::Foreign`] for a format that is not read, and for a name that promises another.
pub(super) fn kind(path: &Path, opened: &Opened<'_>) -> Result<Kind, DataError> {
    let foreign = |message: String| DataError::Foreign { path: path.to_path_buf(), message };
    let begin = opened.begin.as_slice();
    let ending = ending(path);
    if begin.starts_with(PARQUET) {
        return match opened.compression {
            None => Ok(Kind::Parquet),
            Some(_) => Err(foreign(
                "is a compressed Parquet file; Parquet compresses itself, decompress the file"
                    .to_string(),
            )),
        };
    }
    if ending == "parquet" {
        return Err(foreign(
            "its name says Parquet, but its content is not; rename it, or give the file itself"
                .to_string(),
        ));
    }
    let begins = |known: &&(&[u8], &str)| begin.starts_with(known.0);
    if let Some((_, what)) = FOREIGN.iter().find(begins) {
        return Err(foreign(format!("is {what}, not text; convert it to text or JSON lines")));
    }
    if begin.get(257..262) == Some(b"ustar") {
        return Err(foreign("is a tar archive, not text; unpack it".to_string()));
    }
    if let Some((_, what)) = OTHER_ENCODINGS.iter().find(begins) {
        return Err(foreign(format!("is {what}; convert it to UTF-8")));
    }
    // The end of what was read may cut a character.
    let text = begin.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let text = text.trim_start_matches('\u{feff}').trim_start();
    match ending.as_str() {
        "jsonl" | "ndjson" => Ok(Kind::JsonLines),
        "json" => json(text, opened.whole).map_err(|message| foreign(message.to_string())),
        _ => Ok(hidden_json(text, opened.whole).unwrap_or(Kind::Text)),
    }
}

/// What a file called `.json` is.
fn json(text: &str, whole: bool) -> Result<Kind, &'static str> {
    match text.bytes().next() {
        Some(b'{') if first_line(text, whole).is_object() => Ok(Kind::JsonLines),
        Some(b'{') if begins_with_value(text) => Err(
            "is one JSON object over several lines; an object a line (JSON lines) or an array of \
             them is needed",
        ),
        Some(b'[') => match first_line(text, whole) {
            // A line for each of several arrays.
            Line::Array { more: true } => Ok(Kind::JsonLines),
            _ if is_array(text) => Ok(Kind::JsonArray),
            _ => Err("is not an array of JSON objects or strings"),
        },
        None => Ok(Kind::Text), // blank: refused as such
        _ => Err("its name says JSON, but its content is not; rename it if it is prose"),
    }
}

/// JSON in a file whose name does not say so.
fn hidden_json(text: &str, whole: bool) -> Option<Kind> {
    match text.bytes().next()? {
        b'{' => match first_line(text, whole) {
            // Prose may begin with an object that it talks about; then it goes on as prose.
            Line::Object { next: None | Some('{') } => Some(Kind::JsonLines),
            _ => None,
        },
        b'[' => {
            let several = matches!(first_line(text, whole), Line::Array { more: true });
            (!several && is_array(text)).then_some(Kind::JsonArray)
        }
        _ => None,
    }
}

/// What the first line is.
enum Line {
    /// A JSON object; what the next line that is not blank begins with.
    Object {
        next: Option<char>,
    },
    /// A JSON array; whether there is more after it.
    Array {
        more: bool,
    },
    Other,
}

impl Line {
    fn is_object(&self) -> bool {
        matches!(self, Self::Object { .. })
    }
}

fn first_line(text: &str, whole: bool) -> Line {
    let (line, rest) = match text.split_once('\n') {
        Some(parts) => parts,
        None if whole => (text, ""),
        // A first line that is longer than what was read: right as far as it goes.
        None if text.starts_with('{') && begins_with_value(text) => {
            return Line::Object { next: None };
        }
        None => return Line::Other,
    };
    let rest = rest.trim_start();
    match serde_json::from_str(line) {
        Ok(Value::Object(_)) => Line::Object { next: rest.chars().next() },
        Ok(Value::Array(_)) => Line::Array { more: !rest.is_empty() },
        _ => Line::Other,
    }
}

/// Whether a text begins with a JSON value, or is the beginning of one.
fn begins_with_value(text: &str) -> bool {
    let first = serde_json::Deserializer::from_str(text).into_iter::<Value>().next();
    first.is_some_and(|first| match first {
        Ok(_) => true,
        Err(error) => error.classify() == Category::Eof,
    })
}

/// Whether a text that begins with a bracket is an array of objects or strings, as far as its first
/// element shows.
fn is_array(text: &str) -> bool {
    let inside = text.strip_prefix('[').unwrap_or(text).trim_start();
    if let Some(rest) = inside.strip_prefix(']') {
        return rest.trim().is_empty();
    }
    if !inside.starts_with(['{', '"']) {
        return false;
    }
    let mut values = serde_json::Deserializer::from_str(inside).into_iter::<Value>();
    match values.next() {
        Some(Ok(_)) => {
            let after = inside[values.byte_offset()..].trim_start();
            after.is_empty() || after.starts_with([',', ']'])
        }
        Some(Err(error)) => error.classify() == Category::Eof,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn found(name: &str, content: &[u8]) -> Result<Kind, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let read = AtomicU64::new(0);
        let kind = super::super::compressed::open(&path, &read).and_then(|o| kind(&path, &o));
        kind.map_err(|error| error.to_string().split_once(": ").unwrap().1.to_string())
    }

    #[test]
    fn json_is_found_under_any_name() {
        let lines = "{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n";
        for name in ["a.json", "a.txt", "a", "a.jsonl", "a.csv"] {
            assert_eq!(found(name, lines.as_bytes()), Ok(Kind::JsonLines), "{name}");
        }
        assert_eq!(found("a.txt", b"\xEF\xBB\xBF {\"text\":\"a\"}"), Ok(Kind::JsonLines));
        for array in ["[]", "[\"a\", \"b\"]", "[\n  {\"text\": \"a\"},\n  {\"text\": \"b\"}\n]\n"] {
            for name in ["a.json", "a.txt"] {
                assert_eq!(found(name, array.as_bytes()), Ok(Kind::JsonArray), "{name} {array}");
            }
        }
        // Longer than what is looked at.
        let long = format!("{{\"text\":\"{}\"}}", "a ".repeat(100_000));
        assert_eq!(found("a.txt", long.as_bytes()), Ok(Kind::JsonLines));
        assert_eq!(found("a.txt", format!("[{long}]").as_bytes()), Ok(Kind::JsonArray));
    }

    #[test]
    fn prose_that_begins_with_a_bracket_is_prose() {
        for text in [
            "[Scene: a heath]\nThunder.",
            "[\"Come,\" he said] and went.",
            "[1] The first reference.",
            "{ int i; }\nA block of code.",
            "{\"a\": 1}\nis an object of JSON, as is explained below.",
            "{}",
            "[1, 2]\n[3]\n",
        ] {
            let expected = if text == "{}" { Kind::JsonLines } else { Kind::Text };
            assert_eq!(found("a.txt", text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_text_is_refused_by_name() {
        let error = |name: &str, content: &[u8]| found(name, content).unwrap_err();
        assert_eq!(
            error("a.txt", b"%PDF-1.7\n"),
            "is a PDF document, not text; convert it to text or JSON lines"
        );
        for (magic, what) in FOREIGN {
            if !what.ends_with("once more") {
                assert!(error("a.txt", magic).contains(what), "{what}");
            }
        }
        assert!(error("a.txt", b"\xFF\xFEa\0").ends_with("convert it to UTF-8"));
        let mut tar = vec![b'a'; 300];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(error("a", &tar).contains("a tar archive"));
        assert!(error("a.parquet", b"text").starts_with("its name says Parquet"));
        assert!(error("a.txt.gz", b"text").starts_with("its name says gzip"));
        assert!(error("a.zst", b"text").starts_with("its name says Zstandard"));
        assert!(error("a.json", b"Once upon a time").starts_with("its name says JSON"));
        assert!(error("a.json", b"{\n \"text\": \"a\"\n}").starts_with("is one JSON object over"));
        assert!(error("a.json", b"[1, 2]").starts_with("is not an array of JSON objects"));
        assert_eq!(found("a.txt", b"PAR1...."), Ok(Kind::Parquet));
    }

    #[test]
    fn the_ending_is_that_below_the_compression() {
        let of = |name: &str| ending(Path::new(name));
        assert_eq!(
            [of("a.jsonl.gz"), of("A.JSON"), of("b.gz"), of("c")],
            ["jsonl", "json", "", ""]
        );
    }
}
