//! Encoding, decoding and scales on the device, on bit patterns: no 8-bit type, no reliance on how
//! a device divides, flushes subnormals or compares NaN.

use super::codec_ptx::{convert_quad, quotient, rounded_reciprocal};
use crate::definition::{AMAX_FLOOR, Fp8Format, ScaleFormat};
use cubecl::prelude::*;

/// Magnitude bits of an infinite FP32; above it lie the NaNs.
pub(crate) const INFINITY_BITS: u32 = 0x7F80_0000;
/// The NaN that scales and decoded values carry.
pub(crate) const NAN_BITS: u32 = 0x7FC0_0000;

/// How a kernel divides by a scale and rounds to FP8. The codes are the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Conversion {
    /// In integers, which put right whatever division a device has.
    Integers,
    /// By the reciprocal, a remainder, and NVIDIA's `cvt` to FP8 (compute capability 8.9 on).
    Instruction,
}

/// Bits of the BF16 nearest to an FP32, ties to even; NaN stays NaN.
#[cube]
pub(crate) fn bf16_bits(bits: u32) -> u32 {
    let rounded = (bits + 0x7FFFu32 + ((bits >> 16u32) & 1u32)) >> 16u32;
    select((bits & 0x7FFF_FFFFu32) > INFINITY_BITS, (bits >> 16u32) | 0x40u32, rounded)
}

/// A sign, an exponent and a mantissa, subnormals included, as device code takes it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Minifloat {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: u32,
    pub(crate) largest_code: u32,
    /// Whether the code after the largest is infinity; if not, it is the NaN.
    infinity: bool,
}

impl Minifloat {
    /// 12 bits, for the input of the linear after attention (3.3.3).
    pub(crate) const E5M6: Self =
        Self { exponent_bits: 5, mantissa_bits: 6, bias: 15, largest_code: 0x7BF, infinity: true };

    pub(crate) const fn fp8(format: Fp8Format) -> Self {
        match format {
            Fp8Format::E4M3 => Self {
                exponent_bits: 4,
                mantissa_bits: 3,
                bias: 7,
                largest_code: 0x7E,
                infinity: false,
            },
            Fp8Format::E5M2 => Self {
                exponent_bits: 5,
                mantissa_bits: 2,
                bias: 15,
                largest_code: 0x7B,
                infinity: true,
            },
        }
    }

    /// Where the sign is.
    pub(crate) const fn sign_shift(self) -> u32 {
        self.exponent_bits + self.mantissa_bits
    }

    /// The code of NaN that an encoder writes: all bits but the sign.
    pub(crate) const fn nan_code(self) -> u32 {
        (1 << self.sign_shift()) - 1
    }
}

/// The correctly rounded bits of `x / s` from an approximation of at most 3 units in the last
/// place, for positive normal `x`, `s` and quotient. Elsewhere the approximation comes back.
///
/// WGSL and SPIR-V allow a division 2.5 units of error, which would move a few codes in a million.
/// With integer significands the residual `x - q s` is below `2^31` units, so its low 32 bits are
/// exact and say which neighbour is nearest. (A quotient of FP32 numbers never lies half-way
/// between two.)
#[cube]
pub(crate) fn round_quotient(x_bits: u32, s_bits: u32, approximate_bits: u32) -> u32 {
    let s_significand = (s_bits & 0x7F_FFFFu32) | 0x80_0000u32;
    let x_significand = (x_bits & 0x7F_FFFFu32) | 0x80_0000u32;
    let q_significand = (approximate_bits & 0x7F_FFFFu32) | 0x80_0000u32;
    let x_exponent = x_bits >> 23u32;
    let s_exponent = s_bits >> 23u32;
    let q_exponent = approximate_bits >> 23u32;
    // 22..=25 wherever the approximation is one; anything else (zero, infinity, underflow) wraps or
    // falls outside.
    let shift = x_exponent + 150u32 - q_exponent - s_exponent;
    let known = shift - 22u32 <= 3u32
        && x_exponent > 0u32
        && x_exponent < 255u32
        && s_exponent > 0u32
        && s_exponent < 255u32
        && q_exponent > 1u32
        && q_exponent < 255u32;
    let shift = select(known, shift, 0u32);
    // In half units: below a power of two a unit is half of what it is above.
    let mut residual =
        i32::reinterpret((x_significand << shift) - q_significand * s_significand) * 2i32;
    let mut unit = i32::reinterpret(s_significand) * 2i32;
    let mut quotient = approximate_bits;
    #[unroll]
    for _step in 0..4u32 {
        let below = select(quotient & 0x7F_FFFFu32 == 0u32, unit / 2i32, unit);
        let up = residual + residual > unit;
        let down = residual + residual < -below;
        quotient = select(up, quotient + 1u32, select(down, quotient - 1u32, quotient));
        residual = select(up, residual - unit, select(down, residual + below, residual));
        let doubles = up && quotient & 0x7F_FFFFu32 == 0u32;
        unit = select(doubles, unit + unit, select(down, below, unit));
    }
    select(known, quotient, approximate_bits)
}

