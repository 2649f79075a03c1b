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
mod header;
mod load;
mod named;
mod names;
mod plan;
mod save;
mod shards;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use finite::first_not_finite;

pub use error::{TensorProblem, WeightsError};
pub use export::{ExportOptions, ExportProgress, Exported, export, scale_format_of};
pub use load::{LoadOptions, MtpWeights, load_model, load_weights};
pub use named::{named_gradients, named_parameters, named_tensors, parameter_ids};
pub use names::{NamedSlice, named_slices};
pub use save::{SaveDType, SaveOptions, save_model};

/// The model's description in a checkpoint's directory.
const CONFIG_FILE: &str = "config.json";
/// The weights of a checkpoint in one piece.
const WEIGHTS_FILE: &str = "model.safetensors";
/// Which shard holds which tensor, in a checkpoint of several.
const INDEX_FILE: &str = "model.safetensors.index.json";
