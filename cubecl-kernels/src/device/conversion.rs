//! Which conversion to FP8 a device's kernels take, by a trial of both.

use super::buffer::{allocate, argument};
use super::codec::{Conversion, encode_quad, reciprocal, scale_bits};
use super::launch_size::{UNITS, compute_capability};
use super::per_device::PerDevice;
use crate::definition::{Fp8Format, ScaleFormat, scale_of};
use cubecl::prelude::*;
use std::fmt;

/// How a device casts to FP8, and why not by an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CastPath {
    /// By the device's own instruction.
    Instruction,
    /// In integers: it has none, or none that a kernel here is for.
    Portable,
    /// In integers: its instruction did not give their codes in a trial.
    Distrusted,
}

impl fmt::Display for CastPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instruction => "the device's own conversion",
            Self::Portable => "integers (the device has no conversion to FP8)",
            Self::Distrusted => "integers (the device's conversion gave other codes in a trial)",
        })
    }
}

/// The path of a device's casts to FP8, found out on the first call for it: the instruction serves
/// where it gave the codes and scales of the integers for some 65,000 numbers.
pub fn cast_path(client: &Client) -> CastPath {
    static KNOWN: PerDevice<CastPath> = PerDevice::new();
    if compute_capability(client).is_none_or(|version| version < 89) {
        return CastPath::Portable;
    }
    let by_trial = || if agrees(client) { CastPath::Instruction } else { CastPath::Distrusted };
    KNOWN.get(client, by_trial)
}

/// What the kernels of a device are compiled for.
pub(crate) fn conversion(client: &Client) -> Conversion {
    match cast_path(client) {
        CastPath::Instruction => Conversion::Instruction,
        CastPath::Portable | CastPath::Distrusted => Conversion::Integers,
    }
}

/// Whether both conversions give the same for every format.
fn agrees(client: &Client) -> bool {
    [Fp8Format::E4M3, Fp8Format::E5M2].into_iter().all(|format| {
        [ScaleFormat::F32, ScaleFormat::PowerOfTwo].into_iter().all(|scale| {
            let by = |conversion| trial(client, format, scale, conversion);
            let integers = by(Conversion::Integers);
            integers.is_some() && by(Conversion::Instruction) == integers
        })
    })
}

/// The trial's scales and codes; none where the device does not answer.
fn trial(
    client: &Client,
    format: Fp8Format,
    scale: ScaleFormat,
    conversion: Conversion,
) -> Option<Vec<u8>> {
    let [values, amaxes] = trial_values(format);
    let count = amaxes.len();
    let [values_there, amaxes_there] =
        [&values, &amaxes].map(|words| client.create_from_slice(u32::as_bytes(words)));
    let results = allocate(client, 2 * count, 4);
    // SAFETY: the buffers hold four values, one magnitude and two results for each of `count` units,
    // and a unit past the last does nothing.
    unsafe {
        convert::launch_unchecked(
            client,
            CubeCount::new_1d((count as u32).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS),
            argument(&values_there, 4 * count),
            argument(&amaxes_there, count),
            argument(&results, 2 * count),
            count as u32,
            format,
            scale,
            conversion,
        );
    }
    client.read_one(results).ok().map(|bytes| bytes.to_vec())
}

/// The scale of a magnitude and the codes of four values by it, a unit.
///
/// # Shapes
/// `values` `[count, 4]` and `amaxes` `[count]` as bits; `results` `[count, 2]`.
#[cube(launch_unchecked)]
fn convert(
    values: &[u32],
    amaxes: &[u32],
    results: &mut [u32],
    count: u32,
    #[comptime] format: Fp8Format,
    #[comptime] scale: ScaleFormat,
    #[comptime] conversion: Conversion,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < count {
        let divisor = scale_bits(amaxes[unit as usize], format, scale, conversion);
        let inverse = reciprocal(divisor, conversion);
        let first = unit * 4u32;
        results[(2u32 * unit) as usize] = divisor;
        results[(2u32 * unit + 1u32) as usize] = encode_quad(
            values[first as usize],
            values[(first + 1u32) as usize],
            values[(first + 2u32) as usize],
            values[(first + 3u32) as usize],
            divisor,
            inverse,
            format,
            scale,
            conversion,
        );
    }
}

