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

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use burn::module::Param;
    use burn::tensor::Device;

    use super::*;
    use crate::attention::AttentionForm;
    use crate::generate::{GenerateError, GenerateOptions, Sampling};
    use crate::{DeepSeekConfig, EndTokens, FeedForward};

    fn model() -> DeepSeek {
        let config: DeepSeekConfig = serde_json::from_str(
            r#"{
                "vocab_size": 20, "hidden_size": 12, "intermediate_size": 20,
                "moe_intermediate_size": 6, "num_hidden_layers": 3, "num_attention_heads": 3,
                "n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2,
                "first_k_dense_replace": 1, "kv_lora_rank": 5, "qk_nope_head_dim": 4,
                "qk_rope_head_dim": 2, "v_head_dim": 3, "num_nextn_predict_layers": 1
            }"#,
        )
        .unwrap();
        DeepSeek::init(&config, 3, &Device::flex()).unwrap()
    }

    fn filled<const D: usize>(dims: [usize; D], value: f32) -> Param<Tensor<D>> {
        Param::from_tensor(Tensor::full(dims, value, &Device::flex()))
    }

    /// The same place while the prompt is read and by a look at a batch.
    #[track_caller]
    fn found(model: &DeepSeek) -> (Option<usize>, String, Option<String>) {
        let mut places = Vec::new();
        for (speculative, form) in
            [(false, AttentionForm::Expanded), (true, AttentionForm::Absorbed)]
        {
            let options = GenerateOptions {
                max_new_tokens: 4,
                sampling: Sampling::GREEDY,
                stop: EndTokens::NONE,
                form,
                speculative,
            };
            match model.generate(&[1, 2, 3], &options, |_| ControlFlow::Continue(())) {
                Err(GenerateError::NotFinite { position, place }) => {
                    assert_eq!(position, 3);
                    places.push(place);
                }
                other => panic!("{other:?}"),
            }
        }
        let batch = Tensor::from_data([[1, 2, 3], [3, 2, 1]], &Device::flex());
        places.push(NotFinite::look(model, batch, &Compute::f32()).expect("values not finite"));
        assert!(places.windows(2).all(|pair| pair[0] == pair[1]), "{places:?}");
        let NotFinite { layer, part, weight } = places.swap_remove(0);
        (layer, part, weight)
    }

    fn feed_forward(model: &mut DeepSeek, layer: usize) -> &mut FeedForward {
        &mut model.layers[layer].mlp
    }

    #[test]
    fn a_model_of_numbers_is_finite() {
        let batch = Tensor::from_data([[1, 2, 3]], &Device::flex());
        assert_eq!(NotFinite::look(&model(), batch, &Compute::f32()), None);
    }

    #[test]
    fn weights_that_are_no_numbers_are_named() {
        let mut broken = model();
        let FeedForward::Moe(moe) = feed_forward(&mut broken, 1) else { panic!("a MoE layer") };
        let mut values: Vec<f32> = moe.experts.down.val().into_data().iter().collect();
        values[3 * 12 * 6 + 5] = f32::NAN; // of the last expert
        let shape = moe.experts.down.val().shape();
        let values = burn::tensor::TensorData::new(values, shape);
        moe.experts.down = Param::from_tensor(Tensor::from_data(values, &Device::flex())).into();
        // Whether that expert is chosen is the router's affair: let it be, always.
        moe.gate.set_bias(&[0.0, 0.0, 0.0, 9.0]);
        let weight = "model.layers.1.mlp.experts.3.down_proj.weight".to_string();
        assert_eq!(found(&broken), (Some(1), "model.layers.1.mlp".into(), Some(weight)));

        let mut broken = model();
        broken.layers[2].input_layernorm.weight =
            filled(broken.layers[2].input_layernorm.weight.dims(), f32::INFINITY);
        let (layer, part, weight) = found(&broken);
        assert_eq!((layer, part.as_str()), (Some(2), "model.layers.2.self_attn"));
        assert_eq!(weight.as_deref(), Some("model.layers.2.input_layernorm.weight"));

        let mut broken = model();
        broken.embed_tokens.weight = filled(broken.embed_tokens.weight.dims(), f32::NAN).into();
        let weight = Some("model.embed_tokens.weight".into());
        assert_eq!(found(&broken), (None, "model.embed_tokens".into(), weight));
    }

    #[test]
    fn finite_weights_that_overflow_are_told_apart() {
        let mut huge = model();
        huge.layers[1].self_attn.o_proj.weight =
            filled(huge.layers[1].self_attn.o_proj.weight.dims(), 3e38).into();
        huge.layers[1].self_attn.kv_b_proj.weight =
            filled(huge.layers[1].self_attn.kv_b_proj.weight.dims(), 1e4).into();
        assert_eq!(found(&huge), (Some(1), "model.layers.1.self_attn".into(), None));

        let mut huge = model();
        let head = huge.lm_head.as_mut().unwrap();
        head.weight = filled(head.weight.dims(), 3e38).into();
        huge.norm.weight = filled(huge.norm.weight.dims(), 1e3);
        assert_eq!(found(&huge), (None, "lm_head".into(), None));
    }

    #[test]
    fn it_reads_as_a_sentence() {
        let place = NotFinite {
            layer: Some(3),
            part: "model.layers.3.mlp".into(),
            weight: Some("model.layers.3.mlp.down_proj.weight".into()),
        };
        assert_eq!(
            place.to_string(),
            "it begins in layer 3 (model.layers.3.mlp), whose weight \
             model.layers.3.mlp.down_proj.weight is itself not finite"
        );
        let place = NotFinite { layer: None, part: "lm_head".into(), weight: None };
        let sentence = "it begins in lm_head, whose weights are finite: its values overflow";
        assert_eq!(place.to_string(), sentence);
    }
}
