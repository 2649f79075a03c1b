//! Packing into FP32 words, for every instruction set.

use std::marker::PhantomData;
use std::ops::Range;

use super::left::LeftLayout;
use super::pack::Pack;
use super::source::{Floats, Source, Taken, write_values};
use super::transpose::Transpose;
use crate::definition::TILE;
use crate::host::simd::LANES;

/// Sixteen rows of sixteen numbers.
type Square = [[f32; LANES]; LANES];

/// Depths that are asked for before they are packed, where each begins elsewhere.
const AHEAD: usize = 16;

/// FP32 words, in the registers of `S`.
pub(super) struct Words<S>(PhantomData<S>);

impl<S: Transpose> Pack for Words<S> {
    const DEPTH: usize = 1;

    #[inline(always)]
    unsafe fn left(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        layout: LeftLayout,
        words: *mut u32,
    ) {
        for (t, first) in depth.clone().step_by(TILE).enumerate() {
            let len = TILE.min(depth.end - first);
            // SAFETY: the caller vouches for the operand, the room, of which this tile takes its
            // own part, and the instruction set.
            unsafe {
                let to = words.add(t * layout.tile).cast::<f32>();
                match source {
                    Source::Floats(x) if x.row_stride == 1 && x.depth_stride != 1 => {
                        left_side_by_side::<S>(x, rows.clone(), first, len, layout.row, to);
                    }
                    Source::Floats(x) if x.depth_stride == 1 && x.taken == Taken::Whole => {
                        for (r, row) in rows.clone().enumerate() {
                            let to = to.add(r * layout.row);
                            std::ptr::copy_nonoverlapping(x.at(row, first), to, len);
                        }
                    }
                    _ => {
                        for (r, row) in rows.clone().enumerate() {
                            for i in (0..len).step_by(LANES) {
                                let to = &mut *to.add(r * layout.row + i).cast();
                                write_values(source, row, first + i, len - i, to);
                            }
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn right(
        source: &Source<'_>,
        rows: Range<usize>,
        vectors: usize,
        depth: Range<usize>,
        words: *mut u32,
    ) {
        let width = LANES * vectors;
        for (t, first) in depth.clone().step_by(TILE).enumerate() {
            let len = TILE.min(depth.end - first);
            // SAFETY: the caller vouches for the operand, the room, of which these columns of this
            // tile take their own part, and the instruction set.
            unsafe {
                let to = words.add(t * TILE * width).cast::<f32>();
                if let Source::Floats(x) = source
                    && x.row_stride == 1
                {
                    right_side_by_side(x, rows.clone(), first, len, width, to);
                    continue;
                }
                for v in 0..vectors {
                    let start = rows.start + v * LANES;
                    let count = rows.end.saturating_sub(start).min(LANES);
                    for i in (0..len).step_by(LANES) {
                        let to = to.add(i * width + v * LANES);
                        square::<S>(source, start, count, first + i, len - i, to, width);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn in_place(source: &Source<'_>, row: usize, entry: usize) -> Option<(*mut u32, usize)> {
        match source {
            Source::Floats(x) if x.row_stride == 1 && x.taken == Taken::Whole => {
                Some((x.at(row, entry).cast_mut().cast(), x.depth_stride))
            }
            _ => None,
        }
    }
}

/// Writes `count` rows of sixteen entries (or `len`) as columns; zero past both.
///
/// # Safety
/// Rows and entries lie inside `source`, `to` has room for sixteen rows of sixteen numbers, and the
/// instruction set of `S` is there.
#[inline(always)]
unsafe fn square<S: Transpose>(
    source: &Source<'_>,
    row: usize,
    count: usize,
    first: usize,
    len: usize,
    to: *mut f32,
    to_stride: usize,
) {
    // SAFETY: the caller vouches for the operand, the room and the instruction set.
    unsafe {
        if let Source::Floats(x) = source
            && x.taken == Taken::Whole
            && x.depth_stride == 1
            && count == LANES
            && len >= LANES
        {
            S::transpose(x.at(row, first), x.row_stride, to, to_stride);
            return;
        }
        let mut block: Square = [[0.0; LANES]; LANES];
        for (r, block) in block[..count].iter_mut().enumerate() {
            write_values(source, row + r, first, len, block);
        }
        S::transpose(block.as_flattened().as_ptr(), LANES, to, to_stride);
    }
}

/// Packs a depth tile of rows that lie side by side, one every `to_stride`.
///
/// # Safety
/// Rows and the `len` entries from `first` on lie inside `x`, whose rows lie side by side; `to` has
/// room for a tile of each row, and the instruction set of `S` is there.
#[inline(always)]
unsafe fn left_side_by_side<S: Transpose>(
    x: &Floats<'_>,
    rows: Range<usize>,
    first: usize,
    len: usize,
    to_stride: usize,
    to: *mut f32,
) {
    // All rows of a few depths before the next: what lies side by side is read in turn.
    for i in (0..len).step_by(LANES) {
        for at in rows.clone().step_by(LANES) {
            let count = LANES.min(rows.end - at);
            // SAFETY: the caller vouches for the operand, the room and the instruction set.
            unsafe {
                let to = to.add((at - rows.start) * to_stride + i);
                let whole = count == LANES && len - i >= LANES;
                if whole && x.taken == Taken::Whole {
                    S::transpose(x.at(at, first + i), x.depth_stride, to, to_stride);
                    continue;
                }
                let block = side_by_side(x, at, count, first + i, len - i);
                if whole {
                    S::transpose(block.as_flattened().as_ptr(), LANES, to, to_stride);
                    continue;
                }
                let mut turned: Square = [[0.0; LANES]; LANES];
                S::transpose(
                    block.as_flattened().as_ptr(),
                    LANES,
                    turned.as_flattened_mut().as_mut_ptr(),
                    LANES,
                );
                for (r, row) in turned[..count].iter().enumerate() {
                    *to.add(r * to_stride).cast() = *row;
                }
            }
        }
    }
}

/// Sixteen entries from `first` on of `count` rows that lie side by side, `[entry][row]`; zero from
/// the `len`-th entry on, and past the rows.
#[inline(always)]
fn side_by_side(x: &Floats<'_>, row: usize, count: usize, first: usize, len: usize) -> Square {
    let mut block = [[0.0; LANES]; LANES];
    for (i, block) in block[..LANES.min(len)].iter_mut().enumerate() {
        let entry = &x.data[row + (first + i) * x.depth_stride..];
        match entry.first_chunk::<LANES>() {
            // The common case apart, for its loop has a fixed length.
            Some(entry) if count == LANES => x.taken.of_all(entry, block),
            _ => x.taken.of_all(&entry[..count], &mut block[..count]),
        }
    }
    block
}

/// Packs a depth tile of a panel of `width` columns, of rows that lie side by side.
///
/// # Safety
/// Rows and the `len` entries from `first` on lie inside `x`, whose rows lie side by side, and `to`
/// has room for `len` rows of `width`.
#[inline(always)]
unsafe fn right_side_by_side(
    x: &Floats<'_>,
    rows: Range<usize>,
    first: usize,
    len: usize,
    width: usize,
    to: *mut f32,
) {
    let count = rows.len();
    for i in 0..len {
        // SAFETY: the caller vouches for the operand and the room; no address is wrong for a
        // prefetch.
        unsafe {
            let from = x.at(rows.start, first + i);
            prefetch(from.wrapping_add(AHEAD * x.depth_stride), count);
            let to = to.add(i * width);
            for at in (0..width).step_by(LANES) {
                let to = &mut *to.add(at).cast::<[f32; LANES]>();
                if at + LANES <= count {
                    x.taken.of_all(&*from.add(at).cast::<[f32; LANES]>(), to);
                } else {
                    let live = count.saturating_sub(at);
                    let from = std::slice::from_raw_parts(from.wrapping_add(at), live);
                    x.taken.of_all(from, &mut to[..live]);
                    to[live..].fill(0.0);
                }
            }
        }
    }
}

/// Asks for some numbers that are read soon.
#[inline(always)]
fn prefetch(from: *const f32, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for i in (0..count).step_by(LANES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction is part of x86-64, and no address is wrong for it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(i).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, count);
}
