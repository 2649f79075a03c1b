//! Folders of runs: a new one, that of a checkpoint, and the newest.

use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::config::RunConfig;
use crate::failure::{Context, Result, UsageError};

/// The first free `dir/name-001`, or the folder that the configuration names.
pub(super) fn new_run_dir(config: &RunConfig) -> Result<PathBuf> {
    let output = &config.output;
    if let Some(path) = &output.run_dir {
        if path.join(checkpoint::FOLDER).exists() {
            let problem = format!(
                "{} already holds a run; go on with --resume {0}, or give another --run-dir",
                path.display()
            );
            return Err(UsageError(problem).into());
        }
        std::fs::create_dir_all(path)
            .with_context(|| format!("{}: cannot create", path.display()))?;
        return Ok(path.clone());
    }
    std::fs::create_dir_all(&output.dir)
        .with_context(|| format!("{}: cannot create", output.dir.display()))?;
    for number in 1.. {
        let path = output.dir.join(format!("{}-{number:03}", output.name));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("{}: cannot create", path.display()));
            }
        }
    }
    unreachable!("the loop has no end of its own")
}

/// `RUN` of `RUN/checkpoints/step-N`.
pub(super) fn run_dir_of(checkpoint: &Path) -> Result<PathBuf> {
    let full = checkpoint.canonicalize().with_context(|| checkpoint.display().to_string())?;
    let run = full
        .parent()
        .and_then(Path::parent)
        .with_context(|| format!("{}: not in a run's folder", full.display()))?;
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| run.strip_prefix(here).ok().map(Path::to_path_buf));
    Ok(short.unwrap_or_else(|| run.to_path_buf()))
}

/// The run under `dir` whose newest checkpoint is the most recent.
pub(super) fn newest_run(dir: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir).map_err(|_| {
        UsageError(format!("--resume: there is no {} here; give the run's folder", dir.display()))
    })?;
    let runs = entries.filter_map(|entry| {
        let path = checkpoint::find(&entry.ok()?.path()).ok()?;
        let modified = path.metadata().and_then(|metadata| metadata.modified()).ok()?;
        Some((modified, path))
    });
    let newest = runs.max().map(|(_, path)| path);
    newest.ok_or_else(|| {
        UsageError(format!("--resume: no run in {} has a checkpoint yet", dir.display())).into()
    })
}
