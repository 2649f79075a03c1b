//! Small floating point formats, encoded and decoded one value at a time: exact, and the definition
//! of what every kernel computes.

use super::fp8::{AMAX_FLOOR, Fp8Format, ScaleFormat};
use super::quantized::E5M6_MAX;

/// A format of sign, exponent and mantissa, subnormals included.
#[derive(Clone, Copy)]
struct Minifloat {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    /// Code of the largest finite magnitude.
    largest: u32,
    /// Code of NaN.
    nan: u32,
}

const E4M3: Minifloat =
    Minifloat { exponent_bits: 4, mantissa_bits: 3, bias: 7, largest: 0x7E, nan: 0x7F };
const E5M2: Minifloat =
    Minifloat { exponent_bits: 5, mantissa_bits: 2, bias: 15, largest: 0x7B, nan: 0x7F };
const E5M6: Minifloat =
    Minifloat { exponent_bits: 5, mantissa_bits: 6, bias: 15, largest: 0x7BF, nan: 0x7FF };

impl Minifloat {
    /// Rounds to nearest, ties to even, saturates; NaN becomes the positive NaN code.
    fn encode(self, x: f32) -> u32 {
        let sign = (x.to_bits() >> 31) << (self.exponent_bits + self.mantissa_bits);
        if x.is_nan() {
            return self.nan;
        }
        let magnitude = f64::from(x.abs());
        // The spacing of codes around the magnitude; the same below the smallest normal value.
        let exponent = (((magnitude.to_bits() >> 52) as i32) - 1023).max(1 - self.bias);
        let ulp = f64::from(exponent - self.mantissa_bits as i32).exp2();
        let steps = (magnitude / ulp).round_ties_even();
        // Steps past the implicit bit carry into the exponent by themselves.
        let below = f64::from(exponent - 1 + self.bias) * f64::from(1u32 << self.mantissa_bits);
        let code = (below + steps).min(f64::from(self.largest)) as u32;
        sign | code
    }

    fn decode(self, code: u32) -> f32 {
        let magnitude = code & ((1 << (self.exponent_bits + self.mantissa_bits)) - 1);
        let sign =
            if code >> (self.exponent_bits + self.mantissa_bits) & 1 == 1 { -1.0 } else { 1.0 };
        let exponent = (magnitude >> self.mantissa_bits) as i32;
        let mantissa = (magnitude & ((1 << self.mantissa_bits) - 1)) as f32;
        if magnitude > self.largest {
            let infinite = self.exponent_bits == 5 && mantissa == 0.0;
            return if infinite { sign * f32::INFINITY } else { f32::NAN };
        }
        let implicit = if exponent > 0 { (1 << self.mantissa_bits) as f32 } else { 0.0 };
        sign * (implicit + mantissa)
            * ((exponent.max(1) - self.bias - self.mantissa_bits as i32) as f32).exp2()
    }
}

const fn minifloat(format: Fp8Format) -> Minifloat {
    match format {
        Fp8Format::E4M3 => E4M3,
        Fp8Format::E5M2 => E5M2,
    }
}

/// The code nearest to `x`: ties to even, saturating (infinities too); NaN becomes 0x7F.
///
/// ```
/// use cubecl_kernels::definition::{Fp8Format, decode_fp8, encode_fp8};
///
/// let round = |x| decode_fp8(encode_fp8(x, Fp8Format::E4M3), Fp8Format::E4M3);
/// assert_eq!(round(300.0), 288.0);
/// assert_eq!(round(1e9), 448.0);
/// ```
pub fn encode_fp8(x: f32, format: Fp8Format) -> u8 {
    minifloat(format).encode(x) as u8
}

/// The value of a code, exact.
pub fn decode_fp8(code: u8, format: Fp8Format) -> f32 {
    minifloat(format).decode(u32::from(code))
}

