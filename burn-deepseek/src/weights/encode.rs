//! F32 values as the bytes of a checkpoint's type.

use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

/// Type that weights are saved in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveDType {
    /// As the parameters are: nothing is lost.
    #[default]
    F32,
    /// Half precision; a value past 65,504 is an error.
    F16,
    /// What DeepSeek-V3 is converted to for most uses.
    Bf16,
}

impl SaveDType {
    /// Its name in a `config.json`.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Its name in a safetensors header.
    pub(super) fn stored(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Bytes of an element.
    pub(super) fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Replaces `bytes` by the values, rounded to nearest even.
    ///
    /// # Errors
    ///
    /// The first finite value that the type has no finite value for.
    pub(super) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), f32> {
        bytes.resize(values.len() * self.size_bytes(), 0);
        match self {
            Self::F32 => each(values, bytes, |value| (value.to_le_bytes(), false)),
            Self::F16 => each(values, bytes, |value| {
                let half = f16::from_f32(value);
                (half.to_le_bytes(), half.is_infinite())
            }),
            Self::Bf16 => each(values, bytes, |value| {
                let brain = bf16::from_f32(value);
                (brain.to_le_bytes(), brain.is_infinite())
            }),
        }
    }
}

/// Encodes each value; `encode` also says whether the result is infinite.
fn each<const N: usize>(
    values: &[f32],
    bytes: &mut [u8],
    encode: impl Fn(f32) -> ([u8; N], bool),
) -> Result<(), f32> {
    let (elements, _) = bytes.as_chunks_mut::<N>();
    for (element, &value) in elements.iter_mut().zip(values) {
        let (encoded, infinite) = encode(value);
        if infinite && value.is_finite() {
            return Err(value);
        }
        *element = encoded;
    }
    Ok(())
}
