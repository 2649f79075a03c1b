//! What a command is to make: a folder that is not there yet or empty, a file that is not there.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Result, UsageError};

/// Refuses a folder's name, given with an option, that is taken by a file or by a folder with
/// something in it.
///
/// # Errors
///
/// It is, or one cannot see whether it is.
pub(in crate::commands) fn check_new(option: &str, target: &Path) -> Result<()> {
    let taken = |what: &str| {
        let problem = format!("{option} {}: {what}; give another folder", target.display());
        Err(UsageError(problem).into())
    };
    if target.is_dir() {
        let entries = fs::read_dir(target);
        let mut entries = entries.with_context(|| format!("{option} {}", target.display()))?;
        if entries.next().is_some() {
            return taken("it is there and is not empty");
        }
    } else if target.exists() {
        return taken("it is a file");
    }
    Ok(())
}

/// Refuses names of files, each given with its option, that a file or a folder has already, or that
/// lie in no folder. (What is neither, a terminal for instance, can be written.)
///
/// # Errors
///
/// One is taken, or has no place.
pub(in crate::commands) fn check_new_files<const N: usize>(
    files: [(&str, Option<&PathBuf>); N],
) -> Result<()> {
    let named = files.into_iter().filter_map(|(option, path)| Some((option, path?)));
    for (option, path) in named {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let what = if path.is_dir() {
            "it is a folder; give a file"
        } else if path.is_file() {
            "it is there already; give another file, or delete it"
        } else if folder.is_some_and(|folder| !folder.is_dir()) {
            "the folder is not there; make it, or give another file"
        } else {
            continue;
        };
        return Err(UsageError(format!("{option} {}: {what}", path.display())).into());
    }
    Ok(())
}
