//! Hugging Face's `config.json`: DeepSeek's own form, the newer one of transformers 5, and the way
//! back.

mod keys;
mod model_type;
mod rope;
#[cfg(test)]
mod tests;
mod write;

use serde_json::Value;

use keys::Keys;
use model_type::Type;
use rope::{Rope, read_rope};

use super::{ConfigProblems, DeepSeekConfig, ModelType, ScoringFunc, TopkMethod};

/// Why a `config.json` is not a model that this crate computes.
#[derive(Debug, thiserror::Error)]
pub enum HuggingFaceError {
    /// The text is not JSON.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// The JSON is not an object.
    #[error("not a JSON object of configuration keys")]
    NotAnObject,
    /// A model of another architecture.
    #[error(
        "model_type \"{model_type}\" is another architecture, of which this program does not \
         have a part: {missing}; model types that are read: {}",
        model_type::READ
    )]
    OtherArchitecture {
        /// The model type.
        model_type: String,
        /// What is not computed here.
        missing: &'static str,
    },
    /// A model type of which nothing is known.
    #[error(
        "model_type \"{model_type}\" is not one that is read ({}); if the model has DeepSeek's \
         attention (MLA) and experts, and nothing beside them, name one of these instead",
        model_type::READ
    )]
    UnknownArchitecture {
        /// The model type.
        model_type: String,
    },
    /// A key that has no default is absent or null.
    #[error("key \"{key}\" is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// A value has another type than its key needs.
    #[error("key \"{key}\" is {found}, it must be {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// The value found, as JSON.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A value asks for something that this crate does not compute.
    #[error("key \"{key}\" is {found}, which is not supported; supported: {supported}")]
    Unsupported {
        /// The key.
        key: String,
        /// The value found, as JSON.
        found: String,
        /// The values that are.
        supported: &'static str,
    },
    /// The values do not make a model.
    #[error("impossible model")]
    Invalid(#[from] ConfigProblems),
}

impl DeepSeekConfig {
    /// Reads a `config.json` of `model_type` `deepseek_v3` (Moonlight's too), `deepseek_v2`,
    /// `kimi_k2` or `glm4_moe_lite` in either form (`rope_scaling`, `rope_theta` at the top, or
    /// both inside `rope_parameters`), and validates it.
    ///
    /// A key that is left out has the value that the model type's own code gives it, as of
    /// transformers 5.24. Null is what that code makes of it: no query latent, no groups, no
    /// token, false; where it means nothing there, it is refused.
    ///
    /// Keys that do not change the mathematics are ignored, known or not (`torch_dtype`, `ep_size`,
    /// `use_cache`, ...); so are `seq_aux`, the balance loss being sequence-wise always, and a
    /// `quantization_config` of FP8 in blocks of 128 x 128, which says how the weights are stored
    /// and is the weight loader's affair.
    ///
    /// # Errors
    ///
    /// Malformed JSON, another architecture (with the part of it that is missing here), a missing
    /// or mistyped key, a value with a meaning not computed here (another `hidden_act`, rope type,
    /// quantization, grouped key heads, dropout), or a model that [`validate`](Self::validate)
    /// refuses.
    pub fn from_hugging_face_json(text: &str) -> Result<Self, HuggingFaceError> {
        let root: Value = serde_json::from_str(text)?;
        let keys = Keys::of(root.as_object().ok_or(HuggingFaceError::NotAnObject)?);
        let name = keys.text("model_type")?.ok_or_else(|| keys.missing("model_type"))?;
        let model_type = Type::named(name).ok_or_else(|| match model_type::missing_part(name) {
            Some(missing) => {
                HuggingFaceError::OtherArchitecture { model_type: name.into(), missing }
            }
            None => HuggingFaceError::UnknownArchitecture { model_type: name.into() },
        })?;
        let config = read_model(&keys, model_type)?;
        refuse_other_meanings(&keys, model_type, &config)?;
        config.validate()?;
        Ok(config)
    }
}

