//! Products of strided views whose operands are FP32 or rounded to BF16.

use std::mem::MaybeUninit;

use super::fp8_gemm::{Floats, bf16_gemm, bf16_gemm_add};
use super::gemm_view::{Mat, MatMut, Threads, gemm, gemm_add};
use crate::definition::ProductFormat;

/// Rows that lie one every `stride`, or the transpose of such a matrix, for products of either
/// format.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    stride: usize,
    transposed: bool,
}

impl<'a> View<'a> {
    /// A contiguous matrix.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// `rows` rows of `cols` elements, one every `stride`.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        Self { data, rows, cols, stride, transposed: false }
    }

    /// The transpose, without a copy.
    pub(crate) fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// For a product in FP32.
    pub(crate) fn mat(self) -> Mat<'a> {
        let mat = Mat::new(self.data, self.rows, self.cols, self.stride);
        if self.transposed { mat.t() } else { mat }
    }

    /// For a product in BF16, which sums over the columns of both operands.
    pub(crate) fn floats(self) -> Floats<'a> {
        let floats = Floats::new(self.data, self.rows, self.cols, self.stride);
        if self.transposed { floats.t() } else { floats }
    }

    /// Rows and columns.
    pub(crate) fn dims(self) -> [usize; 2] {
        if self.transposed { [self.cols, self.rows] } else { [self.rows, self.cols] }
    }
}

/// `out = a b`, all of it written, contiguous.
pub(crate) fn product(
    out: &mut [MaybeUninit<f32>],
    a: View<'_>,
    b: View<'_>,
    format: ProductFormat,
    threads: Threads,
) {
    let ([rows, _], [_, cols]) = (a.dims(), b.dims());
    match format {
        ProductFormat::F32 => {
            gemm(MatMut::contiguous(out, rows, cols), 1.0, a.mat(), b.mat(), threads)
        }
        ProductFormat::Bf16 => bf16_gemm(out, cols, a.floats(), b.t().floats(), threads),
    }
}

/// `out += a b`.
pub(crate) fn product_add(
    out: &mut [f32],
    a: View<'_>,
    b: View<'_>,
    format: ProductFormat,
    threads: Threads,
) {
    let [_, cols] = b.dims();
    match format {
        ProductFormat::F32 => gemm_add(out, cols, 1.0, a.mat(), b.mat(), threads),
        ProductFormat::Bf16 => bf16_gemm_add(out, cols, a.floats(), b.t().floats(), threads),
    }
}
