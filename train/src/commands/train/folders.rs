//! Folders of runs: a new one, that of a checkpoint, and the newest; each is locked before anything
//! in it is changed.

use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::config::RunConfig;
use crate::failure::{Context, Result, UsageError};
use crate::fold::fold_on_terminal;
use crate::record::{METRICS_FILE, TIMELINE_FILE};
use crate::run_lock::RunLock;
use crate::stdout::write_stdout;
use crate::tensorboard::PARTIAL_EVENTS;

/// A run's folder, and the lock of it.
#[derive(Debug)]
pub(in crate::commands) struct RunFolder {
    /// Where it is.
    pub path: PathBuf,
    lock: RunLock,
}

impl RunFolder {
    /// Locks a folder that is there, and deletes what a run that was killed has left half done in
    /// it.
    pub fn lock(path: PathBuf) -> Result<Self> {
        let lock = RunLock::take(&path, |text| write_stdout(&text))?;
        if lock.is_held() {
            let ours = [METRICS_FILE, TIMELINE_FILE, PARTIAL_EVENTS];
            for leftover in checkpoint::remove_leftovers(&path, &ours)? {
                write_stdout(&fold_on_terminal(format!(
                    "deleted     {}: it was not finished\n",
                    leftover.display()
                )))?;
            }
        }
        Ok(Self { path, lock })
    }

    /// The folder that the configuration of a new run names, where it is there and has been trained
    /// in: it is known then whether it may be, before anything is prepared.
    pub fn named(config: &RunConfig) -> Result<Option<Self>> {
        let Some(path) = config.output.run_dir.as_ref().filter(|path| RunLock::is_known(path))
        else {
            return Ok(None);
        };
        let folder = Self::lock(path.clone())?;
        folder.takes_a_new_run()?;
        Ok(Some(folder))
    }

    /// The first free `dir/name-001`, or the folder that the configuration names.
    pub fn new(config: &RunConfig) -> Result<Self> {
        let output = &config.output;
        let cannot_create = |path: &Path| format!("{}: cannot create", path.display());
        if let Some(path) = &output.run_dir {
            std::fs::create_dir_all(path).with_context(|| cannot_create(path))?;
            let folder = Self::lock(path.clone())?;
            folder.takes_a_new_run()?;
            return Ok(folder);
        }
        std::fs::create_dir_all(&output.dir).with_context(|| cannot_create(&output.dir))?;
        for number in 1.. {
            let path = output.dir.join(format!("{}-{number:03}", output.name));
            match std::fs::create_dir(&path) {
                Ok(()) => return Self::lock(path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| cannot_create(&path)),
            }
        }
        unreachable!("the loop has no end of its own")
    }

    /// Refuses a folder with checkpoints. (A run that was killed before its first one has none, and
    /// begins anew.)
    fn takes_a_new_run(&self) -> Result<()> {
        let path = &self.path;
        // Without a lock another training may be about to save its first.
        let begun = !self.lock.is_held() && path.join(checkpoint::FOLDER).exists();
        if begun || checkpoint::holds_a_run(path)? {
            let problem = format!(
                "{} already holds a run; go on with --resume {0}, or give another --run-dir",
                path.display()
            );
            return Err(UsageError(problem).into());
        }
        Ok(())
    }
}

/// `RUN` of `RUN/checkpoints/step-N`.
pub(super) fn run_dir_of(checkpoint: &Path) -> Result<PathBuf> {
    let run_of = |path: &Path| {
        let folder = path.parent()?;
        let named_so = folder.file_name()? == checkpoint::FOLDER;
        named_so.then(|| folder.parent().map(Path::to_path_buf))?
    };
    // As it is written: `RUN/checkpoints` may be a link to a larger disk.
    let written = std::path::absolute(checkpoint).ok();
    let run = written.as_deref().and_then(run_of);
    let run = run.or_else(|| run_of(&checkpoint.canonicalize().ok()?));
    let run = run.ok_or_else(|| {
        UsageError(format!(
            "{0}: not in the {1} of a run, which would go on there; put it there, or begin a new \
             run with its weights, --set train.init_from={0}",
            checkpoint.display(),
            checkpoint::FOLDER
        ))
    })?;
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| run.strip_prefix(here).ok().map(Path::to_path_buf));
    Ok(short.unwrap_or(run))
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
