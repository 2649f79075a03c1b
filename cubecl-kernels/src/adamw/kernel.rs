//! Device code of AdamW, a vector of entries a unit, and of sums of squares, some vectors a unit.

use cubecl::prelude::*;

/// What a step multiplies by.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Factors {
    pub(super) gradient: f32,
    pub(super) beta1: f32,
    pub(super) rest1: f32,
    pub(super) beta2: f32,
    pub(super) rest2: f32,
    /// `1 - lr weight_decay`.
    pub(super) kept: f32,
    /// `lr / (1 - beta1^step)`.
    pub(super) rate: f32,
    /// `1 / sqrt(1 - beta2^step)`.
    pub(super) root: f32,
    pub(super) eps: f32,
}

/// One step in place; the moments are stored as `M`, and the parameter sees them before that.
///
/// # Shapes
/// All `[total]` vectors of `width`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn update<M: Float, N: Size>(
    value: &mut [Vector<f32, N>],
    grad: &[Vector<f32, N>],
    first: &mut [Vector<M, N>],
    second: &mut [Vector<M, N>],
    factors: Factors,
    total: u32,
    #[comptime] width: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < total {
        let place = unit as usize;
        let own = value[place];
        let slope = grad[place];
        let old_first = first[place];
        let old_second = second[place];
        let mut new_value = Vector::<f32, N>::zero();
        let mut new_first = Vector::<M, N>::zero();
        let mut new_second = Vector::<M, N>::zero();
        #[unroll]
        for s in 0..width as usize {
            let g = slope.extract(s) * factors.gradient;
            let m = f32::cast_from(old_first.extract(s)) * factors.beta1 + g * factors.rest1;
            let v = f32::cast_from(old_second.extract(s)) * factors.beta2 + g * g * factors.rest2;
            let step = m * factors.rate / (v.sqrt() * factors.root + factors.eps);
            new_first.insert(s, M::cast_from(m));
            new_second.insert(s, M::cast_from(v));
            new_value.insert(s, own.extract(s) * factors.kept - step);
        }
        first[place] = new_first;
        second[place] = new_second;
        value[place] = new_value;
    }
}

/// Sums of squares of the vectors `unit, unit + units, ...`, one a unit.
///
/// # Shapes
/// `x` `[total]` vectors of `width`, `parts` `[units]`.
#[cube(launch_unchecked)]
pub(super) fn square_parts<N: Size>(
    x: &[Vector<f32, N>],
    parts: &mut [f32],
    units: u32,
    total: u32,
    #[comptime] width: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < units {
        let mut sum = 0.0f32;
        let mut place = unit;
        while place < total {
            let value = x[place as usize];
            #[unroll]
            for s in 0..width as usize {
                sum = fma(value.extract(s), value.extract(s), sum);
            }
            place += units;
        }
        parts[unit as usize] = sum;
    }
}

/// The sum of the parts in their order, widened: the bits of an FP64 number, the lower half first.
/// One unit.
///
/// # Shapes
/// `parts` `[count]`, `sum` `[2]`.
#[cube(launch_unchecked)]
pub(super) fn square_total(parts: &[f32], sum: &mut [u32], count: u32) {
    if ABSOLUTE_POS == 0usize {
        let mut total = 0.0f32;
        for part in 0..count {
            total += parts[part as usize];
        }
        let bits = u32::reinterpret(total);
        let exponent = bits >> 23u32;
        let mantissa = bits & 0x7F_FFFFu32;
        // A sum of squares has no sign; what is subnormal counts as zero, and what is no finite
        // number stays none.
        let widened = select(exponent == 255u32, 2047u32.runtime(), exponent + 896u32);
        let real = exponent != 0u32;
        sum[0] = select(real, mantissa << 29u32, 0u32.runtime());
        sum[1] = select(real, (widened << 20u32) | (mantissa >> 3u32), 0u32.runtime());
    }
}
