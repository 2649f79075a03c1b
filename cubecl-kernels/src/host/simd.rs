//! Run-time choice of instruction set, and the vector arithmetic that the host operations share.
//!
//! A kernel is written once as plain loops over 16 lanes. [`multiversion!`] compiles it for AVX-512, for AVX2 with FMA and for
//! the target's baseline, and picks one when called. Inside, `S` names
//! the version: elementwise loops vectorise by themselves with [`madd`], sums are kept in `S::V` registers (left to itself the
//! compiler scatters them).

/// Lanes that loops are cut by, whatever the machine: so a result does not depend on the width of its registers.
pub(crate) const LANES: usize = 16;

/// The instruction sets with a version of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// AVX-512 F, BW, DQ, VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the target always has.
    Baseline,
}

/// The best instruction set of this machine.
#[inline]
pub(crate) fn isa() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
        {
            return Isa::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Isa::Avx2;
        }
    }
    Isa::Baseline
}

/// Sixteen lanes in the registers of one instruction set.
///
/// Its functions may only run where that set has been found: inside [`multiversion!`].
pub(crate) trait Simd {
    /// Whether multiply and add fuse.
    const FMA: bool;
    /// Sixteen numbers.
    type V: Copy;
    /// All zero.
    fn zero() -> Self::V {
        Self::splat(0.0)
    }
    /// All `x`.
    fn splat(x: f32) -> Self::V;
    /// From memory.
    fn load(x: &[f32; LANES]) -> Self::V;
    /// As numbers.
    fn lanes(x: Self::V) -> [f32; LANES];
    /// `a + b`.
    fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    fn madd(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The sum of all, as a tree.
    #[inline(always)]
    fn sum(x: Self::V) -> f32 {
        lane_sum(Self::lanes(x))
    }
}

/// The target's baseline.
pub(crate) struct Plain;

impl Simd for Plain {
    const FMA: bool = cfg!(target_arch = "aarch64");
    type V = [f32; LANES];
    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(x: &[f32; LANES]) -> Self::V {
        *x
    }
    #[inline(always)]
    fn lanes(x: Self::V) -> [f32; LANES] {
        x
    }
    #[inline(always)]
    fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|l| a[l] + b[l])
    }
    #[inline(always)]
    fn madd(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|l| madd::<Self>(a[l], b[l], c[l]))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Simd};
    use std::arch::x86_64::*;

    /// AVX-512: one register.
    pub(crate) struct Avx512;

    // SAFETY of every block below: `Simd` is only used inside `multiversion!`, which has found the features, and loads and
    // stores are unaligned ones on arrays of 16.
    impl Simd for Avx512 {
        const FMA: bool = true;
        type V = __m512;
        #[inline(always)]
        fn splat(x: f32) -> __m512 {
            // SAFETY: above.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        fn load(x: &[f32; LANES]) -> __m512 {
            // SAFETY: above.
            unsafe { _mm512_loadu_ps(x.as_ptr()) }
        }
        #[inline(always)]
        fn lanes(x: __m512) -> [f32; LANES] {
            let mut lanes = [0.0; LANES];
            // SAFETY: above.
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), x) };
            lanes
        }
        #[inline(always)]
        fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: above.
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        fn madd(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: above.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
    }

    /// AVX2 with FMA: two registers.
    pub(crate) struct Avx2;

    impl Simd for Avx2 {
        const FMA: bool = true;
        type V = [__m256; 2];
        #[inline(always)]
        fn splat(x: f32) -> [__m256; 2] {
            // SAFETY: above.
            unsafe { [_mm256_set1_ps(x); 2] }
        }
        #[inline(always)]
        fn load(x: &[f32; LANES]) -> [__m256; 2] {
            // SAFETY: above.
            unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
        }
        #[inline(always)]
        fn lanes(x: [__m256; 2]) -> [f32; LANES] {
            let mut lanes = [0.0; LANES];
            // SAFETY: above.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), x[0]);
                _mm256_storeu_ps(lanes.as_mut_ptr().add(8), x[1]);
            }
            lanes
        }
        #[inline(always)]
        fn add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: above.
            unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        }
        #[inline(always)]
        fn madd(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: above.
            unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
        }
    }
}

/// Defines a function compiled for every [`Isa`] and dispatched at run time.
///
/// The body sees a type `S:` [`Simd`]. At most one constant generic of type `usize` may follow the name.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<const $generic:ident: usize>)? (
        $($arg:ident: $ty:ty),* $(,)?
    ) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<const $generic: usize>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)]
            fn body<S: $crate::host::simd::Simd $(, const $generic: usize)?>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512 $(<const $generic: usize>)? ($($arg: $ty),*) $(-> $ret)? {
                    body::<$crate::host::simd::Avx512 $(, $generic)?>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<const $generic: usize>)? ($($arg: $ty),*) $(-> $ret)? {
                    body::<$crate::host::simd::Avx2 $(, $generic)?>($($arg),*)
                }
                match $crate::host::simd::isa() {
                    // SAFETY: `isa` has just found these features on this machine.
                    $crate::host::simd::Isa::Avx512 => return unsafe { avx512 $(::<$generic>)? ($($arg),*) },
                    // SAFETY: as above.
                    $crate::host::simd::Isa::Avx2 => return unsafe { avx2 $(::<$generic>)? ($($arg),*) },
                    $crate::host::simd::Isa::Baseline => {}
                }
            }
            body::<$crate::host::simd::Plain $(, $generic)?>($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// `a * b + c`, fused where the instruction set has it (a library call elsewhere, hence the constant).
#[inline(always)]
pub(crate) fn madd<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The sum of 16 lanes, as a tree.
#[inline(always)]
pub(crate) fn lane_sum(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

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

/// `e^x` within 2 ulp over the whole range: 0 below -104, infinity above 88.73, NaN of NaN, gradual below the normal numbers.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2` (two-part `ln 2`), a polynomial of degree 6 in `r`, and `2^n` as two factors.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer that stands in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_375;
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
