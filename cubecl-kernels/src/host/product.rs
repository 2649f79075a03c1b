//! Products of strided views whose operands are FP32 or rounded to BF16: one, or one an expert.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::fp8_gemm::{Floats, bf16_gemm, bf16_gemm_add, bf16_grouped_gemm};
use super::gemm_view::{Mat, MatMut, Threads, gemm, gemm_add};
use super::output::{Parts, zeroed};
use super::parallel::{chunk, for_each};
use super::small_gemm::{MAX_ROWS, rows_nt};
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

    /// Some of its rows.
    fn part(self, rows: Range<usize>) -> Self {
        if self.transposed {
            let data = self.data.get(rows.start..).unwrap_or(&[]);
            Self { data, cols: rows.len(), ..self }
        } else {
            let data = self.data.get(rows.start * self.stride..).unwrap_or(&[]);
            Self { data, rows: rows.len(), ..self }
        }
    }

    /// Its elements, where they lie row after row.
    fn contiguous(self) -> Option<&'a [f32]> {
        (!self.transposed && self.stride == self.cols).then_some(self.data)
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

/// Writes the products `left right` of every pair one after another, which fills `out`; all have
/// `cols` columns, and a task computes at most `rows_a_task` rows of one.
pub(crate) fn grouped_product(
    out: &mut [MaybeUninit<f32>],
    cols: usize,
    pairs: &[(View<'_>, View<'_>)],
    format: ProductFormat,
    rows_a_task: usize,
) {
    let rows: usize = pairs.iter().map(|(left, _)| left.dims()[0]).sum();
    assert_eq!(rows * cols, out.len(), "invariant: the products fill their output");
    match format {
        ProductFormat::F32 => grouped_gemm(out, cols, pairs, rows_a_task),
        ProductFormat::Bf16 => {
            let pairs = pairs.iter().map(|&(left, right)| (left.floats(), right.t().floats()));
            bf16_grouped_gemm(out, cols, pairs);
        }
    }
}

/// [`grouped_product`] in FP32; the rows of a product are cut into tasks of `rows_a_task`.
fn grouped_gemm(
    out: &mut [MaybeUninit<f32>],
    cols: usize,
    pairs: &[(View<'_>, View<'_>)],
    rows_a_task: usize,
) {
    let (mut tasks, mut start, mut work) = (Vec::new(), 0, out.len());
    for &(left, right) in pairs {
        let [rows, depth] = left.dims();
        for part in 0..rows.div_ceil(rows_a_task) {
            let part = chunk(part, rows_a_task, rows);
            let size = part.len() * cols;
            tasks.push((left.part(part), right, start..start + size));
            start += size;
            work = work.saturating_add(size.saturating_mul(depth));
        }
    }
    let out = Parts::new(out);
    for_each(tasks.len(), work, |index| {
        let (left, right, ref place) = tasks[index];
        // SAFETY: each task's place begins where that of the one before it ends.
        let out = unsafe { out.part(place.start, place.len()) };
        let [rows, depth] = left.dims();
        match (left.contiguous(), right.t().contiguous()) {
            (Some(x), Some(w)) if rows <= MAX_ROWS => {
                rows_nt(x, w, rows, depth, cols, zeroed(out));
            }
            _ => gemm(
                MatMut::contiguous(out, rows, cols),
                1.0,
                left.mat(),
                right.mat(),
                Threads::One,
            ),
        }
    });
}
