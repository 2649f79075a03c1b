//! What a product reads: two operands, each a matrix of FP8 codes, or a strided matrix of numbers
//! that are rounded to BF16 on the way.

use crate::definition::{CODES_A_WORD, Fp8Format, OperandView};
use crate::host::simd::{LANES, round_to_bf16};

/// A strided matrix that is rounded to BF16 (to nearest, ties to even) while it is packed.
#[derive(Clone, Copy)]
pub(crate) struct Floats<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
}

impl<'a> Floats<'a> {
    /// `rows` rows of `depth` entries each, one row every `row_stride`; products sum over `depth`.
    pub(crate) fn new(data: &'a [f32], rows: usize, depth: usize, row_stride: usize) -> Self {
        let reach = if rows == 0 || depth == 0 { 0 } else { (rows - 1) * row_stride + depth };
        assert!(reach <= data.len(), "invariant: a view lies inside its slice");
        Self { data, rows, depth, row_stride, depth_stride: 1 }
    }

    /// The transpose, without a copy: products sum over what were rows.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.depth,
            depth: self.rows,
            row_stride: self.depth_stride,
            depth_stride: self.row_stride,
            ..self
        }
    }
}

/// Either kind of operand.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// FP8 codes with scales.
    Codes(OperandView<'a>),
    /// Numbers, rounded to BF16.
    Floats(Floats<'a>),
}

impl Source<'_> {
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Codes(x) => x.rows,
            Self::Floats(x) => x.rows,
        }
    }

    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Codes(x) => x.depth,
            Self::Floats(x) => x.depth,
        }
    }
}

/// One product among those of a call: `left right^T`.
pub(super) struct Group<'a> {
    pub(super) left: Source<'a>,
    pub(super) right: Source<'a>,
    /// First element of its result, whose rows are as far apart as the output's.
    pub(super) start: usize,
}

/// Sixteen values of a row from entry `first` on, without their scale; zero from the `len`-th on.
///
/// `first` must be a multiple of 4.
#[inline(always)]
pub(super) fn values(x: &Source<'_>, row: usize, first: usize, len: usize) -> [f32; LANES] {
    let mut values = [0.0; LANES];
    match x {
        Source::Codes(x) => {
            let codes = codes(x, row, first, len.min(LANES));
            match x.format {
                Fp8Format::E4M3 => (0..LANES).for_each(|i| values[i] = decode_e4m3(codes[i])),
                Fp8Format::E5M2 => (0..LANES).for_each(|i| values[i] = decode_e5m2(codes[i])),
            }
        }
        Source::Floats(x) if x.depth_stride == 1 => {
            let row = &x.data[row * x.row_stride + first..];
            if let (Some(row), true) = (row.first_chunk::<LANES>(), len >= LANES) {
                (0..LANES).for_each(|i| values[i] = round_to_bf16(row[i]));
            } else {
                values
                    .iter_mut()
                    .zip(&row[..len])
                    .for_each(|(value, &x)| *value = round_to_bf16(x));
            }
        }
        Source::Floats(x) => {
            for (i, value) in values[..len.min(LANES)].iter_mut().enumerate() {
                *value = round_to_bf16(x.data[row * x.row_stride + (first + i) * x.depth_stride]);
            }
        }
    }
    values
}

/// Sixteen codes of a row from code `first` on, zero from the `len`-th on.
#[inline(always)]
fn codes(x: &OperandView<'_>, row: usize, first: usize, len: usize) -> [u8; LANES] {
    const WORDS: usize = LANES / CODES_A_WORD;
    let words = &x.codes[row * x.row_words + first / CODES_A_WORD..];
    let mut codes = [0; LANES];
    match words.first_chunk::<WORDS>() {
        // The common case apart: what follows is as slow as all the rest together.
        Some(words) if len == LANES => {
            for (codes, word) in codes.as_chunks_mut::<CODES_A_WORD>().0.iter_mut().zip(words) {
                *codes = word.to_le_bytes();
            }
        }
        _ => {
            for (i, code) in codes[..len].iter_mut().enumerate() {
                *code = words[i / CODES_A_WORD].to_le_bytes()[i % CODES_A_WORD];
            }
        }
    }
    codes
}

/// The value of a code, by arithmetic that vectorises. Subnormal codes go through a difference of
/// normal numbers: no FP32 subnormal arises, which some processors are slow at.
#[inline(always)]
fn decode_e4m3(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7F);
    let subnormal = magnitude < 8;
    let bits = (magnitude << 20) + ((120 + u32::from(subnormal)) << 23);
    let value = f32::from_bits(bits) - if subnormal { 0.015_625 } else { 0.0 };
    let value = if magnitude == 0x7F { f32::NAN } else { value };
    f32::from_bits(value.to_bits() | u32::from(code & 0x80) << 24)
}

/// The value of a code, by arithmetic that vectorises as [`decode_e4m3`]; infinities and NaN land
/// on those of FP32 by themselves.
#[inline(always)]
fn decode_e5m2(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7F);
    let subnormal = magnitude < 4;
    let exponent = if magnitude >= 0x7C { 224 } else { 112 + u32::from(subnormal) };
    let bits = (magnitude << 21) + (exponent << 23);
    let value = f32::from_bits(bits) - if subnormal { 6.103_515_6e-5 } else { 0.0 };
    f32::from_bits(value.to_bits() | u32::from(code & 0x80) << 24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::decode_fp8;

    #[test]
    fn arithmetic_decodes_every_code() {
        for code in 0..=255u8 {
            for (actual, format) in
                [(decode_e4m3(code), Fp8Format::E4M3), (decode_e5m2(code), Fp8Format::E5M2)]
            {
                let expected = decode_fp8(code, format);
                assert!(
                    actual.to_bits() == expected.to_bits()
                        || (actual.is_nan() && expected.is_nan()),
                    "{format:?} {code:#x}: {actual}"
                );
            }
        }
    }
}
