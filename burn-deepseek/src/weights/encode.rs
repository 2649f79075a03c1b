//! F32 values as the bytes of a checkpoint's type.

use cubecl_kernels::definition::{CODES_A_WORD, Fp8Format, QuantizeOptions, ScaleFormat, words};
use cubecl_kernels::host::quantize_blocks;
use half::{bf16, f16};
use safetensors::Dtype;

use super::NamedSlice;
use super::decode::{BLOCK, is_nan_code};

/// Type that weights are saved in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaveDType {
    /// As the parameters are: nothing is lost.
    #[default]
    F32,
    /// Half precision; a value past 65,504 is an error.
    F16,
    /// What DeepSeek-V3 is converted to for most uses.
    Bf16,
    /// As DeepSeek publishes its weights (3.3.2): the linears of the layers as E4M3 codes with a
    /// scale for each 128 x 128 block in `{name}_scale_inv`, everything else in BF16. A value that
    /// is not finite is an error.
    Fp8(ScaleFormat),
}

/// What the name of the one parameter that stays F32 ends with: training moves it by steps too
/// small for 16 bits to keep.
const BALANCE_BIAS: &str = "e_score_correction_bias";

/// What the names of matrices end with that DeepSeek publishes in FP8. `eh_proj` is none of them.
const QUANTIZED: [&str; 2] = ["_proj.weight", ".kv_a_proj_with_mqa.weight"];
const MTP_PROJECTION: &str = ".eh_proj.weight";

impl SaveDType {
    /// Its name in a `config.json`, where FP8 has none and is written as what surrounds it.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 | Self::Fp8(_) => "bfloat16",
        }
    }

    /// Its name in a safetensors header.
    pub(super) fn stored(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
            Self::Fp8(_) => Dtype::F8_E4M3,
        }
    }

    /// The type of one tensor of a checkpoint in this type.
    pub(super) fn of(self, slice: &NamedSlice) -> Self {
        let name = &slice.name;
        match self {
            _ if name.ends_with(BALANCE_BIAS) => Self::F32,
            Self::Fp8(_) if !is_quantized(name) => Self::Bf16,
            dtype => dtype,
        }
    }

    /// Bytes of an element.
    pub(super) fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Fp8(_) => 1,
        }
    }

    /// Replaces `bytes` by the values, rounded to nearest even; FP8 needs a matrix, and is not
    /// encoded here.
    ///
    /// # Errors
    ///
    /// The first finite value that the type has no finite value for.
    pub(super) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), f32> {
        bytes.resize(values.len() * self.size_bytes(), 0);
        match self {
            Self::F32 | Self::Fp8(_) => each(values, bytes, |value| (value.to_le_bytes(), false)),
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

/// Whether a tensor is one of the linears that DeepSeek publishes in FP8.
fn is_quantized(name: &str) -> bool {
    QUANTIZED.iter().any(|end| name.ends_with(end)) && !name.ends_with(MTP_PROJECTION)
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

/// A matrix in E4M3 with a scale for each 128 x 128 block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blocks {
    /// Codes, `[rows, columns]`.
    pub codes: Vec<u8>,
    /// Multipliers that dequantize, `[ceil(rows / 128), ceil(columns / 128)]`.
    pub scales: Vec<f32>,
}

impl Blocks {
    /// Quantizes a matrix of rows of `columns`, each block by its own largest magnitude.
    ///
    /// # Errors
    ///
    /// The first value that is not finite.
    pub fn quantize(values: &[f32], columns: usize, scale: ScaleFormat) -> Result<Self, f32> {
        if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
            return Err(value);
        }
        let rows = values.len() / columns.max(1);
        let options = QuantizeOptions { format: Fp8Format::E4M3, scale, ..Default::default() };
        let quantized = quantize_blocks(values, 1, rows, columns, &options)
            .expect("invariant: a matrix has rows of its columns");
        let row_words = words(columns);
        let codes = if columns.is_multiple_of(CODES_A_WORD) {
            quantized.codes.iter().flat_map(|word| word.to_le_bytes()).collect()
        } else {
            let rows = quantized.codes.chunks(row_words.max(1));
            let bytes = |row: &[u32]| row.iter().flat_map(|word| word.to_le_bytes()).collect();
            rows.flat_map(|row| Vec::into_iter(bytes(row)).take(columns)).collect()
        };
        Ok(Self { codes, scales: quantized.scales })
    }

    /// Whether a code or a scale is NaN, or a scale infinite.
    pub fn has_nan(&self) -> bool {
        self.codes.iter().any(|&code| is_nan_code(code))
            || !self.scales.iter().all(|scale| scale.is_finite())
    }

    /// Whether the scales are of a format already.
    pub fn has_scales_of(&self, format: ScaleFormat) -> bool {
        let is_power_of_two = |scale: &f32| scale.is_normal() && scale.to_bits() << 9 == 0;
        format == ScaleFormat::F32 || self.scales.iter().all(is_power_of_two)
    }
}

/// Shape of the scales of a matrix.
pub(super) fn scale_shape(shape: &[usize]) -> Vec<usize> {
    shape.iter().map(|n| n.div_ceil(BLOCK)).collect()
}
