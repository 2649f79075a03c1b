//! The stored types of a checkpoint as F32: F32, F16, BF16, and E4M3 with a scale for each 128 x
//! 128 block (3.3.2), itself in F32, BF16 or E8M0.

use half::{bf16, f16};
use safetensors::Dtype;

/// Rows and columns that share one scale.
pub(super) const BLOCK: usize = 128;

/// Decodes little-endian elements of F32, F16, BF16 or E8M0; whatever else leaves `out` as it is.
pub(super) fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => each(bytes, out, f32::from_le_bytes),
        Dtype::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F8_E8M0 => each(bytes, out, |[code]| e8m0(code)),
        _ => {}
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (value, &element) in out.iter_mut().zip(elements) {
        *value = decode(element);
    }
}

/// Decodes the E4M3 codes of rows `first_row..` of a matrix of `columns` columns:
/// `out = e4m3(code) * scale_inv[row / 128, column / 128]`.
///
/// # Shapes
/// - `codes [rows, columns]`, `scale_inv` of the whole matrix, `out [rows, columns]`
pub(super) fn dequantize(
    codes: &[u8],
    scale_inv: &[f32],
    first_row: usize,
    columns: usize,
    out: &mut [f32],
) {
    if columns == 0 {
        return;
    }
    let table: [f32; 256] = std::array::from_fn(|code| e4m3(code as u8));
    let blocks = columns.div_ceil(BLOCK);
    for (row, (codes, out)) in codes.chunks(columns).zip(out.chunks_mut(columns)).enumerate() {
        let scales = &scale_inv[(first_row + row) / BLOCK * blocks..][..blocks];
        for ((codes, out), scale) in codes.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).zip(scales) {
            for (value, &code) in out.iter_mut().zip(codes) {
                *value = table[usize::from(code)] * scale;
            }
        }
    }
}

/// Whether an E4M3 code is one of the two that are no number.
pub(super) fn is_nan_code(code: u8) -> bool {
    code & 0x7F == 0x7F
}

/// The value of an E8M0 code, `2^(code - 127)`; NaN at 0xFF.
fn e8m0(code: u8) -> f32 {
    match code {
        // 2^-127 is subnormal in F32.
        0 => f32::from_bits(1 << 22),
        0xFF => f32::NAN,
        code => f32::from_bits(u32::from(code) << 23),
    }
}

/// The value of an E4M3 code: sign, 4 exponent bits of bias 7, 3 mantissa bits; no infinities, and
/// NaN at 0x7F and 0xFF.
fn e4m3(code: u8) -> f32 {
    let mantissa = f32::from(code & 7);
    let magnitude = match (code >> 3) & 15 {
        _ if is_nan_code(code) => f32::NAN,
        0 => mantissa / 512.0,
        exponent => (1.0 + mantissa / 8.0) * f32::from(exponent).exp2() / 128.0,
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_has_its_known_values() {
        let subnormal = [(0x00, 0.0), (0x01, 0.001953125), (0x07, 0.013671875)];
        let normal = [(0x08, 0.015625), (0x38, 1.0), (0x7E, 448.0), (0xFE, -448.0), (0xB9, -1.125)];
        for (code, value) in subnormal.into_iter().chain(normal) {
            assert_eq!(e4m3(code), value, "{code:#x}");
        }
        assert!(e4m3(0x7F).is_nan() && e4m3(0xFF).is_nan());
    }

    /// Ragged blocks: a scale taken by element instead of by block, or a row stride without the
    /// last short block, shows here.
    #[test]
    fn dequantize_takes_the_scale_of_each_ragged_block() {
        let (rows, columns) = (130, 257);
        let scales = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut out = vec![0.0; rows * columns];
        dequantize(&vec![0x38; rows * columns], &scales, 0, columns, &mut out);
        let first_blocks = [(0, 0, 1.0), (127, 127, 1.0), (0, 128, 2.0), (127, 256, 3.0)];
        let last_blocks = [(128, 0, 4.0), (129, 255, 5.0), (129, 256, 6.0)];
        for (row, column, scale) in first_blocks.into_iter().chain(last_blocks) {
            assert_eq!(out[row * columns + column], scale, "{row} {column}");
        }
    }
    /// Rows that are read in pieces have the scales of their place in the whole.
    #[test]
    fn dequantize_of_later_rows_takes_their_scales() {
        let mut out = vec![0.0; 2 * 3];
        dequantize(&[0x38; 6], &[1.0, 2.0], 127, 3, &mut out);
        assert_eq!(out, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn e8m0_has_its_known_values() {
        let known = [(0, (-127f32).exp2()), (1, (-126f32).exp2()), (113, (-14f32).exp2())];
        for (code, value) in known.into_iter().chain([(127, 1.0), (254, 127f32.exp2())]) {
            let mut out = [0.0];
            decode(Dtype::F8_E8M0, &[code], &mut out);
            assert_eq!(out, [value], "{code}");
        }
        assert!(e8m0(0xFF).is_nan());
    }
}
