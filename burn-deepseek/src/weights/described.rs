//! What a `config.json` says of the weights beside it and of the tokens that begin and end a text.

use cubecl_kernels::definition::ScaleFormat;
use serde_json::{Value, json};

use super::SaveDType;
use super::decode::BLOCK;
use crate::EndTokens;

const QUANTIZATION: &str = "quantization_config";
const SCALE_FORMAT: &str = "scale_fmt";
const POWER_OF_TWO: &str = "ue8m0";

/// Says in a `config.json` how the weights beside it are stored: their type, and for FP8 what
/// DeepSeek's own `quantization_config` says. Power-of-two scales are named there and stored as
/// F32 all the same, as DeepSeek-V3.1 has them.
pub(super) fn describe_storage(config: &mut Value, dtype: SaveDType) {
    config["torch_dtype"] = json!(dtype.torch_name());
    // The name of the same key in files that transformers 5 writes.
    if config.get("dtype").is_some() {
        config["dtype"] = json!(dtype.torch_name());
    }
    let SaveDType::Fp8(format) = dtype else {
        if let Some(keys) = config.as_object_mut() {
            keys.remove(QUANTIZATION);
        }
        return;
    };
    config[QUANTIZATION] = json!({
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [BLOCK, BLOCK],
    });
    if format == ScaleFormat::PowerOfTwo {
        config[QUANTIZATION][SCALE_FORMAT] = json!(POWER_OF_TWO);
    }
}

/// The format of the scales that a `config.json` says its weights have.
pub(super) fn scale_format(config: &Value) -> ScaleFormat {
    match config[QUANTIZATION][SCALE_FORMAT].as_str() {
        Some(POWER_OF_TWO) => ScaleFormat::PowerOfTwo,
        _ => ScaleFormat::F32,
    }
}

/// Names the tokens in a `config.json`: the first one where the file names none, and all that end
/// a text where there are any.
pub(super) fn describe_tokens(config: &mut Value, begin: Option<u32>, end: &EndTokens) {
    if config.get("bos_token_id").is_none_or(Value::is_null) {
        config["bos_token_id"] = json!(begin);
    }
    if !end.is_empty() {
        config["eos_token_id"] = json!(end);
    }
}