/// Bits of the scale of a tile from the bits of its largest magnitude, as
/// [`crate::definition::scale_of`].
#[cube]
pub(crate) fn scale_bits(
    amax_bits: u32,
    #[comptime] format: Fp8Format,
    #[comptime] scale: ScaleFormat,
    #[comptime] conversion: Conversion,
) -> u32 {
    let finite = amax_bits < INFINITY_BITS;
    let floor = comptime!(AMAX_FLOOR.to_bits());
    let largest = comptime!(format.max());
    let largest_bits = comptime!(largest.to_bits());
    let safe = select(finite, clamp_min_bits(amax_bits, floor), floor);
    let exact = if comptime!(matches!(conversion, Conversion::Instruction)) {
        let negative = comptime!((-largest).to_bits());
        let inverse = comptime!((1.0 / largest).to_bits());
        quotient(safe, negative.runtime(), inverse.runtime())
    } else {
        round_quotient(safe, largest_bits, u32::reinterpret(f32::reinterpret(safe) / largest))
    };
    if comptime!(matches!(scale, ScaleFormat::PowerOfTwo)) {
        let exponent = (exact >> 23u32) + select((exact & 0x7F_FFFFu32) != 0u32, 1u32, 0u32);
        select(finite, exponent << 23u32, 254u32 << 23u32)
    } else {
        select(finite, exact, select(amax_bits == INFINITY_BITS, INFINITY_BITS, NAN_BITS))
    }
}

#[cube]
pub(crate) fn clamp_min_bits(bits: u32, floor: u32) -> u32 {
    select(bits < floor, floor, bits)
}

/// Bits of what [`encode_quad`] multiplies by: the reciprocal of a scale, where the conversion takes
/// one.
#[cube]
pub(crate) fn reciprocal(scale_bits: u32, #[comptime] conversion: Conversion) -> u32 {
    if comptime!(matches!(conversion, Conversion::Instruction)) {
        rounded_reciprocal(scale_bits)
    } else {
        0u32.runtime()
    }
}

/// The codes of four quotients by one scale, the first in the lowest byte; `inverse` is the scale's
/// [`reciprocal`].
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn encode_quad(
    a: u32,
    b: u32,
    c: u32,
    d: u32,
    scale_bits: u32,
    inverse: u32,
    #[comptime] format: Fp8Format,
    #[comptime] scale: ScaleFormat,
    #[comptime] conversion: Conversion,
) -> u32 {
    if comptime!(matches!(conversion, Conversion::Instruction)) {
        let a = quotient_of(a, scale_bits, inverse, scale);
        let b = quotient_of(b, scale_bits, inverse, scale);
        let c = quotient_of(c, scale_bits, inverse, scale);
        let d = quotient_of(d, scale_bits, inverse, scale);
        convert_quad(a, b, c, d, format)
    } else {
        encode(a, scale_bits, format)
            | (encode(b, scale_bits, format) << 8u32)
            | (encode(c, scale_bits, format) << 16u32)
            | (encode(d, scale_bits, format) << 24u32)
    }
}

/// Bits of `x / scale` for [`convert_quad`]: exact by a power of two. Where the scale is infinite, finite
/// numbers give zero and the others NaN, as a division would.
#[cube]
fn quotient_of(x_bits: u32, scale_bits: u32, inverse: u32, #[comptime] scale: ScaleFormat) -> u32 {
    if comptime!(matches!(scale, ScaleFormat::PowerOfTwo)) {
        u32::reinterpret(f32::reinterpret(x_bits) * f32::reinterpret(inverse))
    } else {
        // No remainder by an infinite scale: zero times infinity would be NaN.
        let negative = select(scale_bits < INFINITY_BITS, scale_bits ^ 0x8000_0000u32, 0u32);
        quotient(x_bits, negative, inverse)
    }
}

/// The code of `x / scale`: the quotient rounded to FP32, then to the format; ties to even,
/// saturating; NaN becomes 0x7F.
#[cube]
pub(crate) fn encode(x_bits: u32, scale_bits: u32, #[comptime] format: Fp8Format) -> u32 {
    let format = comptime!(Minifloat::fp8(format));
    let sign = (x_bits >> 24u32) & 0x80u32;
    let magnitude = x_bits & 0x7FFF_FFFFu32;
    let approximate = f32::reinterpret(magnitude) / f32::reinterpret(scale_bits);
    let rounded = quotient_code(magnitude, scale_bits, u32::reinterpret(approximate), format);
    let code = select(magnitude == INFINITY_BITS, comptime!(format.largest_code), rounded);
    let code = select(scale_bits >= INFINITY_BITS, 0u32, code);
    // The least magnitude that is NaN by this scale: a NaN, or infinity by infinity, or any.
    let by_infinity = select(scale_bits == INFINITY_BITS, INFINITY_BITS, INFINITY_BITS + 1u32);
    let nan_from = select(scale_bits > INFINITY_BITS, 0u32, by_infinity);
    select(magnitude >= nan_from, comptime!(format.nan_code()), code | sign)
}

