//! Where in a model values stopped being finite, and whether its weights are why.

use std::fmt;

use burn::tensor::{Int, Tensor};

use crate::weights::first_not_finite;
use crate::{Compute, DeepSeek, Pass};

/// Where the values of a pass stopped being finite.
///
/// Shown, it is a sentence for people: which layer, and which weight where one is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// The first layer whose output is NaN or infinite; none where it is the embedding, or what
    /// comes after the layers. MTP modules are not looked at.
    pub layer: Option<usize>,
    /// Which part, as the checkpoint calls it: `model.layers.3.self_attn`, `lm_head`, ...
    pub part: String,
    /// The first weight of that part, by its name in a checkpoint, that is itself NaN or infinite;
    /// none where the weights are finite and their products are not.
    pub weight: Option<String>,
}

impl NotFinite {
    /// Runs tokens through a model and says where the values stop being finite; none where all of
    /// them, logits included, are finite.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, seq]`
    pub fn look(model: &DeepSeek, tokens: Tensor<2, Int>, compute: &Compute) -> Option<Self> {
        let [_, seq] = tokens.dims();
        let rope = model.rotary().table(0, seq, &model.device());
        let mut pass = Pass::probing(rope, compute.clone());
        let hidden = model.hidden(tokens, &mut pass, None);
        let finite = pass.first_not_finite().is_none()
            && model.logits(hidden).into_data().iter::<f32>().all(f32::is_finite);
        (!finite).then(|| Self::found(model, &pass))
    }

    /// What a pass has found, after which the logits were not finite.
    pub(super) fn found(model: &DeepSeek, pass: &Pass) -> Self {
        let (layer, part, parameters) = match pass.first_not_finite().map(place_of) {
            Some(Place::Embedding) => {
                (None, "model.embed_tokens".to_string(), "embed_tokens.".into())
            }
            Some(Place::Part(layer, part)) => {
                let parameters = parameters_of(layer, part);
                (Some(layer), format!("model.layers.{layer}.{part}"), parameters)
            }
            Some(Place::Layer(layer)) => {
                (Some(layer), format!("model.layers.{layer}"), format!("layers.{layer}."))
            }
            Some(Place::FinalNorm) => (None, "model.norm".to_string(), "norm.".into()),
            None if model.config().tie_word_embeddings => {
                (None, "model.embed_tokens".to_string(), "embed_tokens.".into())
            }
            None => (None, "lm_head".to_string(), "lm_head.".into()),
        };
        let norm = match (layer, part.ends_with(ATTENTION)) {
            (Some(layer), true) => Some(format!("layers.{layer}.input_layernorm.")),
            (Some(layer), false) => Some(format!("layers.{layer}.post_attention_layernorm.")),
            (None, _) => None,
        };
        let weight = std::iter::once(parameters)
            .chain(norm)
            .find_map(|prefix| first_not_finite(model, &prefix));
        Self { layer, part, weight }
    }
}

const ATTENTION: &str = "self_attn";
const FEED_FORWARD: &str = "mlp";

/// What a recorded value is the output of.
enum Place {
    Embedding,
    Part(usize, &'static str),
    /// The sum that leaves a layer.
    Layer(usize),
    FinalNorm,
}

/// Reads the name that a pass records a value under.
fn place_of(name: &str) -> Place {
    let layer = |rest: &str| rest.strip_prefix("layer.")?.parse().ok();
    let of_part = |suffix, part| {
        let layer = layer(name.strip_suffix(suffix)?)?;
        Some(Place::Part(layer, part))
    };
    if name == "embed" {
        return Place::Embedding;
    }
    of_part(".attn_out", ATTENTION)
        .or_else(|| of_part(".mlp_out", FEED_FORWARD))
        .or_else(|| layer(name).map(Place::Layer))
        .unwrap_or(Place::FinalNorm)
}

fn parameters_of(layer: usize, part: &str) -> String {
    format!("layers.{layer}.{part}.")
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, part, weight } = self;
        match layer {
            Some(layer) => write!(f, "it begins in layer {layer} ({part})")?,
            None => write!(f, "it begins in {part}")?,
        }
        match weight {
            Some(weight) => write!(f, ", whose weight {weight} is itself not finite"),
            None => write!(f, ", whose weights are finite: its values overflow"),
        }
    }
}
