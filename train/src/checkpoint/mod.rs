//! Checkpoints: the model as a Hugging Face folder, the optimizer, the position, and the
//! configuration, written whole or not at all.
//!
//! ```text
//! RUN/checkpoints/step-00000400/
//!   config.json model.safetensors   the model, loadable by any library that reads DeepSeek-V3
//!   tokenizer.json, ...             its tokenizer, as such a library reads it
//!   ema/                            the average of the weights, where there is one: the model's
//!                                   folder once more, the tokenizer included
//!   optimizer.safetensors           {tensor}.exp_avg and {tensor}.exp_avg_sq, named as the model's
//!                                   tensors, in F32 or BF16
//!   run.toml                        the resolved configuration
//!   data.json                       sizes and hashes of the text that the run was trained on
//!   state.json                      the format, the position, the size and checksum of every
//!                                   other file, and a checksum of itself
//! ```
//!
//! **Invariant.** A folder with this name is complete: it is filled under a temporary name, synced,
//! and renamed. Tensors are named as a checkpoint of the model names them, so nothing in it depends
//! on how a run was laid out over devices.

mod best;
mod error;
mod find;
mod leftovers;
mod manifest;
mod moments;
mod read;
mod state;
mod write;

use std::path::{Path, PathBuf};

pub use best::find_best;
pub use error::CheckpointError;
pub use find::{complete_in, find, find_config, holds_a_run, newest_step};
pub use leftovers::remove_leftovers;
pub use read::{Checkpoint, Purpose, Weights};
pub use state::TrainState;
pub use write::{CheckpointWriter, Kept};

/// Folder of a run's checkpoints, under the run's folder.
pub const FOLDER: &str = "checkpoints";

/// File of what a checkpoint has, and of the run's position.
pub const STATE_FILE: &str = "state.json";
/// File of the run's configuration, in a checkpoint and in the run's folder.
pub const RUN_FILE: &str = "run.toml";
const DATA_FILE: &str = "data.json";
const EMA_FOLDER: &str = "ema";
const EMA_PREFIX: &str = "ema/";
const PREFIX: &str = "step-";
/// What the hidden name of a checkpoint ends in that is being filled.
const PARTIAL: &str = ".partial";
/// What the name of a checkpoint ends in that another history of the run has taken the place of.
const SET_ASIDE: &str = ".set-aside";

/// Where a run's checkpoint of a step is, if there is one.
pub fn folder_of(run_dir: &Path, step: u64) -> PathBuf {
    run_dir.join(FOLDER).join(folder_name(step))
}

/// `step-00000400`.
fn folder_name(step: u64) -> String {
    format!("{PREFIX}{step:08}")
}

/// The step of a complete checkpoint's folder name.
pub fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix(PREFIX)?.parse().ok()?;
    (folder_name(step) == name).then_some(step)
}

/// The step that the folder's name of a complete checkpoint says, of one set aside too.
fn step_of_any(name: &str) -> Option<u64> {
    step_of(name.strip_suffix(SET_ASIDE).unwrap_or(name))
}
