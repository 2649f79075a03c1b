//! Packing into FP32 words, for every instruction set.

use std::ops::Range;

use super::source::{Floats, Source, values};
use crate::definition::{OperandView, TILE};
use crate::host::simd::{LANES, Plain, Simd, round_to_bf16};

/// Packs the scales of some rows in some tiles of the depth, `[tile][width]`, zero past the rows.
///
/// # Safety
/// `scales` has room for them.
#[inline(always)]
pub(super) unsafe fn scales(
    x: &OperandView<'_>,
    rows: Range<usize>,
    tiles: Range<usize>,
    width: usize,
    scales: *mut f32,
) {
    for r in 0..width {
        for (t, tile) in tiles.clone().enumerate() {
            let scale = if r < rows.len() { x.scale(rows.start + r, tile) } else { 0.0 };
            // SAFETY: the caller vouches for room of `[tile][width]`.
            unsafe { *scales.add(t * width + r) = scale };
        }
    }
}

/// Packs rows as a left operand, `[tile][row][TILE]` words; those past the end of the depth are
/// zero up to a multiple of [`LANES`], and not written beyond.
///
/// # Safety
/// `words` has room for `tiles * rows * TILE`, and the instruction set of `S` is there.
#[inline(always)]
pub(super) unsafe fn left<S: Transpose>(
    source: &Source<'_>,
    rows: Range<usize>,
    depth: Range<usize>,
    words: *mut u32,
) {
    let count = rows.len();
    for (t, first) in depth.clone().step_by(TILE).enumerate() {
        let len = TILE.min(depth.end - first);
        // SAFETY: row `r` of this tile lies in the room the caller vouches for.
        let store = |r: usize, i: usize, values: [f32; LANES]| unsafe {
            *words.add((t * count + r) * TILE + i).cast() = values
        };
        match source {
            Source::Floats(x) if x.row_stride == 1 && x.depth_stride != 1 => {
                for at in (0..count).step_by(LANES) {
                    let live = LANES.min(count - at);
                    for i in (0..len).step_by(LANES) {
                        let mut block = side_by_side(x, rows.start + at, live, first + i, len - i);
                        // SAFETY: the caller vouches for the instruction set.
                        unsafe { S::transpose(&mut block) };
                        (0..live).for_each(|r| store(at + r, i, block[r]));
                    }
                }
            }
            _ => {
                for (r, row) in rows.clone().enumerate() {
                    for i in (0..len).step_by(LANES) {
                        store(r, i, values(source, row, first + i, len - i));
                    }
                }
            }
        }
    }
}

/// Packs rows as a panel of a right operand, `[tile][TILE][LANES * vectors]` words, zero in the
/// columns past `rows`; past the end of the depth as [`left`].
///
/// # Safety
/// `words` has room for `tiles * TILE * LANES * vectors`, and the instruction set of `S` is there.
#[inline(always)]
pub(super) unsafe fn right<S: Transpose>(
    source: &Source<'_>,
    rows: Range<usize>,
    vectors: usize,
    depth: Range<usize>,
    words: *mut u32,
) {
    for (t, first) in depth.clone().step_by(TILE).enumerate() {
        let len = TILE.min(depth.end - first);
        for v in 0..vectors {
            let start = rows.start + v * LANES;
            let count = rows.end.saturating_sub(start).min(LANES);
            for i in (0..len).step_by(LANES) {
                let block = match source {
                    Source::Floats(x) if x.row_stride == 1 && count > 0 => {
                        side_by_side(x, start, count, first + i, len - i)
                    }
                    _ => {
                        let mut block = [[0.0; LANES]; LANES];
                        for (r, block) in block[..count].iter_mut().enumerate() {
                            *block = values(source, start + r, first + i, len - i);
                        }
                        // SAFETY: the caller vouches for the instruction set.
                        unsafe { S::transpose(&mut block) };
                        block
                    }
                };
                for (step, values) in block.iter().enumerate() {
                    // SAFETY: the steps of vector `v` in tile `t` lie in the room the caller
                    // vouches for.
                    unsafe {
                        *words.add(((t * TILE + i + step) * vectors + v) * LANES).cast() = *values
                    };
                }
            }
        }
    }
}

/// Sixteen entries from `first` on of `count` rows that lie side by side, `[entry][row]`; zero from
/// the `len`-th entry on, and past the rows.
#[inline(always)]
fn side_by_side(
    x: &Floats<'_>,
    row: usize,
    count: usize,
    first: usize,
    len: usize,
) -> [[f32; LANES]; LANES] {
    let mut block = [[0.0; LANES]; LANES];
    for (i, block) in block[..LANES.min(len)].iter_mut().enumerate() {
        let entry = &x.data[row + (first + i) * x.depth_stride..];
        match entry.first_chunk::<LANES>() {
            Some(entry) if count == LANES => {
                (0..LANES).for_each(|r| block[r] = round_to_bf16(entry[r]))
            }
            _ => block
                .iter_mut()
                .zip(&entry[..count])
                .for_each(|(value, &x)| *value = round_to_bf16(x)),
        }
    }
    block
}

