//! Finding runs.

use std::path::{Path, PathBuf};

use crate::checkpoint::RUN_FILE;
use crate::failure::blamed;

/// How deep runs are looked for below a folder.
const DEEPEST: usize = 4;

/// Why there is no run to be had.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// Nothing of the name.
    #[error("{}: no such folder; give the folder of a run, or one with runs in it", .path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder of something else.
    #[error("{}: no run here: a run's folder has {RUN_FILE} in it", .path.display())]
    NoRun {
        /// What was asked for.
        path: PathBuf,
    },
}

blamed!(User: RunsError);

/// Whether a folder is that of a run.
pub fn is_run(folder: &Path) -> bool {
    folder.join(RUN_FILE).is_file()
}

/// The folders of runs in these folders or below them, in the order of their names. A folder that
/// cannot be read is passed over, as are links (which may lead in a circle).
///
/// # Errors
/// [`RunsError::NotFound`].
pub fn find_runs(folders: &[PathBuf]) -> Result<Vec<PathBuf>, RunsError> {
    let mut found = Vec::new();
    for folder in folders {
        if !folder.is_dir() {
            return Err(RunsError::NotFound { path: folder.clone() });
        }
        below(folder, 0, &mut found);
    }
    found.dedup();
    Ok(found)
}

fn below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if is_run(folder) {
        found.push(folder.to_owned());
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    if depth == DEEPEST {
        return;
    }
    let folders = entries.flatten().filter(|entry| {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir())
    });
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    folders.sort();
    folders.iter().for_each(|folder| below(folder, depth + 1, found));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_in_folders_and_below() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for run in ["runs/b-001", "runs/a-001", "runs/swept/f32/seed-0", "runs/.hidden", "runs/no"]
        {
            std::fs::create_dir_all(path(run).join("checkpoints")).unwrap();
            if run != "runs/no" {
                std::fs::write(path(run).join(RUN_FILE), "").unwrap();
            }
        }
        let found = find_runs(&[path("runs")]).unwrap();
        assert_eq!(found, ["runs/a-001", "runs/b-001", "runs/swept/f32/seed-0"].map(path));
        assert_eq!(find_runs(&[path("runs/b-001")]).unwrap(), [path("runs/b-001")]);
        let error = find_runs(&[path("gone")]).unwrap_err().to_string();
        assert!(error.contains("gone: no such folder"), "{error}");
    }
}
