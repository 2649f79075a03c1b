//! Lists the files of text in a folder, recursively, in an order that does not depend on the file
//! system.

use std::path::Path;

use super::SourceFile;
use crate::data::error::DataError;

/// The endings of the files that a folder is searched for, each also with `.gz` or `.zst` behind
/// it; a file named directly may have any ending.
pub const ENDINGS: [&str; 7] = ["txt", "text", "md", "json", "jsonl", "ndjson", "parquet"];

/// A folder's files.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Non-empty files with a known ending, sorted by path.
    pub(super) usable: Vec<SourceFile>,
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
            if metadata.is_file() && metadata.len() > 0 && has_known_ending(&path) {
                listing.usable.push(SourceFile { path, bytes: metadata.len() });
            } else if !metadata.is_dir() {
                listing.skipped += 1;
            }
        }
    }
    listing.usable.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(listing)
}

fn has_known_ending(path: &Path) -> bool {
    let ending = super::detect::ending(path);
    ENDINGS.iter().any(|known| ending == *known)
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
        std::fs::write(folder.path().join("c.jsonl.GZ"), "a").unwrap();
        std::fs::write(folder.path().join("d.gz"), "a").unwrap();
        let listing = list(folder.path()).unwrap();
        let paths: Vec<_> = listing.usable.iter().map(|file| file.path.clone()).collect();
        assert_eq!(paths, ["a.TXT", "b.txt", "c.jsonl.GZ"].map(|name| folder.path().join(name)));
        assert_eq!(listing.skipped, 1);
    }
}
