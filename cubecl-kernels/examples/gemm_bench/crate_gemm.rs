//! The `gemm` crate's FP32 products, as a baseline.

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;

/// Rows of one product that one task computes, where there are many.
const ROWS_A_TASK: usize = 256;

/// A matrix with strides, `(row, column)`.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    strides: (usize, usize),
}

impl<'a> Mat<'a> {
    /// A contiguous matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols);
        Self { data, rows, cols, strides: (cols, 1) }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        let (rows, cols, strides) = (self.cols, self.rows, (self.strides.1, self.strides.0));
        Self { rows, cols, strides, ..self }
    }

    fn part(self, rows: Range<usize>) -> Self {
        Self { data: &self.data[rows.start * self.strides.0..], rows: rows.len(), ..self }
    }
}

/// `a b`, on all threads.
pub fn product(a: Mat<'_>, b: Mat<'_>) -> Vec<f32> {
    let mut out = Vec::with_capacity(a.rows * b.cols);
    // SAFETY: `into` writes all of it, for which there is room.
    unsafe {
        into(out.as_mut_ptr(), a, b, Parallelism::Rayon(0));
        out.set_len(a.rows * b.cols);
    }
    out
}

/// Every `a b`, one after another, each with `cols` columns, some rows of one by one task.
pub fn grouped(pairs: &[(Mat<'_>, Mat<'_>)], cols: usize) -> Vec<f32> {
    let (mut tasks, mut start) = (Vec::new(), 0);
    for &(a, b) in pairs {
        for first in (0..a.rows).step_by(ROWS_A_TASK) {
            let rows = first..a.rows.min(first + ROWS_A_TASK);
            let place = start;
            start += rows.len() * cols;
            tasks.push((a.part(rows), b, place));
        }
    }
    let mut out = Vec::<f32>::with_capacity(start);
    let address = out.as_mut_ptr() as usize;
    tasks.into_par_iter().for_each(|(a, b, place)| {
        // SAFETY: each task's place begins where that of the one before it ends.
        unsafe { into((address as *mut f32).add(place), a, b, Parallelism::None) };
    });
    // SAFETY: the tasks have written all of it.
    unsafe { out.set_len(start) };
    out
}

/// # Safety
/// `out` has room for the product.
unsafe fn into(out: *mut f32, a: Mat<'_>, b: Mat<'_>, parallelism: Parallelism) {
    assert_eq!(a.cols, b.rows);
    // SAFETY: the matrices lie inside their slices, and the caller vouches for `out`.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out,
            1,
            b.cols as isize,
            false,
            a.data.as_ptr(),
            a.strides.1 as isize,
            a.strides.0 as isize,
            b.data.as_ptr(),
            b.strides.1 as isize,
            b.strides.0 as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
