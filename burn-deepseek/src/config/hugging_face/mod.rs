//! Hugging Face's `config.json`: DeepSeek's own form, the newer one of transformers 5, and the way
//! back.

mod keys;
#[cfg(test)]
mod tests;
mod write;

use serde_json::Value;

use keys::Keys;

use super::{ConfigProblems, DeepSeekConfig, ScoringFunc, TopkMethod, YarnConfig};

/// Why a `config.json` is not a model that this crate computes.
#[derive(Debug, thiserror::Error)]
pub enum HuggingFaceError {
    /// The text is not JSON.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// The JSON is not an object.
    #[error("not a JSON object of configuration keys")]
    NotAnObject,
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
    /// Reads a `config.json` of `model_type` `deepseek_v3` or `deepseek_v2` in either form
    /// (`rope_scaling`, `rope_theta` at the top, or both inside `rope_parameters`), and validates
    /// it.
    ///
    /// Keys that do not change the mathematics are ignored, known or not (`torch_dtype`, `ep_size`,
    /// `use_cache`, ...); so are `seq_aux`, the balance loss being sequence-wise always, and a
    /// `quantization_config` of FP8 in blocks of 128 x 128, which says how the weights are stored
    /// and is the weight loader's affair.
    ///
    /// # Errors
    ///
    /// Malformed JSON, a missing or mistyped key, a value with a meaning not computed here (another
    /// `hidden_act`, rope type, quantization, grouped key heads, dropout), or a model that
    /// [`validate`](Self::validate) refuses.
    pub fn from_hugging_face_json(text: &str) -> Result<Self, HuggingFaceError> {
        let root: Value = serde_json::from_str(text)?;
        let keys = Keys::of(root.as_object().ok_or(HuggingFaceError::NotAnObject)?);
        let v2 = match keys.text("model_type")? {
            Some("deepseek_v3") => false,
            Some("deepseek_v2") => true,
            Some(_) => return Err(keys.unsupported("model_type", "deepseek_v3, deepseek_v2")),
            None => return Err(keys.missing("model_type")),
        };
        refuse_other_meanings(&keys, v2)?;
        let config = read_model(&keys, v2)?;
        config.validate()?;
        Ok(config)
    }
}

/// Reads the fields; what is left out takes the value that the model's own code gives it.
fn read_model(keys: &Keys, v2: bool) -> Result<DeepSeekConfig, HuggingFaceError> {
    let topk_method = match keys.text("topk_method")? {
        Some("noaux_tc") => TopkMethod::NoauxTc,
        Some("group_limited_greedy") => TopkMethod::GroupLimitedGreedy,
        Some("greedy") => TopkMethod::Greedy,
        Some(_) => {
            return Err(keys.unsupported("topk_method", "noaux_tc, group_limited_greedy, greedy"));
        }
        None if v2 => TopkMethod::Greedy,
        None => TopkMethod::NoauxTc,
    };
    let scoring_func = match keys.text("scoring_func")? {
        Some("sigmoid") => ScoringFunc::Sigmoid,
        Some("softmax") => ScoringFunc::Softmax,
        Some(_) => return Err(keys.unsupported("scoring_func", "sigmoid, softmax")),
        None if v2 => ScoringFunc::Softmax,
        None => ScoringFunc::Sigmoid,
    };
    // Greedy looks at no groups, whatever the file says of them.
    let grouped = topk_method != TopkMethod::Greedy;
    let n_routed_experts = keys.size("n_routed_experts")?.unwrap_or(0);
    let (rope_theta, rope_scaling) = read_rope(keys)?;
    Ok(DeepSeekConfig {
        vocab_size: keys.required("vocab_size")?,
        hidden_size: keys.required("hidden_size")?,
        intermediate_size: keys.required("intermediate_size")?,
        moe_intermediate_size: keys.required_if(n_routed_experts > 0, "moe_intermediate_size")?,
        num_hidden_layers: keys.required("num_hidden_layers")?,
        num_attention_heads: keys.required("num_attention_heads")?,
        n_shared_experts: keys.size("n_shared_experts")?.unwrap_or(0),
        n_routed_experts,
        num_experts_per_tok: keys.required_if(n_routed_experts > 0, "num_experts_per_tok")?,
        n_group: keys.size("n_group")?.filter(|_| grouped).unwrap_or(1),
        topk_group: keys.size("topk_group")?.filter(|_| grouped).unwrap_or(1),
        first_k_dense_replace: keys.size("first_k_dense_replace")?.unwrap_or(0),
        moe_layer_freq: keys.size("moe_layer_freq")?.unwrap_or(1),
        routed_scaling_factor: keys.number("routed_scaling_factor")?.unwrap_or(1.0),
        scoring_func,
        topk_method,
        norm_topk_prob: keys.flag("norm_topk_prob")?.unwrap_or(!v2),
        q_lora_rank: keys.size("q_lora_rank")?,
        kv_lora_rank: keys.required("kv_lora_rank")?,
        qk_nope_head_dim: keys.required("qk_nope_head_dim")?,
        qk_rope_head_dim: keys.required("qk_rope_head_dim")?,
        v_head_dim: keys.required("v_head_dim")?,
        attention_bias: keys.flag("attention_bias")?.unwrap_or(false),
        rope_theta,
        rope_interleave: keys.flag("rope_interleave")?.unwrap_or(true),
        rope_scaling,
        max_position_embeddings: keys.required("max_position_embeddings")?,
        rms_norm_eps: keys.number("rms_norm_eps")?.unwrap_or(1e-6),
        initializer_range: keys.number("initializer_range")?.unwrap_or(0.02),
        tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
        num_nextn_predict_layers: keys.size("num_nextn_predict_layers")?.unwrap_or(0),
        aux_loss_alpha: keys.number("aux_loss_alpha")?.unwrap_or(0.0),
        bos_token_id: keys.tokens("bos_token_id")?.first(),
        eos_token_id: keys.tokens("eos_token_id")?,
    })
}

