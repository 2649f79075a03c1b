//! A folder that a command is to make: not there yet, or empty.

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
