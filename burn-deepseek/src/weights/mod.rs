//! Hugging Face checkpoints: the names of DeepSeek-V3's tensors, and models read from and written
//! to safetensors files.
//!
//! [`named_slices`] is the one place that knows which part of which parameter a checkpoint's tensor
//! is; loading, saving and the named views of parameters and gradients all follow it. This is the
//! only part of the crate that touches files.

mod checkpoint;
mod decode;
mod described;
mod encode;
mod error;
mod export;
mod finite;
mod folder;
mod header;
mod ignored;
mod in_place;
mod index;
mod inspect;
mod keep;
mod listing;
mod load;
mod map;
mod named;
mod names;
mod plan;
mod problem;
mod read;
mod regular;
mod save;
mod shards;
mod slots;
mod stored;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use finite::first_not_finite;

pub use checkpoint::read_config;
pub use error::WeightsError;
pub use export::{ExportOptions, ExportProgress, Exported, export, scale_format_of};
pub use header::{SafetensorsFile, StoredTensor};
pub use ignored::IgnoredTensor;
pub use in_place::{FilesInPlace, WriterInPlace, describe_model};
pub use inspect::{
    DTypeFacts, DeepInspection, FileFacts, Finding, Inspection, Inspector, ReadProgress,
    WeightFormat,
};
pub use keep::WeightForm;
pub use load::{
    HeldParameter, LoadOptions, LoadedWeights, MtpWeights, check_weights, load_model, load_part,
    load_weights,
};
pub use named::{named_gradients, named_parameters, named_tensors, parameter_ids};
pub use names::{NamedSlice, SlicesByParameter, named_slices};
pub use problem::TensorProblem;
pub use regular::{SETTINGS_BYTES, open_regular, read_regular, read_regular_text};
pub use save::{SaveDType, SaveOptions, save_model};

/// The model's description in a checkpoint's directory.
pub const CONFIG_FILE: &str = "config.json";
/// The weights of a checkpoint in one piece.
const WEIGHTS_FILE: &str = "model.safetensors";
/// Which shard holds which tensor, in a checkpoint of several.
const INDEX_FILE: &str = "model.safetensors.index.json";
