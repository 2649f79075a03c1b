//! Reads one file as UTF-8 text, and JSONL text as documents.

use std::path::Path;

use serde_json::Value;

use crate::data::error::DataError;

/// Whether a path's ending says that the file has one JSON object a line.
pub(super) fn is_jsonl(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ending.eq_ignore_ascii_case("jsonl") || ending.eq_ignore_ascii_case("ndjson")
}

/// Reads a whole file; a byte order mark at its start is not text and is dropped.
pub(super) fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = std::fs::read(path).map_err(|e| DataError::read(path, e))?;
    let binary = |offset, what| DataError::Binary { path: path.to_path_buf(), offset, what };
    let nul = bytes.iter().position(|&byte| byte == 0);
    let text = String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        match nul {
            Some(nul) if nul < offset => binary(nul, "a NUL byte"),
            _ => binary(offset, "invalid UTF-8"),
        }
    })?;
    if let Some(offset) = nul {
        return Err(binary(offset, "a NUL byte"));
    }
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_string(),
        None => text,
    };
    if text.is_empty() {
        return Err(DataError::Empty { path: path.to_path_buf() });
    }
    Ok(text)
}

/// Takes the documents out of JSONL text; returns them and how many were empty. Blank lines are
/// passed over.
pub(super) fn parse_jsonl(
    path: &Path,
    text: &str,
    field: &str,
) -> Result<(Vec<String>, usize), DataError> {
    let mut documents = Vec::new();
    let mut skipped = 0;
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let document = parse_line(line, field).map_err(|message| DataError::Jsonl {
            path: path.to_path_buf(),
            line: index + 1,
            message,
        })?;
        if document.is_empty() {
            skipped += 1;
        } else {
            documents.push(document);
        }
    }
    if documents.is_empty() {
        return Err(DataError::Empty { path: path.to_path_buf() });
    }
    Ok((documents, skipped))
}

fn parse_line(line: &str, field: &str) -> Result<String, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("not valid JSON: {e}"))?;
    let Value::Object(mut object) = value else {
        return Err(format!(
            "{} where an object with the field \"{field}\" is needed",
            kind(&value)
        ));
    };
    match object.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("field \"{field}\" is {}; it must be a string", kind(&other))),
        None => {
            let names: Vec<String> = object.keys().map(|name| format!("\"{name}\"")).collect();
            let names = if names.is_empty() { "none".to_string() } else { names.join(", ") };
            Err(format!("no field \"{field}\"; its fields are {names} (set data.jsonl_field)"))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn read(bytes: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, bytes).unwrap();
        read_text(&path).map_err(|e| {
            let message = e.to_string();
            message.strip_prefix(&format!("{}: ", path.display())).unwrap().to_string()
        })
    }

    #[test]
    fn text_is_kept_but_its_mark() {
        assert_eq!(read("caf\u{e9}\r\n".as_bytes()).unwrap(), "caf\u{e9}\r\n");
        assert_eq!(read("\u{feff}a".as_bytes()).unwrap(), "a");
    }

    #[test]
    fn what_is_not_text_says_where() {
        let binary =
            |what, at| Err(format!("{what} at byte offset {at}; the file must be UTF-8 text"));
        assert_eq!(read(b"ab\0c"), binary("a NUL byte", 2));
        assert_eq!(read(b"abc\xff\0"), binary("invalid UTF-8", 3));
        assert_eq!(read(b"a\0\xff"), binary("a NUL byte", 1));
        assert!(read(b"").unwrap_err().starts_with("the file is empty"));
        assert!(read("\u{feff}".as_bytes()).unwrap_err().starts_with("the file is empty"));
    }

    fn jsonl(text: &str) -> Result<(Vec<String>, usize), String> {
        parse_jsonl(&PathBuf::from("d.jsonl"), text, "text").map_err(|e| e.to_string())
    }

    #[test]
    fn jsonl_takes_the_field() {
        let text = "{\"text\":\"a\\n\",\"id\":1}\r\n  \n{\"text\":\"\"}\n{\"text\":\"b\"}";
        assert_eq!(jsonl(text).unwrap(), (vec!["a\n".to_string(), "b".to_string()], 1));
    }

    #[test]
    fn jsonl_errors_name_line_and_field() {
        let first = "{\"text\":\"a\"}\n\n";
        let error = |line: &str| jsonl(&format!("{first}{line}")).unwrap_err();
        assert_eq!(
            error("{\"body\":\"a\",\"id\":1}"),
            "d.jsonl: line 3: no field \"text\"; its fields are \"body\", \"id\" (set \
             data.jsonl_field)"
        );
        assert_eq!(
            error("{}"),
            "d.jsonl: line 3: no field \"text\"; its fields are none (set data.jsonl_field)"
        );
        assert_eq!(
            error("{\"text\":4}"),
            "d.jsonl: line 3: field \"text\" is a number; it must be a string"
        );
        assert_eq!(
            error("[1]"),
            "d.jsonl: line 3: an array where an object with the field \"text\" is needed"
        );
        assert!(error("{\"text\":").starts_with("d.jsonl: line 3: not valid JSON: EOF"));
        assert!(
            jsonl("\n{\"text\":\"\"}\n").unwrap_err().starts_with("d.jsonl: the file is empty")
        );
    }
}
