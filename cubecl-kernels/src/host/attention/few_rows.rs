//! `y += x w` with few rows on the left, where packing `w` would cost more than the product.

use crate::definition::ProductFormat;
use crate::host::gemm::MAX_ROWS;
use crate::host::parallel::Threads;
use crate::host::product::{View, product_add};
use crate::host::simd::{LANES, Simd, madd, multiversion};

/// Registers of columns that are summed at a time.
const WIDE: usize = 4;

/// `y += x w`; `w` is read once where there are at most [`MAX_ROWS`] rows.
///
/// # Shapes
/// `x [rows, k]`, `w [k, n]`, `y [rows, n]`.
pub(super) fn add_nn(x: &[f32], w: &[f32], rows: usize, k: usize, n: usize, y: &mut [f32]) {
    match rows {
        0 => {}
        1 => rows_nn::<1>(x, w, k, n, y),
        2 => rows_nn::<2>(x, w, k, n, y),
        3 => rows_nn::<3>(x, w, k, n, y),
        4 => rows_nn::<MAX_ROWS>(x, w, k, n, y),
        _ => {
            let (x, w) = (View::new(x, rows, k), View::new(w, k, n));
            product_add(y, x, w, ProductFormat::F32, Threads::One);
        }
    }
}

multiversion! {
    fn rows_nn<const R: usize>(x: &[f32], w: &[f32], k: usize, n: usize, y: &mut [f32]) {
        let mut column = 0;
        while column + WIDE * LANES <= n {
            strip::<S, R, WIDE>(x, w, k, n, column, y);
            column += WIDE * LANES;
        }
        while column + LANES <= n {
            strip::<S, R, 1>(x, w, k, n, column, y);
            column += LANES;
        }
        for column in column..n {
            for r in 0..R {
                let mut sum = y[r * n + column];
                for i in 0..k {
                    sum = madd::<S>(x[r * k + i], w[i * n + column], sum);
                }
                y[r * n + column] = sum;
            }
        }
    }
}

/// `V` registers of columns from `first` on.
#[inline(always)]
fn strip<S: Simd, const R: usize, const V: usize>(
    x: &[f32],
    w: &[f32],
    k: usize,
    n: usize,
    first: usize,
    y: &mut [f32],
) {
    let mut sums = [[S::zero(); V]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        let (y, _) = y[r * n + first..][..V * LANES].as_chunks();
        for v in 0..V {
            sums[v] = S::load(&y[v]);
        }
    }
    for i in 0..k {
        let (w, _) = w[i * n + first..][..V * LANES].as_chunks();
        let w: [S::V; V] = std::array::from_fn(|v| S::load(&w[v]));
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = S::splat(x[r * k + i]);
            for v in 0..V {
                sums[v] = S::madd(x, w[v], sums[v]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let (y, _) = y[r * n + first..][..V * LANES].as_chunks_mut();
        for v in 0..V {
            y[v] = S::lanes(sums[v]);
        }
    }
}
