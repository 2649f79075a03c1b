//! Products with 1 to 4 rows on the left: decoding, and experts with few tokens. No packing; the
//! matrix is read once.

use super::simd::{LANES, Simd, madd, multiversion};

/// Rows up to which these are used.
pub(crate) const MAX_ROWS: usize = 4;

/// `y = x w^T`.
///
/// # Shapes
/// `x [rows, k]` with 1 to 4 rows, `w [n, k]`, `y [rows, n]`.
pub(crate) fn rows_nt(x: &[f32], w: &[f32], rows: usize, k: usize, n: usize, y: &mut [f32]) {
    match rows {
        1 => nt::<1>(x, w, k, n, y),
        2 => nt::<2>(x, w, k, n, y),
        3 => nt::<3>(x, w, k, n, y),
        _ => nt::<4>(x, w, k, n, y),
    }
}

multiversion! {
    fn nt<const R: usize>(x: &[f32], w: &[f32], k: usize, n: usize, y: &mut [f32]) {
        let mut column = 0;
        while column + 4 <= n {
            let sums = dots::<S, R, 4>(x, &w[column * k..], k);
            for (r, sums) in sums.iter().enumerate() {
                y[r * n + column..][..4].copy_from_slice(sums);
            }
            column += 4;
        }
        while column < n {
            let sums = dots::<S, R, 1>(x, &w[column * k..], k);
            for (r, sums) in sums.iter().enumerate() {
                y[r * n + column] = sums[0];
            }
            column += 1;
        }
    }
}

/// The dot products of `R` rows of `x` with `C` rows of `w`.
#[inline(always)]
fn dots<S: Simd, const R: usize, const C: usize>(x: &[f32], w: &[f32], k: usize) -> [[f32; C]; R] {
    let mut acc = [[S::zero(); C]; R];
    let x: [&[f32]; R] = std::array::from_fn(|r| &x[r * k..][..k]);
    let w: [&[f32]; C] = std::array::from_fn(|c| &w[c * k..][..k]);
    let chunks = k / LANES;
    let x_chunks = x.map(|x| &x.as_chunks::<LANES>().0[..chunks]);
    let w_chunks = w.map(|w| &w.as_chunks::<LANES>().0[..chunks]);
    for i in 0..chunks {
        let x: [S::V; R] = std::array::from_fn(|r| S::load(&x_chunks[r][i]));
        for c in 0..C {
            let w = S::load(&w_chunks[c][i]);
            for r in 0..R {
                acc[r][c] = S::madd(x[r], w, acc[r][c]);
            }
        }
    }
    let mut sums = [[0.0; C]; R];
    for r in 0..R {
        for c in 0..C {
            let mut tail = 0.0;
            for i in chunks * LANES..k {
                tail = madd::<S>(x[r][i], w[c][i], tail);
            }
            sums[r][c] = S::sum(acc[r][c]) + tail;
        }
    }
    sums
}
