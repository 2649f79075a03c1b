//! Rope in `config.json`: `rope_scaling` and `rope_theta` of DeepSeek's own form, or both inside
//! `rope_parameters`, as transformers 5 writes them.

use serde_json::Value;

use super::HuggingFaceError;
use super::keys::Keys;
use crate::config::YarnConfig;

/// What is read of rope.
pub(super) struct Rope {
    pub(super) theta: f64,
    pub(super) yarn: Option<YarnConfig>,
}

/// `rope_theta` and YaRN. A `rope_scaling` that says something stands before `rope_parameters`;
/// `rope_theta` is looked for in the section first, then at the top.
pub(super) fn read_rope(
    keys: &Keys,
    default_theta: f64,
    max_position_embeddings: usize,
) -> Result<Rope, HuggingFaceError> {
    whole_rotation(keys)?;
    let section = match keys.section("rope_scaling")? {
        Some(section) => Some(section),
        None => keys.section("rope_parameters")?,
    };
    let Some(rope) = section else {
        return Ok(Rope { theta: keys.number("rope_theta", default_theta)?, yarn: None });
    };
    whole_rotation(&rope)?;
    let theta = match rope.written("rope_theta") {
        Some(_) => rope.number("rope_theta", default_theta)?,
        None => keys.number("rope_theta", default_theta)?,
    };
    let type_key = rope.name_of("rope_type", "type");
    let yarn = match rope.text(type_key)? {
        None | Some("default") => None,
        Some("yarn") => Some(read_yarn(keys, &rope, max_position_embeddings)?),
        Some(_) => return Err(rope.unsupported(type_key, "default, yarn")),
    };
    Ok(Rope { theta, yarn })
}

/// All of `qk_rope_head_dim` is rotated.
fn whole_rotation(keys: &Keys) -> Result<(), HuggingFaceError> {
    match keys.optional_number("partial_rotary_factor")? {
        None | Some(1.0) => Ok(()),
        Some(_) => Err(keys.unsupported("partial_rotary_factor", "1.0")),
    }
}

/// A zero says as little as leaving the key out: so it is in the code of these models.
fn said(rope: &Keys, key: &str) -> Result<Option<f64>, HuggingFaceError> {
    Ok(rope.optional_number(key)?.filter(|&number| number != 0.0))
}

fn read_yarn(
    keys: &Keys,
    rope: &Keys,
    max_position_embeddings: usize,
) -> Result<YarnConfig, HuggingFaceError> {
    if rope.written("truncate").is_some_and(|truncate| *truncate != Value::Bool(true)) {
        return Err(rope.unsupported("truncate", "true"));
    }
    // At the top of the file it counts before the section's.
    let original_key = "original_max_position_embeddings";
    let original = match keys.written(original_key) {
        Some(_) => keys.size(original_key, 0)?,
        None => rope.size(original_key, max_position_embeddings)?,
    };
    let factor = match rope.written("factor") {
        None => return Err(rope.missing("factor")),
        Some(Value::Null) => max_position_embeddings as f64 / original as f64,
        Some(_) => rope.number("factor", 1.0)?,
    };
    let mut yarn = YarnConfig {
        factor,
        original_max_position_embeddings: original,
        beta_fast: said(rope, "beta_fast")?.unwrap_or(32.0),
        beta_slow: said(rope, "beta_slow")?.unwrap_or(1.0),
        mscale: 1.0,
        mscale_all_dim: 0.0,
        attention_factor: rope.optional_number("attention_factor")?,
    };
    match (said(rope, "mscale")?, said(rope, "mscale_all_dim")?) {
        (Some(mscale), Some(all_dim)) => (yarn.mscale, yarn.mscale_all_dim) = (mscale, all_dim),
        // Alone, mscale is not looked at: cos and sin are scaled by `0.1 ln(factor) + 1`.
        (_, None) => {}
        // Alone, mscale_all_dim changes the softmax scale and nothing else.
        (None, Some(all_dim)) => {
            yarn.attention_factor = yarn.attention_factor.or(Some(yarn.attention_factor()));
            yarn.mscale_all_dim = all_dim;
        }
    }
    Ok(yarn)
}
