//! Finding a checkpoint, checking that it is whole, and reading it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use burn_deepseek::DeepSeek;
use burn_deepseek::weights::{LoadOptions, MtpWeights, load_model, named_slices, parameter_ids};
use safetensors::{Dtype, SafeTensors};

use super::state::{FORMAT, FileSum, Format, Manifest};
use super::{
    CheckpointError, DATA_FILE, EMA_FOLDER, FIRST_MOMENT, OPTIMIZER_FILE, RUN_FILE, SECOND_MOMENT,
    STATE_FILE, TrainState, step_of,
};
use crate::config::{ConfigError, RunConfig};
use crate::data::DataFingerprint;
use crate::failure::Result;
use crate::learner::{AdamW, AdamWSettings, Moments};

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
}

impl Purpose {
    /// Whether a file, named from the checkpoint's folder, is needed.
    fn needs(self, name: &str) -> bool {
        let of_average = name.split('/').next() == Some(EMA_FOLDER);
        match self {
            Self::Training => true,
            Self::Running(_) if name == OPTIMIZER_FILE => false,
            Self::Running(Weights::Trained) => !of_average,
            Self::Running(Weights::Average) => of_average || name == RUN_FILE,
        }
    }
}

/// The checkpoint at `path`, or the newest of the run in `path`.
///
/// # Errors
///
/// There is none.
pub fn find(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.join(STATE_FILE).is_file() {
        return Ok(path.to_owned());
    }
    let folder = path.join(super::FOLDER);
    let newest = if folder.is_dir() { complete(&folder)?.into_iter().max() } else { None };
    newest.map(|(_, path)| path).ok_or_else(|| CheckpointError::NotFound { path: path.to_owned() })
}

