//! Products with 1 to 4 rows on the left: decoding, and experts with few tokens. No packing; the
//! matrix is read once, from FP32 or from the form in which a checkpoint stores it.

use half::bf16;

use crate::definition::{Fp8Format, StoredPart, StoredRows, TILE, tiles};
use crate::host::quantize::e4m3_value;
use crate::host::simd::{LANES, Simd, madd, multiversion};

/// Rows up to which these are used.
pub(crate) const MAX_ROWS: usize = 4;

/// `y = x w^T`.
///
/// # Shapes
/// `x [rows, k]` with 1 to 4 rows, `w [n, k]`, `y [rows, n]`.
pub(crate) fn rows_nt(x: &[f32], w: &[f32], rows: usize, k: usize, n: usize, y: &mut [f32]) {
    match rows {
        1 => floats_nt::<1>(x, w, k, n, y),
        2 => floats_nt::<2>(x, w, k, n, y),
        3 => floats_nt::<3>(x, w, k, n, y),
        _ => floats_nt::<4>(x, w, k, n, y),
    }
}

/// [`rows_nt`] of stored rows, with the same bits as of those rows in FP32.
///
/// # Shapes
/// `x [rows, k]` with 1 to 4 rows, `w [n, k]`, `y [rows, n]` with a row every `stride`.
pub(crate) fn stored_rows_nt(
    x: &[f32],
    w: &StoredPart<'_>,
    rows: usize,
    k: usize,
    y: &mut [f32],
    stride: usize,
) {
    match rows {
        1 => stored_nt::<1>(x, w, k, y, stride),
        2 => stored_nt::<2>(x, w, k, y, stride),
        3 => stored_nt::<3>(x, w, k, y, stride),
        _ => stored_nt::<4>(x, w, k, y, stride),
    }
}

fn stored_nt<const R: usize>(
    x: &[f32],
    w: &StoredPart<'_>,
    k: usize,
    y: &mut [f32],
    stride: usize,
) {
    let n = w.rows.len();
    match w.stored {
        StoredRows::Bf16(values) => bf16_nt::<R>(x, &values[w.rows.start * k..], k, n, y, stride),
        StoredRows::E4m3 { codes, scales } => {
            let first = w.rows.start;
            e4m3_nt::<R>(x, &codes[first * k..], scales, first, k, n, y, stride);
        }
    }
}

multiversion! {
    fn floats_nt<const R: usize>(x: &[f32], w: &[f32], k: usize, n: usize, y: &mut [f32]) {
        columns::<S, R, _>(x, |column| Floats::new(&w[column * k..][..k]), k, n, y, n);
    }
}

multiversion! {
    fn bf16_nt<const R: usize>(
        x: &[f32],
        w: &[bf16],
        k: usize,
        n: usize,
        y: &mut [f32],
        stride: usize,
    ) {
        columns::<S, R, _>(x, |column| Brains::new(&w[column * k..][..k]), k, n, y, stride);
    }
}

multiversion! {
    /// `first` is the number of the first row within the grid of blocks.
    fn e4m3_nt<const R: usize>(
        x: &[f32],
        codes: &[u8],
        scales: &[f32],
        first: usize,
        k: usize,
        n: usize,
        y: &mut [f32],
        stride: usize,
    ) {
        let row = |column: usize| {
            let scales = &scales[(first + column) / TILE * tiles(k)..][..tiles(k)];
            Codes::new(&codes[column * k..][..k], scales)
        };
        columns::<S, R, _>(x, row, k, n, y, stride);
    }
}

/// Chunks in a tile.
const TILE_CHUNKS: usize = TILE / LANES;

/// A row of a weight, read in order.
trait Row {
    /// The whole chunks of a tile in FP32: where they lie, or in `buffer`, by a loop that is long
    /// enough to be vectorized.
    fn tile<'a, S: Simd>(&'a self, tile: usize, buffer: &'a mut [f32; TILE]) -> &'a [[f32; LANES]];
    /// Entry `i` of those after the last whole chunk.
    fn rest(&self, i: usize) -> f32;
}

/// The chunks of a tile, fewer in the last.
#[inline(always)]
fn chunks_of<T>(chunks: &[T], tile: usize) -> &[T] {
    &chunks[tile * TILE_CHUNKS..chunks.len().min((tile + 1) * TILE_CHUNKS)]
}

/// FP32.
struct Floats<'a>(&'a [[f32; LANES]], &'a [f32]);

impl<'a> Floats<'a> {
    #[inline(always)]
    fn new(row: &'a [f32]) -> Self {
        let (chunks, rest) = row.as_chunks();
        Self(chunks, rest)
    }
}

impl Row for Floats<'_> {
    #[inline(always)]
    fn tile<'a, S: Simd>(&'a self, tile: usize, _: &'a mut [f32; TILE]) -> &'a [[f32; LANES]] {
        chunks_of(self.0, tile)
    }

    #[inline(always)]
    fn rest(&self, i: usize) -> f32 {
        self.1[i]
    }
}

