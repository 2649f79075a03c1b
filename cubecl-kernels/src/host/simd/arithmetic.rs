//! The arithmetic that kernels share: sums in a fixed order, the largest element, an exponential,
//! and rounding to BF16.

use super::registers::{LANES, Simd, madd};

/// `sum(a * b)` over the shorter length, in lanes, then as a tree.
#[inline(always)]
pub(crate) fn dot<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    let mut acc = [S::zero(); 4];
    let (a4, a) = a.as_chunks::<{ 4 * LANES }>();
    let (b4, b) = b.as_chunks::<{ 4 * LANES }>();
    for (a, b) in a4.iter().zip(b4) {
        let (a, b) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
        for j in 0..4 {
            acc[j] = S::madd(S::load(&a[j]), S::load(&b[j]), acc[j]);
        }
    }
    let (a1, a) = a.as_chunks::<LANES>();
    let (b1, b) = b.as_chunks::<LANES>();
    for (a, b) in a1.iter().zip(b1) {
        acc[0] = S::madd(S::load(a), S::load(b), acc[0]);
    }
    let mut tail = 0.0;
    for (&a, &b) in a.iter().zip(b) {
        tail = madd::<S>(a, b, tail);
    }
    S::sum(S::add(S::add(acc[0], acc[1]), S::add(acc[2], acc[3]))) + tail
}

/// `y += a * x` over the shorter length.
#[inline(always)]
pub(crate) fn axpy<S: Simd>(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = madd::<S>(a, x, *y);
    }
}

/// The largest element, NaN passed over; minus infinity of nothing.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] = larger(lanes[l], chunk[l]);
        }
    }
    let tail = tail.iter().fold(f32::NEG_INFINITY, |m, &x| larger(m, x));
    lanes.iter().fold(tail, |m, &x| larger(m, x))
}

/// `e^x` within 2 ulp over the whole range: 0 below -104, infinity above 88.73, NaN of NaN, gradual
/// below the normal numbers.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2` (two-part `ln 2`), a polynomial of degree 6 in `r`, and
/// `2^n` as two factors.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer that stands in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    /// 355 / 512, which f32 holds exactly.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let shifted = madd::<S>(x, std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = madd::<S>(n, -LN2_LOW, madd::<S>(n, -LN2_HIGH, x));
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = madd::<S>(p, r, c);
    }
    let p = madd::<S>(p * r, r, r) + 1.0;
    let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let (low, high) = (n >> 1, n.wrapping_sub(n >> 1));
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    p * power(low) * power(high)
}

/// The BF16 number nearest to `x`, ties to even, as FP32; NaN stays NaN, and becomes quiet.
///
/// Without a branch, which `half`'s own conversion has, so that loops vectorise.
#[inline(always)]
pub(crate) fn round_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
    f32::from_bits(if x.is_nan() { bits | 0x40_0000 } else { rounded })
}

/// The bits of [`round_to_bf16`], in the lower half.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u32 {
    round_to_bf16(x).to_bits() >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::simd::{Plain, multiversion};

    multiversion! {
        fn exp_all(x: &[f32], y: &mut [f32]) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = exp::<S>(x);
            }
        }
    }

    multiversion! {
        fn dot_of(a: &[f32], b: &[f32]) -> f32 {
            dot::<S>(a, b)
        }
    }

    fn ulps(x: f32) -> f64 {
        let exact = f64::from(x).exp();
        let mut y = [0.0];
        exp_all(&[x], &mut y);
        let near = exact as f32;
        let ulp = f64::from(near.next_up()) - f64::from(near);
        (f64::from(y[0]) - exact).abs() / ulp
    }

    #[test]
    fn exp_is_within_two_ulp_over_the_whole_range() {
        let mut worst = 0.0f64;
        let mut x = -103.0f32;
        while x < 88.7 {
            worst = worst.max(ulps(x));
            x += 0.000_73;
        }
        assert!(worst < 2.0, "{worst} ulp");
    }

    #[test]
    fn exp_at_the_ends() {
        let x = [0.0, -0.0, f32::NEG_INFINITY, -1e30, f32::INFINITY, 89.0, f32::NAN, 88.72];
        let mut y = [7.0; 8];
        exp_all(&x, &mut y);
        assert_eq!(y[..6], [1.0, 1.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY]);
        assert!(y[6].is_nan());
        assert!(y[7].is_finite());
        let mut plain = [7.0; 8];
        for (y, &x) in plain.iter_mut().zip(&x) {
            *y = exp::<Plain>(x);
        }
        assert_eq!(y[..6], plain[..6]);
    }

    #[test]
    fn dot_and_max_of_every_length() {
        let x = crate::test_inputs::random(1, 200);
        for len in 0..200 {
            let exact: f64 = x[..len].iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            assert!((f64::from(dot_of(&x[..len], &x[..len])) - exact).abs() < 1e-4);
            assert_eq!(max(&x[..len]), x[..len].iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }

    #[test]
    fn bf16_is_to_nearest_even() {
        for x in [
            0.0f32,
            -0.0,
            1.0,
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0,
            3.39e38,
            -3.4e38,
            1e-40,
            f32::INFINITY,
            f32::NAN,
            -7.123_456,
        ] {
            let expected = half::bf16::from_f32(x).to_f32();
            let actual = round_to_bf16(x);
            assert!(
                actual.to_bits() == expected.to_bits() || (actual.is_nan() && expected.is_nan()),
                "{x}: {actual} against {expected}"
            );
        }
    }
}
