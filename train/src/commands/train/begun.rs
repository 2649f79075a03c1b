//! Weights that a run begins with or goes on with: whether they are the configuration's model.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn_deepseek::weights::{CONFIG_FILE, LoadedWeights, load_weights, read_config};
use burn_deepseek::{DeepSeek, DeepSeekConfig, WeightInit};

use crate::checkpoint::{Checkpoint, Purpose, Weights};
use crate::config::{RunConfig, model_differences};
use crate::failure::{Context, Result, UsageError};
use crate::model_folder::{KINDS, ModelFolder};

/// Refuses another model than that of the checkpoint which the run goes on from.
pub(super) fn unchanged(checkpoint: &Checkpoint, model: &DeepSeekConfig) -> Result<()> {
    let stored = checkpoint.config()?.model;
    if stored == *model {
        return Ok(());
    }
    let keys: Vec<String> = model_differences(&stored, model)?
        .into_iter()
        .map(|(key, was, set)| format!("model.{key} from {was} to {set}"))
        .collect();
    let problem = format!(
        "--set changes the model of a run that is resumed: {}; begin a new run with its weights \
         instead, --set train.init_from={}",
        keys.join("; "),
        checkpoint.path.display()
    );
    Err(UsageError(problem).into())
}

/// Refuses settings of a run's beginning that are others than those of the checkpoint which it goes
/// on from: they would have no effect, and the run's own configuration would say what was not so.
pub(super) fn begun_so(checkpoint: &Checkpoint, config: &RunConfig) -> Result<()> {
    let stored = checkpoint.config()?.with_absolute_paths();
    let differing: Vec<&str> = [
        ("output.dir", stored.output.dir != config.output.dir),
        ("output.name", stored.output.name != config.output.name),
        ("output.run_dir", stored.output.run_dir != config.output.run_dir),
        ("train.init_from", stored.train.init_from != config.train.init_from),
        ("train.seed", stored.train.seed != config.train.seed),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect();
    if differing.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "--set changes {}, which a run has from its beginning: leave that out, or begin a new run",
        differing.join(" and ")
    );
    Err(UsageError(problem).into())
}

/// The configuration's model with the weights of a run, a checkpoint or a Hugging Face folder. Only
/// its tensors must fit: what has none (context length, YaRN, how experts are chosen) may differ. MTP
/// modules of which it has nothing are drawn.
pub(super) fn begun_from(
    path: &Path,
    model: &DeepSeekConfig,
    seed: u64,
    device: &Device,
) -> Result<LoadedWeights> {
    let folder = begun_in(path, model)?;
    // Drawn at once where something of it may stay: that takes no longer than finding out before.
    let model = if model.num_nextn_predict_layers > 0 {
        DeepSeek::init(model, seed, device)?
    } else {
        DeepSeek::new(model, WeightInit::zeros(device))?
    };
    load_weights(model, &folder).context("train.init_from")
}

/// The folder with the weights that `train.init_from` names, as far as its headers say those of the
/// model.
pub(super) fn begun_in(path: &Path, model: &DeepSeekConfig) -> Result<PathBuf> {
    let folder = match ModelFolder::find(path)? {
        Some(ModelFolder::Checkpoint(path)) => {
            Checkpoint::open(&path, Purpose::Running(Weights::Trained))?.path
        }
        Some(ModelFolder::HuggingFace(path)) => path,
        None => {
            let path = path.display();
            let problem = format!("train.init_from = {path:?}: no weights here; give {KINDS}");
            return Err(UsageError(problem).into());
        }
    };
    fits(model, &folder)?;
    Ok(folder)
}

/// The keys of a model that its tensors' sizes follow from. (The MTP modules are not among them:
/// which of them a folder has is for its reader to say.)
const SIZES: [&str; 15] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "moe_intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "n_shared_experts",
    "n_routed_experts",
    "first_k_dense_replace",
    "q_lora_rank",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "tie_word_embeddings",
];

/// Whether a folder's `config.json` is of a model with tensors like the run's, as far as it says;
/// what the tensors themselves are is seen when they are read.
fn fits(model: &DeepSeekConfig, folder: &Path) -> Result<()> {
    let Ok(theirs) = read_config(folder) else { return Ok(()) };
    let mut differing = model_differences(model, &theirs)?;
    differing.retain(|(key, ..)| SIZES.contains(&key.as_str()));
    if differing.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = differing
        .into_iter()
        .map(|(key, ours, theirs)| format!("model.{key} is {ours} here and {theirs} there"))
        .collect();
    let problem = format!(
        "train.init_from: the weights are of another model ({}): {}",
        folder.join(CONFIG_FILE).display(),
        keys.join("; ")
    );
    Err(UsageError(problem).into())
}