/// The 12-bit E5M6 code of `x`: sign, 5 exponent bits of bias 15, 6 mantissa bits; saturating at
/// 65024; NaN becomes 0x7FF.
///
/// Rounding is that of DeepSeek's published kernels (TileKernels, 2026): the magnitude is cut to a
/// code, and the code after it is taken where the lowest 17 bits of the FP32 are more than half, or
/// half and the code odd. From 2^-14 on that is to nearest, ties to even. Below, where a code has
/// fewer bits, the same 17 bits decide although they no longer follow what was cut, so that up to a
/// whole step is off. An `x` that is no normal FP32 is zero.
///
/// ```
/// use cubecl_kernels::definition::{decode_e5m6, encode_e5m6};
///
/// assert_eq!(decode_e5m6(encode_e5m6(1.01)), 1.015625);
/// ```
pub fn encode_e5m6(x: f32) -> u16 {
    const CUT_BITS: u32 = 23 - E5M6.mantissa_bits;
    let sign = (x.to_bits() >> 31) << (E5M6.exponent_bits + E5M6.mantissa_bits);
    let magnitude = x.abs();
    if x.is_nan() {
        return E5M6.nan as u16;
    }
    if magnitude < f32::MIN_POSITIVE {
        return sign as u16;
    }
    let bits = magnitude.to_bits();
    let cut = if magnitude < (-14f32).exp2() {
        (magnitude * 20f32.exp2()) as u32
    } else {
        (bits >> CUT_BITS) - ((127 - 15) << E5M6.mantissa_bits)
    };
    let rest = bits & ((1 << CUT_BITS) - 1);
    let code = cut + u32::from((cut & 1) + rest > 1 << (CUT_BITS - 1));
    (sign | code.min(E5M6.largest)) as u16
}

/// What the entries of a tile whose largest magnitude is `amax` are multiplied by before their
/// E5M6 codes are taken: `65024 / amax`, or the reciprocal of the power of two that [`scale_of`]
/// gives.
///
/// An entry that is no normal FP32 counts as zero.
pub fn e5m6_multiplier(amax: f32, format: ScaleFormat) -> f32 {
    match format {
        ScaleFormat::F32 => E5M6_MAX / if amax < AMAX_FLOOR { AMAX_FLOOR } else { amax },
        ScaleFormat::PowerOfTwo => 1.0 / scale_of(amax, E5M6_MAX, format),
    }
}

/// The value of a 12-bit E5M6 code, exact.
pub fn decode_e5m6(code: u16) -> f32 {
    E5M6.decode(u32::from(code))
}

/// The scale of a tile whose largest magnitude is `amax`, for codes up to `max`.
///
/// A NaN or infinite `amax` gives itself with [`ScaleFormat::F32`], `2^127` with
/// [`ScaleFormat::PowerOfTwo`].
///
/// ```
/// use cubecl_kernels::definition::{Fp8Format, ScaleFormat, scale_of};
///
/// let max = Fp8Format::E4M3.max();
/// assert_eq!(scale_of(896.0, max, ScaleFormat::F32), 2.0);
/// assert_eq!(scale_of(1000.0, max, ScaleFormat::PowerOfTwo), 4.0);
/// ```
pub fn scale_of(amax: f32, max: f32, format: ScaleFormat) -> f32 {
    let amax = if amax < AMAX_FLOOR { AMAX_FLOOR } else { amax };
    let scale = amax / max;
    match format {
        ScaleFormat::F32 => scale,
        ScaleFormat::PowerOfTwo => power_of_two_scale(scale),
    }
}

