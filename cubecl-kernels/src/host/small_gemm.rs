//! Products with 1 to 4 rows on the left: decoding, and experts with few tokens. No packing; the matrix is read once.

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

/// `out = a b[.., first..first + columns]`.
///
/// # Shapes
/// `a [rows, k]` with 1 to 4 rows, `b [k, n]`, `out [rows, columns]`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn rows_nn(
    a: &[f32],
    b: &[f32],
    rows: usize,
    k: usize,
    n: usize,
    first: usize,
    columns: usize,
    out: &mut [f32],
) {
    match rows {
        1 => nn::<1>(a, b, k, n, first, columns, out),
        2 => nn::<2>(a, b, k, n, first, columns, out),
        3 => nn::<3>(a, b, k, n, first, columns, out),
        _ => nn::<4>(a, b, k, n, first, columns, out),
    }
}

multiversion! {
    fn nn<const R: usize>(a: &[f32], b: &[f32], k: usize, n: usize, first: usize, columns: usize, out: &mut [f32]) {
        let mut at = 0;
        while at + 4 * LANES <= columns {
            let mut acc = [[S::zero(); 4]; R];
            for i in 0..k {
                let b = b[i * n + first + at..].as_chunks::<LANES>().0;
                let b: [S::V; 4] = std::array::from_fn(|c| S::load(&b[c]));
                for r in 0..R {
                    let a = S::splat(a[r * k + i]);
                    for c in 0..4 {
                        acc[r][c] = S::madd(a, b[c], acc[r][c]);
                    }
                }
            }
            for r in 0..R {
                for c in 0..4 {
                    out[r * columns + at + c * LANES..][..LANES].copy_from_slice(&S::lanes(acc[r][c]));
                }
            }
            at += 4 * LANES;
        }
        for r in 0..R {
            let out = &mut out[r * columns + at..][..columns - at];
            out.fill(0.0);
            for i in 0..k {
                let a = a[r * k + i];
                for (out, &b) in out.iter_mut().zip(&b[i * n + first + at..]) {
                    *out = madd::<S>(a, b, *out);
                }
            }
        }
    }
}
