//! Tensors that a checkpoint may have although the model has no place for them.

use std::collections::BTreeSet;
use std::fmt;

use super::TensorProblem;
use super::checkpoint::Checkpoint;
use crate::DeepSeekConfig;

/// Buffers that rope's angles are made from: each follows from the configuration.
const ROPE_BUFFERS: [&str; 4] = ["inv_freq", "original_inv_freq", "cos_cached", "sin_cached"];

/// Why a tensor is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IgnoredTensor {
    /// The head of a model whose head is its embedding.
    TiedHead,
    /// The copy of embedding or head in an MTP layer.
    MtpCopy,
    /// Of an MTP layer, where the model has no MTP modules.
    MtpLayer,
    /// A buffer of rope's frequencies or angles, as older exporters store them.
    RopeBuffer,
}

impl fmt::Display for IgnoredTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TiedHead => "the head is the embedding (tie_word_embeddings)",
            Self::MtpCopy => "a copy of the main model's embedding or head",
            Self::MtpLayer => "config.json has no MTP modules",
            Self::RopeBuffer => "rope's angles follow from config.json",
        })
    }
}

/// The rule for tensors that nothing asked for.
///
/// Refused are all but these:
/// - `lm_head.weight` of the embedding's shape, where the head is tied;
/// - copies of the embedding and of the head in an MTP layer (`embed_tokens.weight`,
///   `shared_head.head.weight`), as released checkpoints have them, of the same shape;
/// - all of a layer `model.layers.{i}` with an `eh_proj`, past the model's own layers, where the
///   model has no MTP modules;
/// - buffers of a `rotary_emb`.
pub(super) struct Unplaced<'a> {
    config: &'a DeepSeekConfig,
    /// Whether the checkpoint has anything of the MTP modules that the model has.
    has_mtp: bool,
    /// Layers of MTP modules that the model does not have.
    dropped: BTreeSet<usize>,
}

impl<'a> Unplaced<'a> {
    /// The rule for the tensors of `checkpoint`.
    pub fn new(config: &'a DeepSeekConfig, checkpoint: &Checkpoint) -> Self {
        let layers = config.num_hidden_layers;
        let past = |name: &str| layer_of(name).is_some_and(|(layer, _)| layer >= layers);
        let has_mtp = config.num_nextn_predict_layers > 0
            && checkpoint.names().any(|name| past(name) && !is_rope_buffer(name));
        let dropped = checkpoint.names().filter_map(layer_of).filter_map(|(layer, rest)| {
            (rest == "eh_proj.weight" && layer >= layers && !has_mtp).then_some(layer)
        });
        Self { config, has_mtp, dropped: dropped.collect() }
    }

    /// Whether the checkpoint has anything of the MTP modules that the model has.
    pub fn has_mtp(&self) -> bool {
        self.has_mtp
    }

    /// Why a tensor that nothing asked for is ignored.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn judge(
        &self,
        name: &str,
        checkpoint: &Checkpoint,
    ) -> Result<IgnoredTensor, TensorProblem> {
        let embedding = [self.config.vocab_size, self.config.hidden_size];
        let layer = layer_of(name);
        if is_rope_buffer(name) {
            return Ok(IgnoredTensor::RopeBuffer);
        }
        if self.config.tie_word_embeddings && name == "lm_head.weight" {
            return of_shape(name, &embedding, checkpoint, IgnoredTensor::TiedHead);
        }
        match layer {
            Some((layer, "embed_tokens.weight" | "shared_head.head.weight"))
                if self.has_mtp && self.is_mtp(layer) =>
            {
                of_shape(name, &embedding, checkpoint, IgnoredTensor::MtpCopy)
            }
            Some((layer, _)) if self.dropped.contains(&layer) => Ok(IgnoredTensor::MtpLayer),
            _ => {
                Err(TensorProblem::Extra { name: name.to_string(), file: checkpoint.file_of(name) })
            }
        }
    }

    fn is_mtp(&self, layer: usize) -> bool {
        let first = self.config.num_hidden_layers;
        layer >= first && layer - first < self.config.num_nextn_predict_layers
    }
}

fn of_shape(
    name: &str,
    shape: &[usize],
    checkpoint: &Checkpoint,
    why: IgnoredTensor,
) -> Result<IgnoredTensor, TensorProblem> {
    match checkpoint.get(name) {
        Some(tensor) if tensor.shape != shape => Err(TensorProblem::Shape {
            name: name.to_string(),
            file: checkpoint.file_of(name),
            expected: shape.to_vec(),
            found: tensor.shape.clone(),
        }),
        _ => Ok(why),
    }
}

/// The layer of a name, and what follows it.
fn layer_of(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}

fn is_rope_buffer(name: &str) -> bool {
    let Some((path, buffer)) = name.rsplit_once('.') else { return false };
    path.ends_with("rotary_emb") && ROPE_BUFFERS.contains(&buffer)
}
