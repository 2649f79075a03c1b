//! Scales of the tiles of a panel, in the form that the encoder divides by.

use super::format::{E4M3, E5M2, enlarged};
use crate::definition::{Fp8Format, ScaleFormat, TILE, scale_of};
use crate::host::simd::multiversion;

/// Scales of at most [`TILE`] tiles, with what it takes to divide by them.
///
/// Where the machine fuses multiply and add, `x / scale` is computed as `fma(x, high, x * low)`
/// with `high + low = 1 / scale`. That is not always the FP32 quotient, but its code is always the
/// quotient's:
///
/// - A code changes at a *tie*, a number `m` of at most 5 significant bits, `m = M 2^j` with an
///   integer `M < 32`. Ties go to the even code, so for each `m` one question decides: whether the
///   quotient, rounded to FP32, is still `m`, i.e. on which side of `m (1 +- 2^-24 c)` it lies,
///   half an FP32 step away from `m`.
/// - The relative error of the sum before its rounding is below `2^-46.4`.
/// - Write `scale = S 2^i` with an integer `2^23 <= S < 2^24`. For `x / scale` to come that near to
///   the point in question, `S` must lie within 7 of a multiple of `2^20` and not on it; on it, `x`
///   would need 25 bits. (In units of 1/16 of `x`'s last place, `|16 X - M S -+ S 2^-20|` would be
///   below `2^-17`, so `S 2^-20` would be as near to an integer.)
///
/// Scales within 16 of such a multiple, and those so large that `low` would be subnormal, infinite
/// ones and NaN among them, are marked `slow`: their tiles are divided, one number at a time.
pub(super) struct Divisors {
    /// The scales.
    pub(super) scale: [f32; TILE],
    /// `1 / scale`, rounded; times [`enlarged`], as `low` is.
    pub(super) high: [f32; TILE],
    /// What the rounding of `high` left.
    pub(super) low: [f32; TILE],
    slow: [bool; TILE],
    count: usize,
    any_slow: bool,
    /// The largest value of the format.
    max: f32,
    enlarged: f32,
}

impl Divisors {
    /// For a format.
    pub(super) fn fp8(format: Fp8Format) -> Self {
        let index = match format {
            Fp8Format::E4M3 => E4M3,
            Fp8Format::E5M2 => E5M2,
        };
        Self::new(format.max(), enlarged(index))
    }

    fn new(max: f32, enlarged: f32) -> Self {
        let [scale, high, low] = [[0.0; TILE]; 3];
        Self { scale, high, low, slow: [false; TILE], count: 0, any_slow: false, max, enlarged }
    }

    /// Sets the scales from largest magnitudes; at most [`TILE`] of them.
    pub(super) fn set_amax(&mut self, amax: &[f32], format: ScaleFormat) {
        scales(amax, self.max, format, &mut self.scale);
        self.prepare(amax.len());
    }

    /// Sets the scales; at most [`TILE`] of them.
    pub(super) fn set_scales(&mut self, scales: &[f32]) {
        self.scale[..scales.len()].copy_from_slice(scales);
        self.prepare(scales.len());
    }

    fn prepare(&mut self, count: usize) {
        self.count = count;
        self.any_slow = split(count, self);
    }

    /// The scales that have been set.
    pub(super) fn scales(&self) -> &[f32] {
        &self.scale[..self.count]
    }

    /// The scale of a tile, and `high` and `low` of it.
    #[inline(always)]
    pub(super) fn of_tile(&self, tile: usize) -> [f32; 3] {
        [self.scale[tile], self.high[tile], self.low[tile]]
    }

    /// The tiles that must be divided one number at a time.
    pub(super) fn slow(&self) -> impl Iterator<Item = usize> + '_ {
        let candidates = if self.any_slow { &self.slow[..self.count] } else { &[] };
        candidates.iter().enumerate().filter(|(_, slow)| **slow).map(|(tile, _)| tile)
    }
}

multiversion! {
    fn scales(amax: &[f32], max: f32, format: ScaleFormat, scale: &mut [f32; TILE]) {
        match format {
            ScaleFormat::F32 => scale
                .iter_mut()
                .zip(amax)
                .for_each(|(scale, &amax)| *scale = scale_of(amax, max, ScaleFormat::F32)),
            ScaleFormat::PowerOfTwo => {
                scale.iter_mut().zip(amax).for_each(|(scale, &amax)| {
                    *scale = scale_of(amax, max, ScaleFormat::PowerOfTwo)
                });
            }
        }
    }
}

multiversion! {
    /// Splits the reciprocals of `count` scales; whether any is slow.
    fn split(count: usize, divisors: &mut Divisors) -> bool {
        /// Scales up to 2^60 have a `low` that is a normal number, and so has `x * low` where the
        /// code is not 0.
        const LARGE: u32 = (127 + 60) << 23;
        let Divisors { scale, high, low, slow, enlarged, .. } = divisors;
        let mut any = false;
        for i in 0..count.min(TILE) {
            let bits = scale[i].to_bits();
            let distance = bits.wrapping_add(16) & 0xF_FFFF;
            slow[i] = bits >= LARGE || (distance <= 32 && distance != 16);
            any |= slow[i];
            let reciprocal = 1.0 / scale[i];
            high[i] = reciprocal * *enlarged;
            low[i] = if S::FMA { (-reciprocal).mul_add(scale[i], 1.0) * high[i] } else { 0.0 };
        }
        any
    }
}
