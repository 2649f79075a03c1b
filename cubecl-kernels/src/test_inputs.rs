//! Seeded inputs and comparisons that the tests share.

use crate::definition::ProductFormat;
use crate::metric::calc_diff;

/// `len` values in -1..1 from a seed (splitmix64).
pub(crate) fn random(seed: u64, len: usize) -> Vec<f32> {
    // A mixed start: with a linear one, neighbouring seeds would give one stream, shifted.
    let mut state = mix(seed.wrapping_add(0x1234_5678));
    (0..len)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            (mix(state) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `len` indices under `bound` from a seed.
pub(crate) fn random_indices(seed: u64, len: usize, bound: usize) -> Vec<usize> {
    random(seed, len)
        .iter()
        .map(|x| (((x + 1.0) * 0.5 * bound as f32) as usize).min(bound - 1))
        .collect()
}

/// The bounds between groups of so many rows.
pub(crate) fn offsets_of(counts: &[usize]) -> Vec<usize> {
    (0..=counts.len()).map(|group| counts[..group].iter().sum()).collect()
}

/// Every format of a product's operands.
pub(crate) const FORMATS: [ProductFormat; 3] =
    [ProductFormat::F32, ProductFormat::Bf16, ProductFormat::Bf16x3];

/// What a product in `format` reads of `x`, in f64.
pub(crate) fn rounded(x: &[f32], format: ProductFormat) -> Vec<f64> {
    match format {
        ProductFormat::F32 | ProductFormat::Bf16x3 => widen(x),
        ProductFormat::Bf16 => x.iter().map(|&x| half::bf16::from_f32(x).to_f64()).collect(),
    }
}

/// FP32 values in f64.
pub(crate) fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Fails unless `actual` is `expected` up to f32 rounding, by [`calc_diff`] and in every element.
#[track_caller]
pub(crate) fn assert_close(name: &str, actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{name}: length");
    let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(a) - e).abs();
        assert!(
            error <= tolerance * largest.max(0.05),
            "{name}[{i}]: {a} against {e}, largest {largest}"
        );
    }
    let diff = calc_diff(actual, expected);
    assert!(diff < 1e-9 || largest < 1e-6, "{name}: calc_diff {diff}");
}

/// As [`assert_close`], for a difference of terms as large as `terms` that may cancel to (nearly)
/// nothing: the terms' own rounding is allowed too, and where little else is left no relative
/// measure means anything.
#[track_caller]
pub(crate) fn assert_close_of_terms(
    name: &str,
    actual: &[f32],
    expected: &[f64],
    tolerance: f64,
    terms: f64,
) {
    assert_eq!(actual.len(), expected.len(), "{name}: length");
    let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let allowed = tolerance * largest.max(0.05) + 4.0 * f64::from(f32::EPSILON) * terms;
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(a) - e).abs() <= allowed,
            "{name}[{i}]: {a} against {e}, largest {largest}, terms of {terms}"
        );
    }
    let diff = calc_diff(actual, expected);
    assert!(diff < 1e-9 || largest < 0.1 * terms, "{name}: calc_diff {diff}");
}

/// Fails unless `gradient` is the slope of `f` at `x` (central differences).
#[track_caller]
pub(crate) fn assert_gradient(name: &str, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len(), "{name}: length");
    let h = 1e-5;
    let mut moved = x.to_vec();
    for i in 0..x.len() {
        moved[i] = x[i] + h;
        let up = f(&moved);
        moved[i] = x[i] - h;
        let down = f(&moved);
        moved[i] = x[i];
        let slope = (up - down) / (2.0 * h);
        let error = (slope - gradient[i]).abs();
        assert!(
            error < 1e-6 * slope.abs().max(1.0),
            "{name}[{i}]: {} against slope {slope}",
            gradient[i]
        );
    }
}

/// `sum(a * b)` in f64.
pub(crate) fn inner(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Runs `f` in pools of one and of two threads and demands the same bits.
#[track_caller]
pub(crate) fn assert_thread_independent(name: &str, f: impl Fn() -> Vec<Vec<f32>> + Sync) {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(&f)
            .into_iter()
            .map(|v| v.into_iter().map(f32::to_bits).collect())
            .collect::<Vec<Vec<u32>>>()
    };
    let one = run(1);
    for threads in [2, 3] {
        assert!(one == run(threads), "{name}: {threads} threads changed the result");
    }
}
