//! Checking that a checkpoint is whole, and reading it.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn_deepseek::DeepSeek;
use burn_deepseek::weights::{
    LoadOptions, MtpWeights, SETTINGS_BYTES, load_model, read_regular_text,
};

use super::manifest::Manifest;
use super::{
    CheckpointError, DATA_FILE, EMA_FOLDER, EMA_PREFIX, RUN_FILE, STATE_FILE, TrainState, find,
};
use crate::config::{ConfigError, RunConfig};
use crate::data::DataFingerprint;
use crate::learner::OPTIMIZER_FILE;

/// A checkpoint whose files are all there and unchanged.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Folder of the checkpoint.
    pub path: PathBuf,
    /// Where the run stood.
    pub position: TrainState,
    /// The run's resolved configuration.
    pub config_toml: String,
}

/// Which weights of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// The weights that training goes on with.
    Trained,
    /// Their running average (3.2.3).
    Average,
}

/// What a checkpoint is opened for: files that this does not need may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To go on training: all of it.
    Training,
    /// To run the model with these weights: neither the optimizer nor other weights.
    Running(Weights),
    /// To look at the run's configuration: nothing else.
    Looking,
}

impl Purpose {
    /// Whether a file, named from the checkpoint's folder, is needed.
    fn needs(self, name: &str) -> bool {
        let of_average = name.starts_with(EMA_PREFIX);
        match self {
            Self::Training => true,
            Self::Running(_) if name == OPTIMIZER_FILE => false,
            Self::Running(Weights::Trained) => !of_average,
            Self::Running(Weights::Average) => of_average || name == RUN_FILE,
            Self::Looking => name == RUN_FILE,
        }
    }

    /// The folders that files are needed from, and what the names of files there begin with.
    fn folders(self, path: &Path) -> impl Iterator<Item = (PathBuf, &'static str)> {
        let average = matches!(self, Self::Training | Self::Running(Weights::Average));
        let average = average.then(|| (path.join(EMA_FOLDER), EMA_PREFIX));
        let own = matches!(self, Self::Training | Self::Running(Weights::Trained));
        let own = own.then(|| (path.to_path_buf(), ""));
        own.into_iter().chain(average)
    }
}

/// Refuses files that the list does not have: what they are for was never saved. (Hidden ones are
/// left alone, the system's own are among them; so are folders.)
fn no_others(folder: &Path, prefix: &str, manifest: &Manifest) -> Result<(), CheckpointError> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(CheckpointError::io(folder, "read"))? {
        let entry = entry.map_err(CheckpointError::io(folder, "read"))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden
            && name != STATE_FILE
            && !manifest.files.contains_key(&name)
            && !entry.path().is_dir()
        {
            return Err(CheckpointError::Foreign { path: entry.path() });
        }
    }
    Ok(())
}

/// The text of a file that is no longer than settings are.
fn read_settings(path: &Path) -> Result<String, CheckpointError> {
    read_regular_text(path, SETTINGS_BYTES).map_err(CheckpointError::io(path, "read"))
}

impl Checkpoint {
    /// Opens the checkpoint in `path` (see [`find`](super::find)) and checks every file that
    /// `purpose` needs against its size and checksum.
    ///
    /// # Errors
    ///
    /// No checkpoint, or one with a file that is missing, cut short, changed or not of it, named.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Self, CheckpointError> {
        let path = find(path)?;
        let manifest = Manifest::read(&path)?;
        let mut needed: Vec<_> =
            manifest.files.iter().filter(|(name, _)| purpose.needs(name)).collect();
        // What is wrong with small ones is said before gigabytes are read.
        needed.sort_by_key(|(_, sum)| sum.bytes);
        for (name, sum) in needed {
            sum.check(&path.join(name))?;
        }
        purpose
            .folders(&path)
            .try_for_each(|(folder, prefix)| no_others(&folder, prefix, &manifest))?;
        let run_file = path.join(RUN_FILE);
        let config_toml = read_settings(&run_file)?;
        Ok(Self { path, position: manifest.position, config_toml })
    }

    /// The run's configuration.
    ///
    /// # Errors
    ///
    /// One that this version of the program does not take.
    pub fn config(&self) -> Result<RunConfig, ConfigError> {
        RunConfig::from_toml(&self.config_toml, &self.config_origin())
    }

    /// What the data of the run was made of; none where the checkpoint does not say.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn data(&self) -> Result<Option<DataFingerprint>, CheckpointError> {
        let file = self.path.join(DATA_FILE);
        if !file.is_file() {
            return Ok(None);
        }
        let text = read_settings(&file)?;
        serde_json::from_str(&text).map(Some).map_err(|e| CheckpointError::damaged(&file, e))
    }

    /// What to call the configuration in an error.
    pub fn config_origin(&self) -> String {
        self.path.join(RUN_FILE).display().to_string()
    }

    /// The model, with its MTP modules or without.
    ///
    /// # Errors
    ///
    /// Weights that cannot be read, or an average that is not there.
    pub fn model(
        &self,
        device: &Device,
        mtp: MtpWeights,
        weights: Weights,
    ) -> Result<DeepSeek, CheckpointError> {
        Ok(load_model(
            self.model_folder(weights)?,
            device,
            &LoadOptions { mtp, ..LoadOptions::default() },
        )?)
    }

    /// The Hugging Face folder with these weights: the checkpoint's own, or one in it.
    ///
    /// # Errors
    ///
    /// An average that is not there.
    pub fn model_folder(&self, weights: Weights) -> Result<PathBuf, CheckpointError> {
        match weights {
            Weights::Trained => Ok(self.path.clone()),
            Weights::Average if self.has_average() => Ok(self.path.join(EMA_FOLDER)),
            Weights::Average => Err(CheckpointError::NoAverage { path: self.path.clone() }),
        }
    }

    /// Whether the average of the weights was saved too.
    pub fn has_average(&self) -> bool {
        self.path.join(EMA_FOLDER).is_dir()
    }
}