/// The configuration of the checkpoint at `path`, or of the newest of the run in `path`, whatever
/// state the other files are in; none where there is no checkpoint.
///
/// # Errors
///
/// It cannot be read, or is one that this version of the program does not take.
pub fn find_config(path: &Path) -> Result<Option<RunConfig>> {
    let file = match find(path) {
        Ok(path) => path.join(RUN_FILE),
        Err(CheckpointError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = fs::read_to_string(&file).map_err(CheckpointError::io(&file, "read"))?;
    Ok(Some(RunConfig::from_toml(&text, &file.display().to_string())?))
}

/// The complete checkpoints in a folder, with their steps.
pub(super) fn complete(folder: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let entries = fs::read_dir(folder).map_err(CheckpointError::io(folder, "read"))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(CheckpointError::io(folder, "read"))?;
        found
            .extend(step_of(&entry.file_name().to_string_lossy()).map(|step| (step, entry.path())));
    }
    Ok(found)
}

/// Size and checksum of a file.
pub(super) fn sum_of(path: &Path) -> Result<FileSum, CheckpointError> {
    let mut file = File::open(path).map_err(CheckpointError::io(path, "read"))?;
    let (mut hasher, mut bytes, mut buffer) = (crc32fast::Hasher::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(CheckpointError::io(path, "read"))?;
        if read == 0 {
            return Ok(FileSum { bytes, crc32: hasher.finalize() });
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

impl Checkpoint {
    /// Opens the checkpoint in `path` (see [`find`]) and checks every file that `purpose` needs
    /// against its size and checksum.
    ///
    /// # Errors
    ///
    /// No checkpoint, or one with a file that is missing, cut short or changed, named.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Self, CheckpointError> {
        let path = find(path)?;
        let state_file = path.join(STATE_FILE);
        let text =
            fs::read_to_string(&state_file).map_err(CheckpointError::io(&state_file, "read"))?;
        let Format { format } =
            serde_json::from_str(&text).map_err(|e| CheckpointError::damaged(&state_file, e))?;
        if format != FORMAT {
            return Err(CheckpointError::Format { path: state_file, found: format });
        }
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|e| CheckpointError::damaged(&state_file, e))?;
        for (name, expected) in manifest.files.iter().filter(|(name, _)| purpose.needs(name)) {
            let file = path.join(name);
            if !file.is_file() {
                return Err(CheckpointError::damaged(file, "it is missing"));
            }
            let found = sum_of(&file)?;
            if found.bytes != expected.bytes {
                return Err(CheckpointError::damaged(
                    file,
                    format!("it has {} bytes instead of {}", found.bytes, expected.bytes),
                ));
            }
            if found != *expected {
                return Err(CheckpointError::damaged(file, "its checksum differs"));
            }
        }
        let run_file = path.join(RUN_FILE);
        let config_toml =
            fs::read_to_string(&run_file).map_err(CheckpointError::io(&run_file, "read"))?;
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
        let text = fs::read_to_string(&file).map_err(CheckpointError::io(&file, "read"))?;
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

    /// The optimizer of `model`, as it was; moments of another format than `settings` has are
    /// converted.
    ///
    /// # Errors
    ///
    /// Moments that cannot be read, or that are not the model's.
    pub fn optimizer(
        &self,
        model: &DeepSeek,
        settings: AdamWSettings,
    ) -> Result<AdamW, CheckpointError> {
        let path = self.path.join(OPTIMIZER_FILE);
        let bytes = fs::read(&path).map_err(CheckpointError::io(&path, "read"))?;
        let file =
            SafeTensors::deserialize(&bytes).map_err(|e| CheckpointError::damaged(&path, e))?;
        let first = assembled(model, &file, FIRST_MOMENT, &path)?;
        let mut second = assembled(model, &file, SECOND_MOMENT, &path)?;
        let device = model.device().inner();
        let dtype = settings.moments.dtype();
        let tensor = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(
                TensorData::new(values, [count]).convert_dtype(dtype),
                (&device, dtype),
            )
        };
        let ids = parameter_ids(model);
        let mut moments = HashMap::new();
        for (parameter, first) in first {
            let (id, _) = ids.get(&parameter).ok_or_else(|| {
                CheckpointError::damaged(&path, format!("the model has no parameter {parameter}"))
            })?;
            let second = second.remove(&parameter).ok_or_else(|| {
                CheckpointError::damaged(&path, format!("{parameter} lacks its second moment"))
            })?;
            moments.insert(*id, Moments { first: tensor(first), second: tensor(second) });
        }
        Ok(AdamW::resumed(settings, self.position.step, moments))
    }
}

/// The moments of each parameter as F32 (which holds BF16 exactly), put together from the tensors
/// they are stored as; a parameter without any is left out.
fn assembled(
    model: &DeepSeek,
    file: &SafeTensors,
    suffix: &str,
    path: &Path,
) -> Result<HashMap<String, Vec<f32>>, CheckpointError> {
    let mut parameters: HashMap<String, Vec<f32>> = HashMap::new();
    for slice in named_slices(model.config()) {
        let name = format!("{}{suffix}", slice.name);
        let Ok(view) = file.tensor(&name) else { continue };
        if !matches!(view.dtype(), Dtype::F32 | Dtype::BF16) || view.shape() != slice.shape {
            let problem = format!(
                "{name} is {:?} {:?} instead of F32 or BF16 {:?}",
                view.dtype(),
                view.shape(),
                slice.shape
            );
            return Err(CheckpointError::damaged(path, problem));
        }
        let count = slice.parameter_shape.iter().product();
        let values = parameters.entry(slice.parameter.clone()).or_insert_with(|| vec![0.0; count]);
        let values = values[slice.offset..].iter_mut();
        if view.dtype() == Dtype::F32 {
            values
                .zip(view.data().as_chunks().0)
                .for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
        } else {
            let upper_half =
                |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            values
                .zip(view.data().as_chunks().0)
                .for_each(|(value, bytes)| *value = upper_half(bytes));
        }
    }
    Ok(parameters)
}
