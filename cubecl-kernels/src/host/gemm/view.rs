//! FP32 products of strided views.

use std::mem::MaybeUninit;

use super::numbers::{gemm_nt, gemm_nt_add};
use super::source::{Floats, Taken};
use crate::host::parallel::Threads;

/// A strided matrix that is read.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a>(Floats<'a>);

impl<'a> Mat<'a> {
    /// `rows` rows of `cols` elements, one every `row_stride`.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Self(Floats::new(data, rows, cols, row_stride, Taken::Whole))
    }

    /// The transpose, without a copy.
    pub(crate) fn t(self) -> Self {
        Self(self.0.t())
    }
}

/// A strided row-major matrix that is written.
pub(crate) struct MatMut<'a> {
    data: &'a mut [MaybeUninit<f32>],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// `rows` rows of `cols` elements, one every `row_stride`.
    pub(crate) fn new(
        data: &'a mut [MaybeUninit<f32>],
        rows: usize,
        cols: usize,
        row_stride: usize,
    ) -> Self {
        Self { data, rows, cols, row_stride }
    }

    /// A contiguous row-major matrix.
    pub(crate) fn contiguous(data: &'a mut [MaybeUninit<f32>], rows: usize, cols: usize) -> Self {
        Self::new(data, rows, cols, cols)
    }
}

/// `dst = scale * a b`, every element written.
pub(crate) fn gemm(
    dst: MatMut<'_>,
    scale: f32,
    Mat(a): Mat<'_>,
    Mat(b): Mat<'_>,
    threads: Threads,
) {
    let b = b.t();
    assert_eq!([dst.rows, dst.cols], [a.dims()[0], b.dims()[0]], "invariant: sizes agree");
    gemm_nt(dst.data, dst.row_stride, scale, a, b, threads);
}

/// `dst += scale * a b`.
pub(crate) fn gemm_add(
    dst: &mut [f32],
    row_stride: usize,
    scale: f32,
    Mat(a): Mat<'_>,
    Mat(b): Mat<'_>,
    threads: Threads,
) {
    gemm_nt_add(dst, row_stride, scale, a, b.t(), threads);
}
