//! What a run that was killed has left half done.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CheckpointError, FOLDER, PARTIAL, RUN_FILE, SET_ASIDE, step_of};
use crate::durable::{DELETED, remove_if_there, temporary_of};
use crate::kill_point;

/// Deletes checkpoints that were never finished, or not quite deleted, and files that were to take
/// the place of others (`files` in the run's folder, and its configuration). Only what this program
/// names so; only for somebody who alone writes to the run. Gives the paths.
///
/// # Errors
///
/// The folder cannot be read, or something in it not deleted.
pub fn remove_leftovers(run_dir: &Path, files: &[&str]) -> Result<Vec<PathBuf>, CheckpointError> {
    let folder = run_dir.join(FOLDER);
    let mut found = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(&folder).map_err(CheckpointError::io(&folder, "read"))? {
            let entry = entry.map_err(CheckpointError::io(&folder, "read"))?;
            if is_leftover(&entry.file_name().to_string_lossy()) {
                found.push(entry.path());
            }
        }
    }
    let replacing = [RUN_FILE].iter().chain(files).map(|name| temporary_of(&run_dir.join(name)));
    found.extend(replacing.filter(|path| path.is_file()));
    found.sort_unstable();
    for path in &found {
        remove_if_there(path)?;
        kill_point::here();
    }
    Ok(found)
}

/// `.step-00000400.partial`, `.step-00000400.deleted`, `.step-00000400.set-aside.deleted`.
fn is_leftover(name: &str) -> bool {
    let Some(name) = name.strip_prefix('.') else { return false };
    let deleted = || {
        let name = name.strip_suffix(DELETED)?;
        Some(name.strip_suffix(SET_ASIDE).unwrap_or(name))
    };
    name.strip_suffix(PARTIAL).or_else(deleted).is_some_and(|name| step_of(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_is_deleted() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = run.path().join(FOLDER);
        let ours = [
            ".step-00000002.partial",
            ".step-00000004.deleted",
            ".step-00000006.set-aside.deleted",
        ];
        let others = [
            "step-00000002",
            "step-00000008.set-aside",
            ".step-2.partial",
            ".step-00000002.mine",
            ".git",
            "step-00000004.partial",
        ];
        for name in ours.iter().chain(&others) {
            fs::create_dir_all(checkpoints.join(name)).unwrap();
            fs::write(checkpoints.join(name).join("file"), "").unwrap();
        }
        for name in ["run.toml.tmp", "metrics.jsonl.tmp", "notes.tmp", "run.toml"] {
            fs::write(run.path().join(name), "").unwrap();
        }
        let removed = remove_leftovers(run.path(), &["metrics.jsonl"]).unwrap();
        let expected: Vec<PathBuf> = ours
            .iter()
            .map(|name| checkpoints.join(name))
            .chain(["metrics.jsonl.tmp", "run.toml.tmp"].map(|name| run.path().join(name)))
            .collect();
        assert_eq!(removed, expected);
        let left: std::collections::BTreeSet<String> = fs::read_dir(&checkpoints)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(left, others.iter().map(ToString::to_string).collect());
        assert!(run.path().join("notes.tmp").is_file() && run.path().join("run.toml").is_file());
        assert!(remove_leftovers(run.path(), &["metrics.jsonl"]).unwrap().is_empty());
    }
}
