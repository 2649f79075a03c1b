//! Lists the text files of a folder, recursively, in an order that does not depend on the file
//! system.

use std::path::{Path, PathBuf};

use crate::data::error::DataError;

/// The endings of the files that a folder is searched for; a file named directly may have any
/// ending.
pub const TEXT_ENDINGS: [&str; 5] = ["txt", "text", "md", "jsonl", "ndjson"];

/// A folder's files.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Non-empty files with a text ending, sorted by path.
    pub(super) usable: Vec<PathBuf>,
    /// How many other files there are, hidden ones aside.
    pub(super) skipped: usize,
}

/// Lists a folder. Hidden entries are ignored; links to files are followed, links to folders are
/// not (they can loop).
pub(super) fn list(folder: &Path) -> Result<Listing, DataError> {
    let mut listing = Listing::default();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(current) = pending.pop() {
        for entry in std::fs::read_dir(&current).map_err(|e| DataError::read(&current, e))? {
            let entry = entry.map_err(|e| DataError::read(&current, e))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let kind = entry.file_type().map_err(|e| DataError::read(&path, e))?;
            if kind.is_dir() {
                pending.push(path);
                continue;
            }
            let metadata = std::fs::metadata(&path).map_err(|e| DataError::read(&path, e))?;
            if metadata.is_file() && metadata.len() > 0 && has_text_ending(&path) {
                listing.usable.push(path);
            } else if !metadata.is_dir() {
                listing.skipped += 1;
            }
        }
    }
    listing.usable.sort();
    Ok(listing)
}

fn has_text_ending(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    TEXT_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A link to the folder itself would otherwise be walked for ever.
    #[test]
    fn linked_folders_do_not_loop_and_linked_files_count() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.TXT"), "a").unwrap();
        symlink(folder.path(), folder.path().join("loop")).unwrap();
        symlink(folder.path().join("a.TXT"), folder.path().join("b.txt")).unwrap();
        let listing = list(folder.path()).unwrap();
        assert_eq!(listing.usable, [folder.path().join("a.TXT"), folder.path().join("b.txt")]);
        assert_eq!(listing.skipped, 0);
    }
}
