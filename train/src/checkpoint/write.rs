//! Writing a checkpoint: filled under a temporary name, synced, renamed; old ones deleted only
//! after.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::best::best_step;
use super::find::complete;
use super::manifest::{FORMAT, FileSum, Manifest};
use super::{
    CheckpointError, DATA_FILE, EMA_FOLDER, PARTIAL, RUN_FILE, SET_ASIDE, STATE_FILE, TrainState,
    Weights, folder_name,
};
use crate::data::{DataFingerprint, TokenizerFiles};
use crate::durable::{discard, remove_if_there, sync, write_file};
use crate::failure::Result;
use crate::kill_point;

/// Which checkpoints of a run are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How many of the newest, at least one.
    pub newest: usize,
    /// Whether that of the least validation loss is kept besides.
    pub best: bool,
}

/// Writes the checkpoints of one run.
#[derive(Debug)]
pub struct CheckpointWriter {
    folder: PathBuf,
    keep: Kept,
    config_toml: String,
    tokenizer: TokenizerFiles,
    data: DataFingerprint,
}

impl CheckpointWriter {
    /// A writer for the run in `run_dir`, of checkpoints each with the configuration, the tokenizer
    /// and what the data is made of.
    pub fn new(
        run_dir: &Path,
        keep: Kept,
        config_toml: String,
        tokenizer: TokenizerFiles,
        data: DataFingerprint,
    ) -> Self {
        let folder = run_dir.join(super::FOLDER);
        Self { folder, keep, config_toml, tokenizer, data }
    }

    /// Saves a checkpoint and returns its folder; one of the same step is set aside. `write` writes
    /// model and optimizer to a folder, and the average of the weights, where there is one, to
    /// another. `losses` are those of the run's evaluations so far, by step.
    ///
    /// # Errors
    ///
    /// Anything that cannot be written, a full disk for instance. Checkpoints saved before are then
    /// all still there.
    pub fn save(
        &self,
        write: &mut dyn FnMut(Weights, &Path) -> Result<()>,
        averaged: bool,
        position: &TrainState,
        losses: &[(u64, f64)],
    ) -> Result<PathBuf> {
        let done = self.folder.join(folder_name(position.step));
        let partial = self.folder.join(format!(".{}{PARTIAL}", folder_name(position.step)));
        remove_if_there(&partial)?;
        // Not its parents: a run's folder that somebody moved or deleted is not made again.
        for folder in [&self.folder, &partial] {
            match fs::create_dir(folder) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.map_err(CheckpointError::io(folder, "create"))?,
            }
        }
        kill_point::here();
        if let Err(error) = self.fill(&partial, write, averaged, position) {
            // The first error is the one to report; a leftover is cleared by the next save.
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        if done.exists() {
            set_aside(&done, position.step)?; // not this run's: it saves a step once
        }
        kill_point::here();
        fs::rename(&partial, &done)
            .map_err(CheckpointError::io(&done, "rename a finished checkpoint to"))?;
        kill_point::here();
        sync(&self.folder)?;
        self.prune(losses)?;
        Ok(done)
    }

    /// Renames the checkpoints of steps after `step` to `{name}.set-aside`, and returns their new
    /// paths.
    ///
    /// A run that goes back to an older checkpoint begins another history: what the first one saved
    /// later must neither be taken for the newest nor push the new ones out, and is not ours to
    /// delete.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read or renamed.
    pub fn set_later_aside(&self, step: u64) -> Result<Vec<PathBuf>, CheckpointError> {
        let mut later = complete(&self.folder)?;
        later.retain(|(found, _)| *found > step);
        if later.is_empty() {
            return Ok(Vec::new());
        }
        let aside: Vec<PathBuf> = later
            .into_iter()
            .map(|(step, path)| set_aside(&path, step))
            .collect::<Result<_, _>>()?;
        sync(&self.folder)?;
        Ok(aside)
    }