/// BF16.
struct Brains<'a>(&'a [[bf16; LANES]], &'a [bf16]);

impl<'a> Brains<'a> {
    #[inline(always)]
    fn new(row: &'a [bf16]) -> Self {
        let (chunks, rest) = row.as_chunks();
        Self(chunks, rest)
    }
}

impl Row for Brains<'_> {
    #[inline(always)]
    fn tile<'a, S: Simd>(&'a self, tile: usize, buffer: &'a mut [f32; TILE]) -> &'a [[f32; LANES]] {
        let values = chunks_of(self.0, tile).as_flattened();
        let out = &mut buffer[..values.len()];
        for (out, &value) in out.iter_mut().zip(values) {
            *out = widened(value);
        }
        out.as_chunks().0
    }

    #[inline(always)]
    fn rest(&self, i: usize) -> f32 {
        widened(self.1[i])
    }
}

/// E4M3 with a scale for each [`TILE`] entries.
struct Codes<'a>(&'a [[u8; LANES]], &'a [u8], &'a [f32]);

impl<'a> Codes<'a> {
    #[inline(always)]
    fn new(row: &'a [u8], scales: &'a [f32]) -> Self {
        let (chunks, rest) = row.as_chunks();
        Self(chunks, rest, scales)
    }
}

impl Row for Codes<'_> {
    #[inline(always)]
    fn tile<'a, S: Simd>(&'a self, tile: usize, buffer: &'a mut [f32; TILE]) -> &'a [[f32; LANES]] {
        let (codes, scale) = (chunks_of(self.0, tile), S::splat(self.2[tile]));
        let out = &mut buffer.as_chunks_mut().0[..codes.len()];
        for (out, codes) in out.iter_mut().zip(codes) {
            *out = S::lanes(S::mul(scale, S::fp8(codes, Fp8Format::E4M3)));
        }
        out
    }

    #[inline(always)]
    fn rest(&self, i: usize) -> f32 {
        // What is left over lies in the last tile: tiles are whole chunks.
        let scale = self.2[self.2.len() - 1];
        scale * e4m3_value(u32::from(self.1[i]))
    }
}

/// A BF16 value in FP32.
#[inline(always)]
pub(crate) fn widened(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

/// The columns of a result, four at a time.
#[inline(always)]
fn columns<S: Simd, const R: usize, W: Row>(
    x: &[f32],
    row: impl Fn(usize) -> W,
    k: usize,
    n: usize,
    y: &mut [f32],
    stride: usize,
) {
    let mut column = 0;
    while column + 4 <= n {
        let sums = dots::<S, R, 4, W>(x, std::array::from_fn(|c| row(column + c)), k);
        for (r, sums) in sums.iter().enumerate() {
            y[r * stride + column..][..4].copy_from_slice(sums);
        }
        column += 4;
    }
    while column < n {
        let sums = dots::<S, R, 1, W>(x, [row(column)], k);
        for (r, sums) in sums.iter().enumerate() {
            y[r * stride + column] = sums[0];
        }
        column += 1;
    }
}

/// The dot products of `R` rows of `x` with `C` rows of a weight.
#[inline(always)]
fn dots<S: Simd, const R: usize, const C: usize, W: Row>(
    x: &[f32],
    w: [W; C],
    k: usize,
) -> [[f32; C]; R] {
    let mut acc = [[S::zero(); C]; R];
    let x: [(&[[f32; LANES]], &[f32]); R] =
        std::array::from_fn(|r| x[r * k..][..k].as_chunks::<LANES>());
    let chunks = k / LANES;
    let mut buffers = [[0.0; TILE]; C];
    for tile in 0..chunks.div_ceil(TILE_CHUNKS) {
        let mut w_tile: [&[[f32; LANES]]; C] = [&[]; C];
        for ((w_tile, w), buffer) in w_tile.iter_mut().zip(&w).zip(&mut buffers) {
            *w_tile = w.tile::<S>(tile, buffer);
        }
        let x_tile: [&[[f32; LANES]]; R] = std::array::from_fn(|r| chunks_of(x[r].0, tile));
        for i in 0..x_tile[0].len() {
            // No closure: it would be compiled without the instruction set.
            let mut x = [S::zero(); R];
            for (x, x_tile) in x.iter_mut().zip(&x_tile) {
                *x = S::load(&x_tile[i]);
            }
            for c in 0..C {
                let w = S::load(&w_tile[c][i]);
                for r in 0..R {
                    acc[r][c] = S::madd(x[r], w, acc[r][c]);
                }
            }
        }
    }
    let mut sums = [[0.0; C]; R];
    for r in 0..R {
        for c in 0..C {
            let mut tail = 0.0;
            for i in 0..k - chunks * LANES {
                tail = madd::<S>(x[r].1[i], w[c].rest(i), tail);
            }
            sums[r][c] = S::sum(acc[r][c]) + tail;
        }
    }
    sums
}