/// The code of `x / s` from an approximation of at most 3 units in the last place, for a positive
/// normal `s` and finite `x`: that of the quotient rounded to FP32, without the quotient.
///
/// The approximation, moved up past its error, tells at or next to which half step of the format the
/// quotient lies: at the `n`th or above it, if not a few units below. Where `n` is odd that is the
/// tie of two codes, and the residual `x - n half-steps s`, exact in integers, is compared with half
/// an FP32 unit of the tie: the quotient rounds to the tie itself within that.
#[cube]
pub(crate) fn quotient_code(
    x_bits: u32,
    s_bits: u32,
    approximate_bits: u32,
    #[comptime] format: Minifloat,
) -> u32 {
    // Half steps of a power of two: 2^kept.
    let kept = comptime!(format.mantissa_bits + 1);
    // Biased FP32 exponent of the smallest normal code; what is far below all codes is lifted to
    // where its half steps are still zero.
    let least = comptime!(128 - format.bias);
    let lowest = comptime!((least - format.mantissa_bits - 3) << 23);
    let near = clamp_min_bits(approximate_bits + 8u32, lowest);
    let near_exponent = near >> 23u32;
    let exponent = clamp_min_bits(near_exponent, least);
    // Subnormal codes have fewer half steps.
    let drop = exponent - near_exponent + comptime!(23 - kept);
    let steps = ((near & 0x7F_FFFFu32) | 0x80_0000u32) >> drop;

    let x_significand = (x_bits & 0x7F_FFFFu32) | 0x80_0000u32;
    let s_significand = (s_bits & 0x7F_FFFFu32) | 0x80_0000u32;
    // In halves, so that no quotient of a half step or more shifts to the right; any other's code is
    // zero or the largest, whatever comes of it.
    let shift = (x_bits >> 23u32) + comptime!(128 + kept) - (s_bits >> 23u32) - exponent;
    let residual = i32::reinterpret(
        (x_significand << (shift & 31u32)) - steps * (s_significand + s_significand),
    );
    let half_unit = s_significand >> drop;
    // The tie itself goes to the even code.
    let bound = select(steps & 2u32 == 0u32, half_unit, !half_unit);
    let up = select(residual > i32::reinterpret(bound), 1u32, 0u32);
    let code = ((steps + up) >> 1u32) + ((exponent - least) << comptime!(format.mantissa_bits));
    let largest = comptime!(format.largest_code);
    select(code > largest, largest, code)
}

/// The code nearest to a non-negative FP32 that is no NaN, in integers alone.
#[cube]
pub(crate) fn round_magnitude(bits: u32, #[comptime] format: Minifloat) -> u32 {
    let drop = comptime!(23 - format.mantissa_bits);
    // Biased FP32 exponent of the smallest normal code.
    let least = comptime!(128 - format.bias);
    let exponent = bits >> 23u32;
    let normal = exponent >= least;
    // A subnormal code counts steps of the least spacing: the significand, shifted further by the
    // missing exponent.
    let missing = select(normal, 0u32, least - exponent);
    let shift = select(missing > comptime!(31 - drop), 31u32, missing + drop);
    let value =
        select(normal, bits - comptime!((least - 1) << 23), (bits & 0x7F_FFFFu32) | 0x80_0000u32);
    let odd = (value >> shift) & 1u32;
    let code = (value + ((1u32 << (shift - 1u32)) - 1u32) + odd) >> shift;
    let largest = comptime!(format.largest_code);
    select(code > largest, largest, code)
}

/// The value of the code in the low byte of `bits`, exact; what lies above that byte is ignored.
#[cube]
pub(crate) fn decode(bits: u32, #[comptime] format: Fp8Format) -> f32 {
    decode_minifloat(bits, comptime!(Minifloat::fp8(format)))
}

/// The value of the code in the lowest bits of `bits`, exact; what lies above the code's sign is
/// ignored.
///
/// Subnormal codes are a normal number less the implicit bit: devices may flush FP32 subnormals, so
/// no FP32 subnormal appears.
#[cube]
pub(crate) fn decode_minifloat(bits: u32, #[comptime] format: Minifloat) -> f32 {
    let magnitude = bits & comptime!(format.nan_code());
    let sign = (bits << comptime!(31 - format.sign_shift())) & 0x8000_0000u32;
    let shift = comptime!(23 - format.mantissa_bits);
    let rebias = comptime!((127 - format.bias) << 23);
    let step = comptime!(1u32 << 23);
    let subnormal = magnitude < comptime!(1u32 << format.mantissa_bits);
    let lifted = f32::reinterpret((magnitude << shift) + rebias + select(subnormal, step, 0u32));
    let implicit = f32::reinterpret(select(subnormal, rebias + step, 0u32));
    let value = u32::reinterpret(lifted - implicit);
    let after = comptime!(format.largest_code + 1);
    let value = if comptime!(format.infinity) {
        select(magnitude > after, NAN_BITS, select(magnitude == after, INFINITY_BITS, value))
    } else {
        select(magnitude == after, NAN_BITS, value)
    };
    f32::reinterpret(value | sign)
}