    fn fill(
        &self,
        folder: &Path,
        write: &mut dyn FnMut(Weights, &Path) -> Result<()>,
        averaged: bool,
        position: &TrainState,
    ) -> Result<()> {
        write(Weights::Trained, folder)?;
        self.write_tokenizer(folder)?;
        kill_point::here();
        if averaged {
            let folder = folder.join(EMA_FOLDER);
            fs::create_dir_all(&folder).map_err(CheckpointError::io(&folder, "create"))?;
            write(Weights::Average, &folder)?;
            self.write_tokenizer(&folder)?;
            sync(&folder)?;
        }
        write_file(&folder.join(RUN_FILE), self.config_toml.as_bytes())?;
        let data = serde_json::to_string_pretty(&self.data)
            .map_err(std::io::Error::other)
            .map_err(CheckpointError::io(folder, "write"))?;
        write_file(&folder.join(DATA_FILE), data.as_bytes())?;
        let mut files = BTreeMap::new();
        add_sums(folder, "", &mut files)?;
        let manifest = Manifest { format: FORMAT, position: position.clone(), files };
        let text = manifest
            .to_text()
            .map_err(std::io::Error::other)
            .map_err(CheckpointError::io(folder, "write"))?;
        write_file(&folder.join(STATE_FILE), text.as_bytes())?;
        Ok(sync(folder)?)
    }

    /// The tokenizer, beside a model.
    fn write_tokenizer(&self, folder: &Path) -> Result<()> {
        for (name, bytes) in self.tokenizer.iter() {
            write_file(&folder.join(name), bytes)?;
        }
        Ok(())
    }

    /// Whether the checkpoint of the least validation loss is kept.
    pub fn keeps_best(&self) -> bool {
        self.keep.best
    }

    /// Deletes all but the newest, and the best of the run's evaluations so far where it is kept.
    /// Saving does; a run that is killed in between leaves one more.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or a checkpoint not deleted.
    pub fn prune(&self, losses: &[(u64, f64)]) -> Result<(), CheckpointError> {
        let steps = complete(&self.folder)?;
        let saved = steps.iter().map(|(step, _)| *step).collect();
        let best = if self.keep.best { best_step(losses, &saved) } else { None };
        let surplus = steps.len().saturating_sub(self.keep.newest.max(1));
        for (_, path) in steps[..surplus].iter().filter(|(step, _)| Some(*step) != best) {
            discard(path)?;
        }
        Ok(())
    }
}

/// Size and checksum of every file under `folder`, named from where the first call began.
fn add_sums(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, FileSum>,
) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(folder).map_err(CheckpointError::io(folder, "read"))? {
        let entry = entry.map_err(CheckpointError::io(folder, "read"))?;
        let (path, name) =
            (entry.path(), format!("{prefix}{}", entry.file_name().to_string_lossy()));
        if path.is_dir() {
            add_sums(&path, &format!("{name}/"), files)?;
        } else {
            files.insert(name, FileSum::of(&path)?);
        }
    }
    Ok(())
}

/// Renames a checkpoint, over one of its step that was set aside before.
fn set_aside(path: &Path, step: u64) -> Result<PathBuf, CheckpointError> {
    let target = path.with_file_name(folder_name(step) + SET_ASIDE);
    discard(&target)?;
    fs::rename(path, &target)
        .map_err(CheckpointError::io(&target, "rename a later checkpoint to"))?;
    kill_point::here();
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::super::step_of;
    use super::*;

    #[test]
    fn folder_names_sort_and_parse() {
        assert_eq!(folder_name(400), "step-00000400");
        assert_eq!(step_of("step-00000400"), Some(400));
        assert_eq!(step_of("step-123456789"), Some(123_456_789));
        for other in ["step-400", "step-+0000400", "step-0000000400"] {
            assert_eq!(step_of(other), None);
        }
        assert_eq!(step_of(".step-00000400.partial"), None);
        assert_eq!(step_of(&(folder_name(400) + SET_ASIDE)), None);
    }
}