/// Four values a magnitude, as bits: beside the ties of a format for scales of all kinds, of every
/// exponent, and what is no finite number.
fn trial_values(format: Fp8Format) -> [Vec<u32>; 2] {
    const QUADS: usize = 1 << 14;
    let mut state = 1u32;
    let mut random = || {
        // A full period by Hull and Dobell's conditions; the high bits are the random ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state
    };
    let [mut values, mut amaxes] = [Vec::with_capacity(4 * QUADS), Vec::with_capacity(QUADS)];
    for quad in 0..QUADS {
        let mantissa = random() >> 9;
        // 2^-16 to 2^127; the least of them are below the floor of magnitudes.
        let exponent =
            if quad % 4 == 0 { 111 + (random() >> 24) % 144 } else { 120 + quad as u32 % 16 };
        let amax = f32::from_bits(exponent << 23 | mantissa);
        let scale = scale_of(amax, format.max(), ScaleFormat::F32);
        for lane in 0..4 {
            // A significand of five bits: every tie of the format, and half of them its values.
            let significand = (16 + (random() >> 28)) as f32 / 16.0;
            let power = ((random() >> 27) as f32 - 20.0).exp2();
            let near = (significand * power * scale).to_bits().wrapping_add_signed(lane - 1);
            let bits = if quad % 8 == 7 { random() } else { near };
            // The largest magnitude is the largest.
            values.push((bits & 0x7FFF_FFFF).min(amax.to_bits()) | random() & 0x8000_0000);
        }
        amaxes.push(amax.to_bits());
    }
    // Magnitudes that are no finite numbers, and values that are not beside them; zeros.
    let odd = [f32::INFINITY, f32::NAN, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, 1e-40, -1e30];
    for amax in [f32::INFINITY, f32::NAN] {
        for start in [0, 4] {
            // A tile whose largest magnitude is infinite has no NaN.
            let finite = |x: f32| if amax.is_infinite() && x.is_nan() { 1.0 } else { x };
            values.extend(odd[start..start + 4].iter().map(|&x| finite(x).to_bits()));
            amaxes.push(amax.to_bits());
        }
    }
    [values, amaxes]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::encode_fp8;

    /// What the instructions compute, in the host's arithmetic.
    fn quotient(x: f32, scale: f32, reciprocal: f32) -> f32 {
        let near = x * reciprocal;
        let rest = (-near).mul_add(scale, x);
        rest.mul_add(reciprocal, near).copysign(x)
    }

    /// Beside every tie, for every 61st mantissa of a scale. (For all of them: 940 million quotients,
    /// none of which differs. With the reciprocal alone 72 million are on the other side of a tie.)
    #[test]
    fn the_reciprocal_and_a_remainder_give_the_quotient_beside_ties() {
        let mut without = 0;
        for mantissa in (0..1u32 << 23).step_by(61) {
            let scale = f32::from_bits(127 << 23 | mantissa);
            let reciprocal = 1.0 / scale;
            for tie in (16..32u32).map(|significand| significand as f32 / 16.0) {
                for off in -3..=3 {
                    let x = f32::from_bits((tie * scale).to_bits().wrapping_add_signed(off));
                    assert_eq!(quotient(x, scale, reciprocal), x / scale, "{x:e} / {scale:e}");
                    without += u32::from(x * reciprocal != x / scale);
                }
            }
        }
        assert!(without > 10_000, "the remainder is needed");
    }

    #[test]
    fn the_reciprocal_and_a_remainder_give_every_scale() {
        for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
            let largest = format.max();
            for exponent in [114u32, 127, 200, 254] {
                for mantissa in (0..1u32 << 23).step_by(7) {
                    let amax = f32::from_bits(exponent << 23 | mantissa);
                    let scale = quotient(amax, largest, 1.0 / largest);
                    assert_eq!(scale, scale_of(amax, largest, ScaleFormat::F32), "{amax:e}");
                }
            }
        }
    }

    /// The trial would see a conversion that is wrong beside ties: there are many such values.
    #[test]
    fn the_trial_tells_a_product_with_the_reciprocal_from_a_quotient() {
        for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
            let [values, amaxes] = trial_values(format);
            assert_eq!(values.len(), 4 * amaxes.len());
            let mut differ = 0;
            for (quad, amax) in values.chunks(4).zip(amaxes) {
                let scale = scale_of(f32::from_bits(amax), format.max(), ScaleFormat::F32);
                for x in quad.iter().map(|&bits| f32::from_bits(bits)) {
                    let code = encode_fp8(x / scale, format);
                    differ += u32::from(encode_fp8(x * (1.0 / scale), format) != code);
                    if scale.is_finite() {
                        let ours = encode_fp8(quotient(x, scale, 1.0 / scale), format);
                        assert_eq!(ours, code, "{format:?}: {x:e} / {scale:e}");
                    }
                }
            }
            assert!(differ > 100, "{format:?}: {differ}");
        }
    }
}
