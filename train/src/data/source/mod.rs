//! Where documents come from: text files, JSONL files, folders of both, or the built-in corpus.

mod file;
mod folder;

use std::path::{Path, PathBuf};

use super::corpus::Grammar;
use super::error::DataError;

/// One document: what is packed between two end-of-document tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The text; never empty.
    pub text: String,
    /// ln p(text, end of document) in nats where the distribution it was drawn from is known.
    pub log_prob: Option<f64>,
}

impl From<String> for Document {
    fn from(text: String) -> Self {
        Self { text, log_prob: None }
    }
}

/// The documents of a source, in a fixed order, and what was passed over.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Documents {
    /// What they are, for people: "builtin", or the paths.
    pub description: String,
    /// The documents.
    pub documents: Vec<Document>,
    /// Files of folders that were passed over: empty, or without the ending of a text file.
    pub skipped_files: usize,
    /// JSONL documents that were passed over because their text is empty.
    pub skipped_documents: usize,
}

impl Documents {
    /// Generates the built-in corpus.
    ///
    /// # Errors
    /// [`DataError::Config`] where `target_bytes` is 0.
    pub fn builtin(seed: u64, target_bytes: usize) -> Result<Self, DataError> {
        let generated = Grammar::english().generate(seed, target_bytes);
        if generated.is_empty() {
            let message = "is 0; the size of the corpus to generate, at least 1".to_string();
            return Err(DataError::Config { field: "data.builtin_bytes", message });
        }
        let keep = |d: super::corpus::GeneratedDocument| Document {
            text: d.text,
            log_prob: Some(d.log_prob),
        };
        Ok(Self {
            description: "builtin".to_string(),
            documents: generated.into_iter().map(keep).collect(),
            ..Self::default()
        })
    }

    /// Reads files and folders in the order given; a folder's files are sorted by path.
    ///
    /// A file ending in `.jsonl` or `.ndjson` has one document a line, in the string field
    /// `jsonl_field`. Any other file that is named is one document of text. A folder is read
    /// recursively; see [`TEXT_ENDINGS`].
    ///
    /// # Errors
    /// [`DataError`] naming the file and what is wrong: missing, unreadable, empty, not UTF-8 text
    /// (with the byte offset), a bad JSONL line (with its number), a folder without usable files.
    pub fn read(paths: &[PathBuf], jsonl_field: &str) -> Result<Self, DataError> {
        let mut all = Self::default();
        for path in paths {
            let metadata = std::fs::metadata(path).map_err(|e| DataError::read(path, e))?;
            if metadata.is_dir() {
                all.read_folder(path, jsonl_field)?;
            } else if metadata.is_file() {
                all.read_file(path, jsonl_field)?;
            } else {
                return Err(DataError::NotAFile { path: path.clone() });
            }
        }
        if all.documents.is_empty() {
            let message =
                "names no documents; give at least one text file, JSONL file or folder".to_string();
            return Err(DataError::Config { field: "data.source", message });
        }
        let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        all.description = names.join(", ");
        Ok(all)
    }

    fn read_file(&mut self, path: &Path, jsonl_field: &str) -> Result<(), DataError> {
        let text = file::read_text(path)?;
        if file::is_jsonl(path) {
            let (documents, skipped) = file::parse_jsonl(path, &text, jsonl_field)?;
            self.documents.extend(documents.into_iter().map(Document::from));
            self.skipped_documents += skipped;
        } else {
            self.documents.push(Document::from(text));
        }
        Ok(())
    }

    fn read_folder(&mut self, folder: &Path, jsonl_field: &str) -> Result<(), DataError> {
        let listing = folder::list(folder)?;
        if listing.usable.is_empty() {
            return Err(DataError::EmptyFolder {
                path: folder.to_path_buf(),
                found: listing.skipped,
                endings: folder::TEXT_ENDINGS.map(|ending| format!(".{ending}")).join(" "),
            });
        }
        self.skipped_files += listing.skipped;
        listing.usable.iter().try_for_each(|path| self.read_file(path, jsonl_field))
    }
}

pub use folder::TEXT_ENDINGS;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn texts(documents: &Documents) -> Vec<&str> {
        documents.documents.iter().map(|d| d.text.as_str()).collect()
    }

    fn message(path: &Path) -> String {
        Documents::read(&[path.to_path_buf()], "text").unwrap_err().to_string()
    }

    #[test]
    fn builtin_knows_its_probabilities() {
        let documents = Documents::builtin(1, 500).unwrap();
        assert!(documents.documents.iter().all(|d| d.log_prob.is_some()));
        let error = Documents::builtin(1, 0).unwrap_err().to_string();
        assert!(error.starts_with("data.builtin_bytes: is 0"), "{error}");
    }

    #[test]
    fn folder_is_recursive_and_sorted_by_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("c.txt"), "third").unwrap();
        fs::write(folder.path().join("b/x.jsonl"), "{\"text\":\"second\"}\n\n{\"text\":\"\"}\n")
            .unwrap();
        fs::write(folder.path().join("a.md"), "first").unwrap();
        fs::write(folder.path().join("picture.png"), [0u8, 1]).unwrap();
        fs::write(folder.path().join("empty.txt"), "").unwrap();
        fs::write(folder.path().join(".hidden.txt"), "no").unwrap();
        let documents = Documents::read(&[folder.path().to_path_buf()], "text").unwrap();
        assert_eq!(texts(&documents), ["first", "second", "third"]);
        assert_eq!((documents.skipped_files, documents.skipped_documents), (2, 1));
        assert!(documents.documents.iter().all(|d| d.log_prob.is_none()));
    }

    #[test]
    fn paths_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["z.txt", "a.rs"].map(|name| folder.path().join(name));
        fs::write(&paths[0], "z").unwrap();
        fs::write(&paths[1], "a").unwrap();
        let documents = Documents::read(&paths, "text").unwrap();
        assert_eq!(texts(&documents), ["z", "a"]);
        assert!(
            documents.description.ends_with("a.rs") && documents.description.contains("z.txt, ")
        );
    }

    #[test]
    fn errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("nowhere.txt");
        assert_eq!(message(&missing), format!("{}: no such file or folder", missing.display()));
        fs::write(folder.path().join("picture.png"), [0u8, 1]).unwrap();
        let found = message(folder.path());
        let expected = "the folder has no usable files: 1 found, none non-empty with an ending \
                        among .txt .text .md";
        assert!(found.contains(expected), "{found}");
        let none = Documents::read(&[], "text").unwrap_err().to_string();
        assert!(none.starts_with("data.source: names no documents"), "{none}");
        if cfg!(unix) {
            let device = PathBuf::from("/dev/null");
            assert_eq!(message(&device), "/dev/null: is neither a file nor a folder");
        }
    }
}