/// Reads the fields; what is left out takes the value that the model's own code gives it.
fn read_model(keys: &Keys, model_type: Type) -> Result<DeepSeekConfig, HuggingFaceError> {
    let default = model_type.defaults();
    let topk_method = match keys.text("topk_method")? {
        Some("noaux_tc") => TopkMethod::NoauxTc,
        Some("group_limited_greedy") => TopkMethod::GroupLimitedGreedy,
        Some("greedy") => TopkMethod::Greedy,
        Some(_) => {
            return Err(keys.unsupported("topk_method", "noaux_tc, group_limited_greedy, greedy"));
        }
        None => default.topk_method,
    };
    let scoring_func = match keys.text("scoring_func")? {
        Some("sigmoid") => ScoringFunc::Sigmoid,
        Some("softmax") => ScoringFunc::Softmax,
        Some(_) => return Err(keys.unsupported("scoring_func", "sigmoid, softmax")),
        None => default.scoring_func,
    };
    let groups = |key, left_out| read_groups(keys, key, left_out, topk_method);
    let experts_key = keys.name_of("n_routed_experts", model_type.other_name_of_experts());
    let n_routed_experts =
        keys.optional_size(experts_key, Some(default.n_routed_experts))?.unwrap_or(0);
    let num_experts_per_tok =
        keys.optional_size("num_experts_per_tok", default.num_experts_per_tok)?;
    if n_routed_experts > 0 && num_experts_per_tok.is_none() {
        return Err(keys.missing("num_experts_per_tok"));
    }
    let num_hidden_layers = keys.size("num_hidden_layers", default.num_hidden_layers)?;
    let max_position_embeddings =
        keys.size("max_position_embeddings", default.max_position_embeddings)?;
    let Rope { theta, yarn } = read_rope(keys, default.rope_theta, max_position_embeddings)?;
    let mtp_key = keys.name_of("num_nextn_predict_layers", "num_mtp_layers");
    Ok(DeepSeekConfig {
        model_type: match model_type {
            Type::Glm4MoeLite => ModelType::Glm4MoeLite,
            Type::DeepseekV3 | Type::DeepseekV2 | Type::KimiK2 => ModelType::DeepSeek,
        },
        vocab_size: keys.size("vocab_size", default.vocab_size)?,
        hidden_size: keys.size("hidden_size", default.hidden_size)?,
        intermediate_size: keys.size("intermediate_size", default.intermediate_size)?,
        moe_intermediate_size: keys.size("moe_intermediate_size", default.moe_intermediate_size)?,
        num_hidden_layers,
        num_attention_heads: keys.size("num_attention_heads", default.num_attention_heads)?,
        n_shared_experts: keys
            .optional_size("n_shared_experts", Some(default.n_shared_experts))?
            .unwrap_or(0),
        n_routed_experts,
        num_experts_per_tok: num_experts_per_tok.unwrap_or(0),
        n_group: groups("n_group", default.n_group)?,
        topk_group: groups("topk_group", default.topk_group)?,
        first_k_dense_replace: read_dense_layers(keys, model_type, num_hidden_layers)?,
        moe_layer_freq: keys.size("moe_layer_freq", default.moe_layer_freq)?,
        routed_scaling_factor: keys
            .number("routed_scaling_factor", default.routed_scaling_factor)?,
        scoring_func,
        topk_method,
        norm_topk_prob: keys.flag("norm_topk_prob", default.norm_topk_prob)?,
        q_lora_rank: keys.optional_size("q_lora_rank", default.q_lora_rank)?,
        kv_lora_rank: keys.size("kv_lora_rank", default.kv_lora_rank)?,
        qk_nope_head_dim: keys.size("qk_nope_head_dim", default.qk_nope_head_dim)?,
        qk_rope_head_dim: keys.size("qk_rope_head_dim", default.qk_rope_head_dim)?,
        v_head_dim: keys.size("v_head_dim", default.v_head_dim)?,
        attention_bias: keys.flag("attention_bias", default.attention_bias)?,
        rope_theta: theta,
        rope_interleave: keys.flag("rope_interleave", default.rope_interleave)?,
        rope_scaling: yarn,
        max_position_embeddings,
        rms_norm_eps: keys.number("rms_norm_eps", default.rms_norm_eps)?,
        initializer_range: keys.number("initializer_range", default.initializer_range)?,
        tie_word_embeddings: keys.flag("tie_word_embeddings", default.tie_word_embeddings)?,
        num_nextn_predict_layers: keys
            .optional_size(mtp_key, Some(default.num_nextn_predict_layers))?
            .unwrap_or(0),
        aux_loss_alpha: keys.number("aux_loss_alpha", default.aux_loss_alpha)?,
        bos_token_id: keys.tokens("bos_token_id", default.bos_token_id)?.first(),
        eos_token_id: keys.tokens("eos_token_id", default.eos_token_id)?,
    })
}