/// Exchanges rows and columns.
pub(super) trait Transpose: Simd {
    /// Exchanges rows and columns of 16 x 16 numbers.
    ///
    /// # Safety
    /// The instruction set is there.
    unsafe fn transpose(x: &mut [[f32; LANES]; LANES]);
}

impl Transpose for Plain {
    #[inline(always)]
    unsafe fn transpose(x: &mut [[f32; LANES]; LANES]) {
        let rows = *x;
        for (i, x) in x.iter_mut().enumerate() {
            *x = std::array::from_fn(|r| rows[r][i]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    // Loops over the indices of fixed arrays keep them in registers.
    #![allow(clippy::needless_range_loop)]

    use std::arch::x86_64::*;

    use super::{LANES, Transpose};
    use crate::host::simd::{Avx2, Avx512, transpose_avx512};

    impl Transpose for Avx512 {
        #[inline(always)]
        unsafe fn transpose(x: &mut [[f32; LANES]; LANES]) {
            // SAFETY: the instruction set is there, as the caller promises, and every access is to
            // one of the rows.
            unsafe {
                let mut rows = [_mm512_setzero_si512(); LANES];
                for i in 0..LANES {
                    rows[i] = _mm512_loadu_si512(x[i].as_ptr().cast());
                }
                let columns = transpose_avx512(rows);
                for i in 0..LANES {
                    _mm512_storeu_si512(x[i].as_mut_ptr().cast(), columns[i]);
                }
            }
        }
    }

    impl Transpose for Avx2 {
        #[inline(always)]
        unsafe fn transpose(x: &mut [[f32; LANES]; LANES]) {
            // SAFETY: the instruction set is there, as the caller promises; every load and store
            // takes eight numbers of one half of a row.
            unsafe {
                let rows = *x;
                for (from, to) in
                    [((0, 0), (0, 0)), ((0, 8), (8, 0)), ((8, 0), (0, 8)), ((8, 8), (8, 8))]
                {
                    let mut block = [_mm256_setzero_ps(); 8];
                    for i in 0..8 {
                        block[i] = _mm256_loadu_ps(rows[from.0 + i].as_ptr().add(from.1));
                    }
                    let block = transpose8(block);
                    for i in 0..8 {
                        _mm256_storeu_ps(x[to.0 + i].as_mut_ptr().add(to.1), block[i]);
                    }
                }
            }
        }
    }

    /// Exchanges rows and columns of 8 x 8 numbers.
    ///
    /// # Safety
    /// AVX2 is there.
    #[inline(always)]
    unsafe fn transpose8(x: [__m256; 8]) -> [__m256; 8] {
        // SAFETY: registers alone, and the caller vouches for AVX2.
        unsafe {
            let zero = _mm256_setzero_ps();
            let (mut a, mut b, mut y) = ([zero; 8], [zero; 8], [zero; 8]);
            for half in 0..4 {
                let i = 2 * half;
                a[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
                a[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
            }
            for half in 0..2 {
                let i = 4 * half;
                b[i] = _mm256_shuffle_ps::<0x44>(a[i], a[i + 2]);
                b[i + 1] = _mm256_shuffle_ps::<0xEE>(a[i], a[i + 2]);
                b[i + 2] = _mm256_shuffle_ps::<0x44>(a[i + 1], a[i + 3]);
                b[i + 3] = _mm256_shuffle_ps::<0xEE>(a[i + 1], a[i + 3]);
            }
            for i in 0..4 {
                y[i] = _mm256_permute2f128_ps::<0x20>(b[i], b[i + 4]);
                y[i + 4] = _mm256_permute2f128_ps::<0x31>(b[i], b[i + 4]);
            }
            y
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LANES, Transpose};
    use crate::host::simd::*;

    fn check<S: Transpose>() {
        let start: [[f32; LANES]; LANES] =
            std::array::from_fn(|r| std::array::from_fn(|c| (r * LANES + c) as f32));
        let mut x = start;
        // SAFETY: called where the instruction set has been found.
        unsafe { S::transpose(&mut x) };
        for (r, row) in x.iter().enumerate() {
            assert!(row.iter().enumerate().all(|(c, &x)| x == start[c][r]), "row {r}: {row:?}");
        }
    }

    #[test]
    fn rows_become_columns() {
        check::<Plain>();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                check::<Avx2>();
            }
            if is_x86_feature_detected!("avx512f") {
                check::<Avx512>();
            }
        }
    }
}
