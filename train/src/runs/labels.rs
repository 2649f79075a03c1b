//! What people write on a run: tags, a note, and whether it is out of the way.

use std::collections::BTreeSet;
use std::path::Path;

use burn_deepseek::weights::{SETTINGS_BYTES, read_regular_text};
use serde::{Deserialize, Serialize};

use crate::durable::replace_file;
use crate::failure::{Context, Result, UsageError};

/// Name of the file in a run's folder.
pub const LABELS_FILE: &str = "labels.json";
/// Longest tag, in characters.
const LONGEST_TAG: usize = 40;
/// Longest note, in bytes.
const LONGEST_NOTE: usize = 64 << 10;

/// What people write on a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Labels {
    /// Words to find it by.
    pub tags: BTreeSet<String>,
    /// Anything.
    pub note: String,
    /// Whether lists leave it out.
    pub archived: bool,
}

impl Labels {
    /// Those of a run; none where nothing was written.
    ///
    /// # Errors
    /// A file that cannot be read or is of something else.
    pub fn read(run: &Path) -> Result<Self> {
        let path = run.join(LABELS_FILE);
        let text = match read_regular_text(&path, SETTINGS_BYTES) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            read => read.with_context(|| path.display().to_string())?,
        };
        serde_json::from_str(&text)
            .map_err(|error| UsageError(format!("{}: {error}", path.display())).into())
    }

    /// Writes them to a run, whole or not at all.
    ///
    /// # Errors
    /// A tag or a note that is too long; a file that cannot be written.
    pub fn write(&self, run: &Path) -> Result<()> {
        for tag in &self.tags {
            let wrong =
                tag.is_empty() || tag.contains(|c: char| c.is_whitespace() || c.is_control());
            if wrong || tag.chars().count() > LONGEST_TAG {
                let problem = format!(
                    "tag {tag:?} must be a word of at most {LONGEST_TAG} characters, without spaces"
                );
                return Err(UsageError(problem).into());
            }
        }
        if self.note.len() > LONGEST_NOTE {
            let problem =
                format!("the note has {} bytes; the most is {LONGEST_NOTE}", self.note.len());
            return Err(UsageError(problem).into());
        }
        let text = serde_json::to_string_pretty(self)? + "\n";
        Ok(replace_file(&run.join(LABELS_FILE), |out| out.write_all(text.as_bytes()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_written_and_read() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(Labels::read(run.path()).unwrap(), Labels::default());
        let tags = ["good", "baseline"].map(String::from).into();
        let labels = Labels { tags, note: "the first\nthat went well".into(), archived: true };
        labels.write(run.path()).unwrap();
        assert_eq!(Labels::read(run.path()).unwrap(), labels);
        for tag in ["", "two words", "a\u{1b}[31m", &"x".repeat(41)] {
            let labels = Labels { tags: [tag.to_string()].into(), ..Labels::default() };
            let error = labels.write(run.path()).unwrap_err().to_string();
            assert!(error.contains("must be a word"), "{error}");
        }
        let long = Labels { note: "n".repeat(LONGEST_NOTE + 1), ..Labels::default() };
        assert!(long.write(run.path()).unwrap_err().to_string().contains("the most is 65536"));
        std::fs::write(run.path().join(LABELS_FILE), "{\"tag\": 1}").unwrap();
        let error = Labels::read(run.path()).unwrap_err().to_string();
        assert!(error.contains("labels.json: unknown field `tag`"), "{error}");
    }
}