/// The smallest power of two at or above a positive normal `scale`; `2^127` where that is not
/// finite.
pub fn power_of_two_scale(scale: f32) -> f32 {
    let bits = scale.to_bits();
    let exponent = (bits >> 23) + u32::from(bits & 0x7F_FFFF != 0);
    f32::from_bits(exponent.min(254) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_nearest() {
        for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
            for code in 0..=255u8 {
                let value = decode_fp8(code, format);
                if value.is_finite() {
                    assert_eq!(encode_fp8(value, format), code, "{format:?} {code:#x} {value}");
                }
            }
        }
        for code in 0..4096u16 {
            let value = decode_e5m6(code);
            if value.is_finite() {
                assert_eq!(encode_e5m6(value), code, "{code:#x} {value}");
            }
        }
    }

    #[test]
    fn known_values() {
        let e4m3 = |x| decode_fp8(encode_fp8(x, Fp8Format::E4M3), Fp8Format::E4M3);
        for (x, value) in [
            (300.0, 288.0),
            (500.0, 448.0),
            (0.001, 0.001953125),
            (-1e9, -448.0),
            (f32::INFINITY, 448.0),
            (1e-30, 0.0),
        ] {
            assert_eq!(e4m3(x), value, "{x}");
        }
        assert!(e4m3(f32::NAN).is_nan());
        assert_eq!(decode_e5m6(encode_e5m6(1e9)), 65024.0);
        assert_eq!(encode_fp8(-0.0, Fp8Format::E4M3), 0x80);
        assert_eq!(decode_fp8(encode_fp8(6e4, Fp8Format::E5M2), Fp8Format::E5M2), 57344.0);
    }

    #[test]
    fn rounding_is_to_nearest_and_ties_go_to_even() {
        for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
            for code in 0..0x7Au8 {
                let (low, high) = (decode_fp8(code, format), decode_fp8(code + 1, format));
                let middle = (low + high) / 2.0;
                assert_eq!(encode_fp8(middle, format), code + (code & 1), "{format:?} {code:#x}");
                assert_eq!(encode_fp8(f32::from_bits(middle.to_bits() - 1), format), code);
                assert_eq!(encode_fp8(f32::from_bits(middle.to_bits() + 1), format), code + 1);
            }
        }
    }

    #[test]
    fn powers_of_two_round_up() {
        for (scale, expected) in [
            (1.0, 1.0),
            (1.0001, 2.0),
            (0.3, 0.5),
            (f32::INFINITY, 127f32.exp2()),
            (f32::NAN, 127f32.exp2()),
        ] {
            assert_eq!(power_of_two_scale(scale), expected);
        }
        assert_eq!(scale_of(0.0, 448.0, ScaleFormat::F32), 1e-4 / 448.0);
        assert!(scale_of(f32::NAN, 448.0, ScaleFormat::F32).is_nan());
    }
    /// Below 2^-14 the 17 lowest bits decide, whatever was cut: a third of a step up, and half a
    /// step down.
    #[test]
    fn small_e5m6_codes_are_rounded_as_the_published_kernels_round_them() {
        let step = (-20f32).exp2();
        let cases = [
            (7.046_92 * step, 8),
            (7.089_48 * step, 7),
            (6.531_25 * step, 6),
            (7.468_75 * step, 8),
            (63.0 * step, 63),
            (f32::from_bits(1), 0),
            (f32::from_bits(0x0081_0000), 0),
            (f32::from_bits(0x0081_0001), 1),
        ];
        for (x, code) in cases {
            assert_eq!((encode_e5m6(x), encode_e5m6(-x)), (code, 0x800 | code), "{x:e}");
        }
    }

    #[test]
    fn e5m6_multipliers_are_what_their_scales_undo() {
        assert_eq!(e5m6_multiplier(65024.0, ScaleFormat::F32), 1.0);
        assert_eq!(e5m6_multiplier(0.0, ScaleFormat::F32), 65024.0 / 1e-4);
        assert_eq!(e5m6_multiplier(65025.0, ScaleFormat::PowerOfTwo), 0.5);
        assert_eq!(e5m6_multiplier(f32::INFINITY, ScaleFormat::F32), 0.0);
        assert_eq!(e5m6_multiplier(f32::NAN, ScaleFormat::PowerOfTwo), (-127f32).exp2());
    }
}
