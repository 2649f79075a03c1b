//! Where documents come from: files of several formats, folders of them, or the built-in corpus.
//!
//! Documents are handed over one after another, and a long text in parts, so that memory does not
//! grow with the corpus.

mod compressed;
mod detect;
mod folder;
mod json;
mod parquet;
mod record;
mod text;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::chat::ChatTemplate;
use super::corpus::{GeneratedDocument, Grammar};
use super::error::DataError;
use detect::Kind;
pub(super) use detect::ending;
pub use folder::ENDINGS;

/// What is done about a line, element or row that is not as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadLines {
    /// The data is refused, and the line named.
    #[default]
    Error,
    /// They are passed over and counted.
    Skip,
}

/// A piece of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    /// Whether the document ends with it.
    pub(super) ends: bool,
    /// Whether special tokens that the text spells are those tokens. Such a document comes whole.
    pub(super) special: bool,
}

/// Takes what a source hands over.
pub(super) type Sink<'a> = dyn FnMut(Part<'_>) -> Result<(), DataError> + 'a;

/// How files are read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The field of a JSON object, or the column of a Parquet file, that holds the text.
    pub(super) field: String,
    /// What is done about bad lines.
    pub(super) bad_lines: BadLines,
    /// What joins the messages of a conversation.
    pub(super) chat: ChatTemplate,
}

/// What was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct PassedOver {
    /// Files of folders: empty, or without the ending of a file of text.
    pub files: usize,
    /// Documents whose text is empty.
    pub documents: usize,
    /// Bad lines, with `data.bad_lines = "skip"`.
    pub lines: usize,
}

/// A file of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// The files that paths stand for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Files {
    /// In the order of the paths; those of a folder sorted by path.
    pub(super) files: Vec<SourceFile>,
    /// How many files of each path there are.
    pub(super) of_path: Vec<usize>,
    /// Files of folders that were passed over.
    pub(super) passed_over: usize,
}

impl Files {
    /// Lists files and folders in the order given. A file that is named may have any ending; a
    /// folder is read recursively for those of [`ENDINGS`].
    ///
    /// # Errors
    /// [`DataError`] naming the path: missing, neither file nor folder, empty, a folder without
    /// usable files.
    pub(super) fn list<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<Self, DataError> {
        let mut all = Self::default();
        for path in paths {
            let before = all.files.len();
            let metadata = std::fs::metadata(path).map_err(|e| DataError::read(path, e))?;
            if metadata.is_dir() {
                all.add_folder(path)?;
            } else if metadata.is_file() {
                all.files.push(SourceFile { path: path.to_path_buf(), bytes: metadata.len() });
            } else {
                return Err(DataError::NotAFile { path: path.to_path_buf() });
            }
            all.of_path.push(all.files.len() - before);
        }
        if all.files.is_empty() {
            let message =
                "names no documents; give at least one file of text or folder".to_string();
            return Err(DataError::Config { field: "data.source", message });
        }
        Ok(all)
    }

    fn add_folder(&mut self, folder: &Path) -> Result<(), DataError> {
        let listing = folder::list(folder)?;
        if listing.usable.is_empty() {
            return Err(DataError::EmptyFolder {
                path: folder.to_path_buf(),
                found: listing.skipped,
                endings: ENDINGS.map(|ending| format!(".{ending}")).join(" "),
            });
        }
        self.passed_over += listing.skipped;
        self.files.extend(listing.usable);
        Ok(())
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Hands over the documents of a file. `read` is told how many bytes of the file have been read.
///
/// # Errors
/// [`DataError`] naming the file and what is wrong: unreadable, empty, another format than its name
/// says, not UTF-8 text (with the byte offset), a bad line (with its number); and whatever `sink`
/// fails with.
pub(super) fn read_file(
    path: &Path,
    reading: &Reading,
    read: &AtomicU64,
    passed: &mut PassedOver,
    sink: &mut Sink<'_>,
) -> Result<(), DataError> {
    let begun = read.load(Ordering::Relaxed);
    let mut opened = compressed::open(path, read)?;
    let kind = detect::kind(path, &opened)?;
    let mut documents = 0_usize;
    let mut counting = |part: Part<'_>| {
        documents += usize::from(part.ends);
        sink(part)
    };
    match kind {
        Kind::Text => text::read(path, &mut opened.content, &mut counting)?,
        Kind::JsonLines => {
            json::read_lines(path, &mut opened.content, reading, passed, &mut counting)?
        }
        Kind::JsonArray => {
            json::read_array(path, &mut opened.content, reading, passed, &mut counting)?
        }
        Kind::Parquet => {
            parquet::read(path, reading, passed, &mut counting)?;
            let bytes = std::fs::metadata(path).map_err(|e| DataError::read(path, e))?.len();
            read.store(begun + bytes, Ordering::Relaxed);
        }
    }
    if documents == 0 {
        return Err(DataError::Empty { path: path.to_path_buf() });
    }
    Ok(())
}

/// Bytes of the built-in corpus at most.
const BUILTIN_BYTES: usize = 1 << 30;

/// Generates the built-in corpus.
///
/// # Errors
/// [`DataError::Config`] where `target_bytes` is 0 or too large.
pub(super) fn builtin(seed: u64, target_bytes: usize) -> Result<Vec<GeneratedDocument>, DataError> {
    if target_bytes > BUILTIN_BYTES {
        let message = format!(
            "is {target_bytes}; the corpus is generated in memory, at most {BUILTIN_BYTES} bytes of it"
        );
        return Err(DataError::Config { field: "data.builtin_bytes", message });
    }
    let generated = Grammar::english().generate(seed, target_bytes);
    if generated.is_empty() {
        let message = "is 0; the size of the corpus to generate, at least 1".to_string();
        return Err(DataError::Config { field: "data.builtin_bytes", message });
    }
    Ok(generated)
}

#[cfg(test)]
mod tests;
