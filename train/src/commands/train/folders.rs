//! Folders of runs: a new one, that of a checkpoint, and the newest; each is locked before anything
//! in it is changed.

use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::config::RunConfig;
use crate::failure::{Context, Result, UsageError};
use crate::fold::fold_on_terminal;
use crate::record::{METRICS_FILE, TIMELINE_FILE};
use crate::run_lock::RunLock;
use crate::shell_word::quoted;
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
                "{} already holds a run; go on with --resume {}, or give another --run-dir",
                path.display(),
                quoted(&path.display().to_string())
            );
            return Err(UsageError(problem).into());
        }
        self.keep_record()
    }

    /// Gives the record of a run that saved no checkpoint a name of its own, where the folder has
    /// one.
    fn keep_record(&self) -> Result<()> {
        let record = self.path.join(METRICS_FILE);
        if !self.lock.is_held() || !record.metadata().is_ok_and(|facts| facts.len() > 0) {
            return Ok(());
        }
        let kept = (1..)
            .map(|number| self.path.join(format!("{METRICS_FILE}.{number}")))
            .find(|path| !path.exists());
        let kept = kept.unwrap_or_else(|| unreachable!("numbers have no end"));
        std::fs::rename(&record, &kept).with_context(|| record.display().to_string())?;
        write_stdout(&fold_on_terminal(format!(
            "kept        {}: the record of a run that saved no checkpoint\n",
            kept.display()
        )))
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
             run with its weights, --set {2}",
            checkpoint.display(),
            checkpoint::FOLDER,
            quoted(&format!("train.init_from={}", checkpoint.display()))
        ))
    })?;
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| run.strip_prefix(here).ok().map(Path::to_path_buf));
    Ok(short.unwrap_or(run))
}

/// The newest checkpoint under `dir`, unless a run that has none is newer.
pub(super) fn newest_run(dir: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir).map_err(|_| {
        UsageError(format!("--resume: there is no folder {}; give the run's", dir.display()))
    })?;
    let modified = |path: &Path| path.metadata().and_then(|facts| facts.modified()).ok();
    let folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let saved = folders.iter().filter_map(|run| {
        let checkpoint = checkpoint::find(run).ok()?;
        Some((modified(&checkpoint)?, checkpoint))
    });
    let (time, newest) = saved.max().ok_or_else(|| {
        UsageError(format!("--resume: no run in {} has a checkpoint yet", dir.display()))
    })?;
    // Going on with an older one unasked would change what somebody may take for finished.
    let unsaved = folders.iter().filter_map(|run| {
        let last = modified(&run.join(METRICS_FILE)).filter(|&last| last > time)?;
        checkpoint::find(run).is_err().then_some((last, run))
    });
    if let Some((_, unsaved)) = unsaved.max() {
        let older = run_dir_of(&newest)?.display().to_string();
        let problem = format!(
            "--resume: the newest run, {}, has saved no checkpoint; to go on with an older one, \
             --resume {}",
            unsaved.display(),
            quoted(&older)
        );
        return Err(UsageError(problem).into());
    }
    Ok(newest)
}
