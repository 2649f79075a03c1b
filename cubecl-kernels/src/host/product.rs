//! Products of strided views in every format of their operands: one, or one an expert.

use std::mem::MaybeUninit;

use super::gemm::{
    Floats, MAX_ROWS, Mat, Prepared, Taken, gemm_nt, gemm_nt_add, grouped_gemm_nt, rows_nt,
};
use super::output::{Parts, build, for_rows, zeroed};
use super::parallel::{Threads, for_each};
use super::simd::{multiversion, round_to_bf16};
use crate::definition::ProductFormat;

/// Rows that lie one every `stride`, or the transpose of such a matrix, for products of any
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
        self.taken(Taken::High)
    }

    /// For a product that takes this of each number, and sums over the columns of both operands.
    fn taken(self, taken: Taken) -> Floats<'a> {
        let floats = Floats::new(self.data, self.rows, self.cols, self.stride, taken);
        if self.transposed { floats.t() } else { floats }
    }

    /// A row of a matrix that is not transposed.
    pub(crate) fn row(self, row: usize) -> &'a [f32] {
        debug_assert!(!self.transposed);
        &self.data[row * self.stride..][..self.cols]
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
    let ([_, cols], taken) = (b.dims(), taken(format));
    gemm_nt(out, cols, 1.0, a.taken(taken), b.t().taken(taken), threads);
}

/// The right operand of `products` products of so many rows each, packed once.
pub(crate) fn prepared(
    b: View<'_>,
    format: ProductFormat,
    rows: usize,
    products: usize,
) -> Prepared<'_> {
    Prepared::new(b.t().taken(taken(format)), rows, products)
}

/// [`product`] on the pool, of an operand that is [`prepared`].
pub(crate) fn product_of(out: &mut [MaybeUninit<f32>], cols: usize, a: View<'_>, b: &Prepared<'_>) {
    b.gemm_nt(out, cols, a.taken(b.taken()));
}

/// `out += a b`.
pub(crate) fn product_add(
    out: &mut [f32],
    a: View<'_>,
    b: View<'_>,
    format: ProductFormat,
    threads: Threads,
) {
    let ([_, cols], taken) = (b.dims(), taken(format));
    gemm_nt_add(out, cols, 1.0, a.taken(taken), b.t().taken(taken), threads);
}

/// Numbers a task rounds.
const ROUNDED_A_TASK: usize = 1 << 16;

/// Every number rounded to BF16.
pub(crate) fn rounded_to_bf16(x: &[f32]) -> Vec<f32> {
    // SAFETY: every number is written.
    unsafe {
        build(x.len(), |out| {
            for_rows(out, 1, ROUNDED_A_TASK, x.len(), |part, out| round_all(&x[part], out));
        })
    }
}

multiversion! {
    fn round_all(x: &[f32], out: &mut [MaybeUninit<f32>]) {
        for (out, &x) in out.iter_mut().zip(x) {
            out.write(round_to_bf16(x));
        }
    }
}

/// What a product in `format` takes of each number.
fn taken(format: ProductFormat) -> Taken {
    match format {
        ProductFormat::F32 => Taken::Whole,
        ProductFormat::Bf16 => Taken::High,
        ProductFormat::Bf16x3 => Taken::Thirds,
    }
}

/// Writes the products `left right` of every pair one after another, which fills `out`; all have
/// `cols` columns.
pub(crate) fn grouped_product(
    out: &mut [MaybeUninit<f32>],
    cols: usize,
    pairs: &[(View<'_>, View<'_>)],
    format: ProductFormat,
) {
    let mut start = 0;
    let placed = pairs.iter().map(|&(left, right)| {
        let place = start;
        start += left.dims()[0] * cols;
        (left, right, place)
    });
    let placed: Vec<_> = placed.collect();
    assert_eq!(start, out.len(), "invariant: the products fill their output");
    let (few, many): (Vec<_>, Vec<_>) = placed.into_iter().partition(|(left, right, _)| {
        format != ProductFormat::Bf16
            && (1..=MAX_ROWS).contains(&left.dims()[0])
            && left.contiguous().is_some()
            && right.t().contiguous().is_some()
    });
    few_rows(out, cols, &few);
    let taken = taken(format);
    let many = many
        .into_iter()
        .map(|(left, right, start)| (left.taken(taken), right.t().taken(taken), start));
    grouped_gemm_nt(out, cols, many);
}

/// The FP32 products of few rows, for which no weight is packed.
fn few_rows(out: &mut [MaybeUninit<f32>], cols: usize, products: &[(View<'_>, View<'_>, usize)]) {
    let work = |(left, _, _): &(View<'_>, View<'_>, usize)| {
        let [rows, depth] = left.dims();
        rows.saturating_mul(depth).saturating_mul(cols)
    };
    let work = products.iter().map(work).fold(0, usize::saturating_add);
    let out = Parts::new(out);
    for_each(products.len(), work, |index| {
        let (left, right, start) = products[index];
        let [rows, depth] = left.dims();
        let (Some(x), Some(w)) = (left.contiguous(), right.t().contiguous()) else {
            unreachable!("invariant: few rows lie row after row");
        };
        // SAFETY: each product's place begins where that of the one before it ends.
        let out = unsafe { out.part(start, rows * cols) };
        rows_nt(x, w, rows, depth, cols, zeroed(out));
    });
}