/// `n_group` or `topk_group`: one where the file says that there is no number of them, except for
/// a choice by groups, which cannot be made without.
fn read_groups(
    keys: &Keys,
    key: &str,
    left_out: Option<usize>,
    method: TopkMethod,
) -> Result<usize, HuggingFaceError> {
    let groups = keys.optional_size(key, left_out)?;
    match method {
        // Greedy looks at no groups, whatever the file says of them.
        TopkMethod::Greedy => Ok(1),
        TopkMethod::NoauxTc => Ok(groups.unwrap_or(1)),
        TopkMethod::GroupLimitedGreedy => groups.ok_or_else(|| keys.missing(key)),
    }
}

/// How many layers are dense before the first one that is MoE.
fn read_dense_layers(
    keys: &Keys,
    model_type: Type,
    num_hidden_layers: usize,
) -> Result<usize, HuggingFaceError> {
    const KEY: &str = "mlp_layer_types";
    const EXPECTED: &str = "a list of \"dense\" for the first layers and \"sparse\" for all others";
    let types = keys.value(KEY).filter(|_| model_type == Type::Glm4MoeLite);
    let Some(types) = types else {
        return keys.size("first_k_dense_replace", model_type.defaults().first_k_dense_replace);
    };
    let types = types.as_array().ok_or_else(|| keys.wrong_type(KEY, EXPECTED))?;
    // A cut-down model may keep the list of all layers.
    let types = types.get(..num_hidden_layers).ok_or_else(|| keys.unsupported(KEY, EXPECTED))?;
    let dense = types.iter().take_while(|kind| kind.as_str() == Some("dense")).count();
    if types[dense..].iter().any(|kind| kind.as_str() != Some("sparse")) {
        return Err(keys.unsupported(KEY, EXPECTED));
    }
    if dense < num_hidden_layers {
        return Ok(dense);
    }
    // All of them; whether a MTP module after them is dense too, the other key may say.
    Ok(keys.size("first_k_dense_replace", dense)?.max(dense))
}

/// Refuses the values that would make another model of the same keys.
fn refuse_other_meanings(
    keys: &Keys,
    model_type: Type,
    config: &DeepSeekConfig,
) -> Result<(), HuggingFaceError> {
    if !matches!(keys.text("hidden_act")?, None | Some("silu" | "swish")) {
        return Err(keys.unsupported("hidden_act", "silu"));
    }
    if keys.optional_number("attention_dropout")?.unwrap_or(0.0) != 0.0 {
        return Err(keys.unsupported("attention_dropout", "0.0"));
    }
    for key in ["mlp_bias", "use_qk_norm"] {
        if keys.flag(key, false)? {
            return Err(keys.unsupported(key, "false"));
        }
    }
    let heads = config.num_attention_heads;
    if keys.optional_size("num_key_value_heads", None)?.is_some_and(|keys| keys != heads) {
        return Err(keys.unsupported("num_key_value_heads", "as many as num_attention_heads (MLA)"));
    }
    // Of DeepSeek-V3.2, whichever model_type the file gives.
    if keys.value("index_topk").is_some() {
        return Err(keys.unsupported("index_topk", "none; attention here is over all keys"));
    }
    // GLM's code takes it for another name of qk_rope_head_dim; to the others it says nothing.
    if model_type == Type::Glm4MoeLite
        && keys.optional_size("head_dim", None)?.is_some_and(|dim| dim != config.qk_rope_head_dim)
    {
        return Err(keys.unsupported("head_dim", "that of qk_rope_head_dim"));
    }
    // DeepSeek-V2's gate normalizes or scales; V3's does one after the other.
    if model_type == Type::DeepseekV2
        && normalizes_and_scales(config.norm_topk_prob, config.routed_scaling_factor)
    {
        return Err(keys.unsupported(
            "norm_topk_prob",
            "false where a deepseek_v2 has routed_scaling_factor other than 1",
        ));
    }
    if let Some(quantization) = keys.section("quantization_config")? {
        if quantization.text("quant_method")? != Some("fp8") {
            return Err(quantization.unsupported("quant_method", "fp8"));
        }
        let block = quantization.value("weight_block_size");
        if block.is_some_and(|block| *block != Value::from(vec![128, 128])) {
            return Err(quantization.unsupported("weight_block_size", "[128, 128]"));
        }
    }
    Ok(())
}

/// Whether a gate both normalizes and scales, which DeepSeek-V2's own code never does.
fn normalizes_and_scales(norm_topk_prob: bool, routed_scaling_factor: f64) -> bool {
    norm_topk_prob && routed_scaling_factor != 1.0
}
