//! Products with 1 to 4 rows on the left: decoding, and experts with few tokens. No packing; the matrix is read once.

use super::simd::{LANES, lane_sum, madd, multiversion};

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
            let sums = dots::<FMA, R, 4>(x, &w[column * k..], k);
            for (r, sums) in sums.iter().enumerate() {
                y[r * n + column..][..4].copy_from_slice(sums);
            }
            column += 4;
        }
        while column < n {
            let sums = dots::<FMA, R, 1>(x, &w[column * k..], k);
            for (r, sums) in sums.iter().enumerate() {
                y[r * n + column] = sums[0];
            }
            column += 1;
        }
    }
}

/// The dot products of `R` rows of `x` with `C` rows of `w`.
#[inline(always)]
fn dots<const FMA: bool, const R: usize, const C: usize>(x: &[f32], w: &[f32], k: usize) -> [[f32; C]; R] {
    let mut acc = [[[0.0f32; LANES]; C]; R];
    let x: [&[f32]; R] = std::array::from_fn(|r| &x[r * k..][..k]);
    let w: [&[f32]; C] = std::array::from_fn(|c| &w[c * k..][..k]);
    let x_chunks = x.map(|x| x.as_chunks::<LANES>().0);
    let w_chunks = w.map(|w| w.as_chunks::<LANES>().0);
    for i in 0..k / LANES {
        for r in 0..R {
            for c in 0..C {
                for l in 0..LANES {
                    acc[r][c][l] = madd::<FMA>(x_chunks[r][i][l], w_chunks[c][i][l], acc[r][c][l]);
                }
            }
        }
    }
    let mut sums = [[0.0; C]; R];
    for r in 0..R {
        for c in 0..C {
            let mut tail = 0.0;
            for i in k / LANES * LANES..k {
                tail = madd::<FMA>(x[r][i], w[c][i], tail);
            }
            sums[r][c] = lane_sum(acc[r][c]) + tail;
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
        const WIDTH: usize = 4 * LANES;
        let mut at = 0;
        while at < columns {
            let width = WIDTH.min(columns - at);
            let mut acc = [[0.0f32; WIDTH]; R];
            for i in 0..k {
                let b = &b[i * n + first + at..][..width];
                if let Ok(b) = <&[f32; WIDTH]>::try_from(b) {
                    for r in 0..R {
                        let a = a[r * k + i];
                        for l in 0..WIDTH {
                            acc[r][l] = madd::<FMA>(a, b[l], acc[r][l]);
                        }
                    }
                } else {
                    for r in 0..R {
                        let a = a[r * k + i];
                        for (acc, &b) in acc[r].iter_mut().zip(b) {
                            *acc = madd::<FMA>(a, b, *acc);
                        }
                    }
                }
            }
            for r in 0..R {
                out[r * columns + at..][..width].copy_from_slice(&acc[r][..width]);
            }
            at += width;
        }
    }
}
