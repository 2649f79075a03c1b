//! What a command is to make: a folder that is not there yet or empty, a file that is not there.

use std::fs;
use std::path::Path;

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

/// Refuses a file's name, given with an option, that a file or a folder has already, or that lies in
/// no folder. (What is neither, a terminal for instance, can be written.)
///
/// # Errors
///
/// It is taken, or has no place.
pub(in crate::commands) fn check_new_file(option: &str, target: &Path) -> Result<()> {
    check_not_taken(option, target)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        let what = "the folder is not there; make it, or give another file";
        return Err(UsageError(format!("{option} {}: {what}", target.display())).into());
    }
    Ok(())
}

/// [`check_new_file`] of one whose folder may be made first.
///
/// # Errors
///
/// It is taken.
pub(in crate::commands) fn check_not_taken(option: &str, target: &Path) -> Result<()> {
    let what = if target.is_dir() {
        "it is a folder; give a file"
    } else if target.is_file() {
        "it is there already; give another file, or delete it"
    } else {
        return Ok(());
    };
    Err(UsageError(format!("{option} {}: {what}", target.display())).into())
}
