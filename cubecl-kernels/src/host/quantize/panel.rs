//! Panels of a matrix as FP32: borrowed where the matrix is FP32 in memory, computed into a buffer
//! otherwise.

use std::ops::Range;

use half::bf16;

use crate::host::buffer::Buffer;
use crate::host::simd::{multiversion, prefetch};

/// Numbers that a core's own caches hold: of less than that, asking early is work for nothing.
const FLOATS_IN_CACHE: usize = 1 << 18;

/// A number that matrices to be quantized are made of: `f32` or `half::bf16`.
pub trait Element: sealed::Load {}

impl Element for f32 {}
impl Element for bf16 {}

mod sealed {
    use super::{Buffer, Panel};

    pub trait Load: Copy + Send + Sync {
        /// The panel `[rows, columns]` at the start of `x`, whose rows are `stride` apart.
        fn load<'a>(
            x: &'a [Self],
            stride: usize,
            rows: usize,
            columns: usize,
            buffer: &'a mut Buffer,
        ) -> Panel<'a>;
    }
}

impl sealed::Load for f32 {
    fn load<'a>(
        x: &'a [f32],
        stride: usize,
        rows: usize,
        columns: usize,
        _: &'a mut Buffer,
    ) -> Panel<'a> {
        Panel { data: x, stride, rows, columns }
    }
}

impl sealed::Load for bf16 {
    fn load<'a>(
        x: &'a [bf16],
        stride: usize,
        rows: usize,
        columns: usize,
        buffer: &'a mut Buffer,
    ) -> Panel<'a> {
        computed(rows, columns, buffer, |out| widen(x, stride, columns, out))
    }
}

multiversion! {
    fn widen(x: &[bf16], stride: usize, columns: usize, out: &mut [f32]) {
        for (out, x) in out.chunks_exact_mut(columns).zip(x.chunks(stride)) {
            for (out, x) in out.iter_mut().zip(x) {
                *out = f32::from_bits(u32::from(x.to_bits()) << 16);
            }
        }
    }
}

/// Some rows and columns of a matrix.
#[derive(Clone, Copy)]
pub struct Panel<'a> {
    data: &'a [f32],
    stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<'a> Panel<'a> {
    /// `[rows, columns]` at the start of `data`, whose rows are `stride` apart.
    pub(super) fn new(data: &'a [f32], stride: usize, rows: usize, columns: usize) -> Self {
        Self { data, stride, rows, columns }
    }

    /// A row.
    #[inline(always)]
    pub(in crate::host) fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..self.columns]
    }

    /// Asks for the same row of the panel to the right. Rows that lie apart are too short for the
    /// machine to foresee what comes next; a panel of one row it follows by itself.
    #[inline(always)]
    pub(super) fn prefetch_next(&self, row: usize) {
        if self.rows > 1 && self.stride > self.columns && self.data.len() > FLOATS_IN_CACHE {
            let next = self.data.as_ptr().wrapping_add(row * self.stride + self.columns);
            prefetch(next.cast(), self.columns * size_of::<f32>());
        }
    }
}

/// A panel that `fill` writes, row by row without gaps.
pub(super) fn computed<'a>(
    rows: usize,
    columns: usize,
    buffer: &'a mut Buffer,
    fill: impl FnOnce(&mut [f32]),
) -> Panel<'a> {
    let data = buffer.room(rows * columns);
    fill(data);
    Panel { data, stride: columns, rows, columns }
}

/// A panel whose rows, some of those of a matrix, `fill(row, out)` writes.
pub(super) fn computed_rows(
    rows: Range<usize>,
    columns: usize,
    buffer: &mut Buffer,
    mut fill: impl FnMut(usize, &mut [f32]),
) -> Panel<'_> {
    computed(rows.len(), columns, buffer, |out| {
        rows.zip(out.chunks_mut(columns)).for_each(|(row, out)| fill(row, out));
    })
}

/// What can be read panel by panel. Columns of a panel start at a whole tile.
pub(in crate::host) trait Source: Sync {
    /// Rows `rows` of columns `columns`, which are neither of them empty; `buffer` is for the
    /// source's use.
    fn panel<'a>(
        &'a self,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> Panel<'a>;
}

/// A matrix in memory.
pub(super) struct Matrix<'a, E> {
    pub(super) x: &'a [E],
    pub(super) cols: usize,
}

impl<E: Element> Source for Matrix<'_, E> {
    fn panel<'a>(
        &'a self,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> Panel<'a> {
        E::load(
            &self.x[rows.start * self.cols + columns.start..],
            self.cols,
            rows.len(),
            columns.len(),
            buffer,
        )
    }
}