/// `rope_theta` and YaRN, from `rope_parameters`, else from `rope_scaling` and the top level.
fn read_rope(keys: &Keys) -> Result<(f64, Option<YarnConfig>), HuggingFaceError> {
    let section = match keys.section("rope_parameters")? {
        Some(section) => Some(section),
        None => keys.section("rope_scaling")?,
    };
    let theta_at_top = keys.number("rope_theta")?;
    let Some(rope) = section else {
        return Ok((theta_at_top.unwrap_or(10_000.0), None));
    };
    let theta = rope.number("rope_theta")?.or(theta_at_top).unwrap_or(10_000.0);
    let type_key = if rope.has("rope_type") { "rope_type" } else { "type" };
    match rope.text(type_key)? {
        None | Some("default") => return Ok((theta, None)),
        Some("yarn") => {}
        Some(_) => return Err(rope.unsupported(type_key, "default, yarn")),
    }
    if rope.has("attention_factor") {
        return Err(rope.unsupported("attention_factor", "none; mscale and mscale_all_dim say it"));
    }
    if rope.flag("truncate")? == Some(false) {
        return Err(rope.unsupported("truncate", "true"));
    }
    let yarn = YarnConfig {
        factor: rope.number("factor")?.ok_or_else(|| rope.missing("factor"))?,
        original_max_position_embeddings: rope.required("original_max_position_embeddings")?,
        beta_fast: rope.number("beta_fast")?.unwrap_or(32.0),
        beta_slow: rope.number("beta_slow")?.unwrap_or(1.0),
        mscale: rope.number("mscale")?.unwrap_or(1.0),
        mscale_all_dim: rope.number("mscale_all_dim")?.unwrap_or(0.0),
    };
    Ok((theta, Some(yarn)))
}

/// Refuses the values that would make another model of the same keys.
fn refuse_other_meanings(keys: &Keys, v2: bool) -> Result<(), HuggingFaceError> {
    if !matches!(keys.text("hidden_act")?, None | Some("silu" | "swish")) {
        return Err(keys.unsupported("hidden_act", "silu"));
    }
    if keys.number("attention_dropout")?.unwrap_or(0.0) != 0.0 {
        return Err(keys.unsupported("attention_dropout", "0.0"));
    }
    if keys.flag("mlp_bias")? == Some(true) {
        return Err(keys.unsupported("mlp_bias", "false"));
    }
    if let Some(key_heads) = keys.size("num_key_value_heads")?
        && Some(key_heads) != keys.size("num_attention_heads")?
    {
        return Err(keys.unsupported("num_key_value_heads", "as many as num_attention_heads (MLA)"));
    }
    // DeepSeek-V2's gate normalizes or scales; V3's does one after the other.
    let scale = keys.number("routed_scaling_factor")?.unwrap_or(1.0);
    if v2 && normalizes_and_scales(keys.flag("norm_topk_prob")?.unwrap_or(false), scale) {
        return Err(keys.unsupported(
            "norm_topk_prob",
            "false where a deepseek_v2 has routed_scaling_factor other than 1",
        ));
    }
    if let Some(quantization) = keys.section("quantization_config")? {
        if quantization.text("quant_method")? != Some("fp8") {
            return Err(quantization.unsupported("quant_method", "fp8"));
        }
        let block = quantization.get("weight_block_size");
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
