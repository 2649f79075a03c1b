//! Finding the checkpoints of a run.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Checkpoint, CheckpointError, FOLDER, Purpose, STATE_FILE, step_of, step_of_any};
use crate::config::RunConfig;
use crate::failure::Result;

/// The checkpoint at `path`, or the newest of the run in `path`.
///
/// # Errors
///
/// There is none.
pub fn find(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.join(STATE_FILE).is_file() {
        return Ok(path.to_owned());
    }
    let newest = complete_in(path)?.pop().map(|(_, path)| path);
    newest.ok_or_else(|| CheckpointError::NotFound { path: path.to_owned() })
}

/// The step of a run's newest checkpoint; none where there is none, or none can be seen.
pub fn newest_step(run_dir: &Path) -> Option<u64> {
    complete_in(run_dir).ok()?.pop().map(|(step, _)| step)
}

/// The configuration of the checkpoint at `path`, or of the newest of the run in `path`, whatever
/// state its other files are in; none where there is no checkpoint.
///
/// # Errors
///
/// It cannot be read, is damaged, or is one that this version of the program does not take.
pub fn find_config(path: &Path) -> Result<Option<RunConfig>> {
    match Checkpoint::open(path, Purpose::Looking) {
        Ok(checkpoint) => Ok(Some(checkpoint.config()?)),
        Err(CheckpointError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a run's folder has checkpoints that were finished, set aside ones included.
///
/// # Errors
///
/// The folder cannot be read.
pub fn holds_a_run(run_dir: &Path) -> Result<bool, CheckpointError> {
    let folder = run_dir.join(FOLDER);
    if !folder.exists() {
        return Ok(false);
    }
    for entry in fs::read_dir(&folder).map_err(CheckpointError::io(&folder, "read"))? {
        let entry = entry.map_err(CheckpointError::io(&folder, "read"))?;
        if step_of_any(&entry.file_name().to_string_lossy()).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The complete checkpoints of a run by their steps, the newest last; those that are set aside are
/// not among them.
///
/// # Errors
///
/// The folder cannot be read.
pub fn complete_in(run_dir: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    complete(&run_dir.join(FOLDER))
}

/// The same of the folder that they are in; none where it is not there.
pub(super) fn complete(folder: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder).map_err(CheckpointError::io(folder, "read"))? {
        let entry = entry.map_err(CheckpointError::io(folder, "read"))?;
        found
            .extend(step_of(&entry.file_name().to_string_lossy()).map(|step| (step, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}
