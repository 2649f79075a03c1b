//! Matrix products on strided views, by the `gemm` crate.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use gemm::Parallelism;

/// A strided matrix that is read.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// The elements a view reaches over.
fn reach(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + (cols - 1) * col_stride + 1 }
}

impl<'a> Mat<'a> {
    /// `rows` rows of `cols` elements, one every `row_stride`.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(
            reach(rows, cols, row_stride, 1) <= data.len(),
            "invariant: a view lies inside its slice"
        );
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without a copy.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// A strided row-major matrix that is written.
pub(crate) struct MatMut<'a> {
    start: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

impl<'a> MatMut<'a> {
    /// `rows` rows of `cols` elements, one every `row_stride`.
    pub(crate) fn new(
        data: &'a mut [MaybeUninit<f32>],
        rows: usize,
        cols: usize,
        row_stride: usize,
    ) -> Self {
        assert!(
            reach(rows, cols, row_stride, 1) <= data.len(),
            "invariant: a view lies inside its slice"
        );
        Self { start: data.as_mut_ptr().cast(), rows, cols, row_stride, owner: PhantomData }
    }

    /// A contiguous row-major matrix.
    pub(crate) fn contiguous(data: &'a mut [MaybeUninit<f32>], rows: usize, cols: usize) -> Self {
        Self::new(data, rows, cols, cols)
    }
}

/// Whether the product may use the pool itself; inside a task it must not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// This thread only.
    One,
    /// The pool.
    Pool,
}

/// `dst = scale * a b`, every element written.
pub(crate) fn gemm(dst: MatMut<'_>, scale: f32, a: Mat<'_>, b: Mat<'_>, threads: Threads) {
    // SAFETY: nothing is read from `dst`.
    unsafe { product(dst, false, scale, a, b, threads) }
}

/// `dst += scale * a b`.
pub(crate) fn gemm_add(
    dst: &mut [f32],
    row_stride: usize,
    scale: f32,
    a: Mat<'_>,
    b: Mat<'_>,
    threads: Threads,
) {
    let dst = MatMut::new(super::output::as_uninit(dst), a.rows, b.cols, row_stride);
    // SAFETY: `dst` came from initialised memory.
    unsafe { product(dst, true, scale, a, b, threads) }
}

/// # Safety
/// With `read`, `dst` must be initialised.
unsafe fn product(
    dst: MatMut<'_>,
    read: bool,
    scale: f32,
    a: Mat<'_>,
    b: Mat<'_>,
    threads: Threads,
) {
    assert!(
        dst.rows == a.rows && dst.cols == b.cols && a.cols == b.rows,
        "invariant: the sizes of a product agree"
    );
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::Pool => Parallelism::Rayon(0),
    };
    // SAFETY: the constructors checked that all three views lie inside their slices; `dst` is
    // borrowed mutably, so it does not overlap `a` or `b`; where `read` is false gemm only writes
    // it.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.cols,
            a.cols,
            dst.start,
            1,
            dst.row_stride as isize,
            read,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
