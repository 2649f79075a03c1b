//! Packing into FP32 words, for every instruction set.

use std::marker::PhantomData;
use std::ops::Range;

use super::decode_words::{CODES, DecodeWords};
use super::left::LeftLayout;
use super::pack::Pack;
use super::source::{Floats, Source, Taken, code_at, write_values};
use crate::definition::{CODES_A_WORD, OperandView, TILE};
use crate::host::simd::{LANES, prefetch};

/// Sixteen rows of sixteen numbers.
type Square = [[f32; LANES]; LANES];

/// Depths that are asked for before they are packed, where each begins elsewhere.
const AHEAD: usize = 16;

/// FP32 words, in the registers of `S`: of codes what they stand for, or their values without the
/// scale.
pub(super) struct Words<S, const SCALED: bool = true>(PhantomData<S>);

impl<S: DecodeWords, const SCALED: bool> Pack for Words<S, SCALED> {
    const DEPTH: usize = 1;
    const SCALED: bool = SCALED;
    const TURNS: bool = true;

    #[inline(always)]
    fn is_turned(source: &Source<'_>) -> bool {
        matches!(source, Source::Floats(x) if x.row_stride == 1 && x.depth_stride != 1)
    }

    #[inline(always)]
    unsafe fn left_turned(
        source: &Source<'_>,
        parts: impl Iterator<Item = Range<usize>> + Clone,
        height: usize,
        depth: Range<usize>,
        words: *mut u32,
    ) {
        let Source::Floats(x) = source else {
            unreachable!("invariant: only numbers lie side by side");
        };
        let len = depth.len();
        // All rows of a few depths before the next: what lies side by side is read in turn.
        for first in (0..len).step_by(LANES) {
            for (index, part) in parts.clone().enumerate() {
                for i in first..len.min(first + LANES) {
                    // SAFETY: the caller vouches for the operand and for room of `height` words a
                    // step of each part.
                    unsafe {
                        let from = x.at(part.start, depth.start + i);
                        prefetch(
                            from.wrapping_add(AHEAD * x.depth_stride).cast(),
                            height * size_of::<f32>(),
                        );
                        let to = words.add((index * len + i) * height).cast::<f32>();
                        take_side_by_side::<S>(x, from, part.len(), height, to);
                    }
                }
            }
        }
    }

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
            for (r, row) in rows.clone().enumerate() {
                // SAFETY: the caller vouches for the operand, the room, of which this row's tile
                // takes its own part, and the instruction set; sixteen entries at a time are taken
                // where there are as many.
                unsafe {
                    let to = words.add(t * layout.tile + r * layout.row).cast::<f32>();
                    let whole = len / LANES * LANES;
                    let mut done = whole;
                    match source {
                        Source::Floats(x) if x.depth_stride == 1 && x.taken == Taken::Whole => {
                            std::ptr::copy_nonoverlapping(x.at(row, first), to, len);
                            done = len;
                        }
                        Source::Floats(x) if x.depth_stride == 1 => {
                            let from = x.at(row, first);
                            for i in (0..whole).step_by(LANES) {
                                S::take(x.taken, from.add(i), to.add(i));
                            }
                        }
                        Source::Codes(x) => {
                            let (codes, scale) =
                                (code_at(x, row, first), scale::<SCALED>(x, row, first));
                            for i in (0..whole).step_by(LANES) {
                                S::row(codes.add(i), x.format, scale, to.add(i));
                            }
                        }
                        Source::Floats(_) => done = 0,
                    }
                    for i in (done..len).step_by(LANES) {
                        let to = &mut *to.add(i).cast();
                        write_scaled::<SCALED>(source, row, first + i, len - i, to);
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
                    right_side_by_side::<S>(x, rows.clone(), first, len, width, to);
                    continue;
                }
                for v in 0..vectors {
                    let start = rows.start + v * LANES;
                    let count = rows.end.saturating_sub(start).min(LANES);
                    let mut done = 0;
                    if let Source::Codes(x) = source
                        && count == LANES
                    {
                        done = len / CODES * CODES;
                        let mut scales = [0.0; LANES];
                        for (r, to) in scales.iter_mut().enumerate() {
                            *to = scale::<SCALED>(x, start + r, first);
                        }
                        for i in (0..done).step_by(CODES) {
                            let to = to.add(i * width + v * LANES);
                            let row_bytes = x.row_words * CODES_A_WORD;
                            let codes = code_at(x, start, first + i);
                            S::columns(codes, row_bytes, x.format, &scales, to, width);
                        }
                    }
                    for i in (done..len).step_by(LANES) {
                        let to = to.add(i * width + v * LANES);
                        square::<S, SCALED>(source, start, count, first + i, len - i, to, width);
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

/// What the codes of a row's tile are multiplied by.
#[inline(always)]
fn scale<const SCALED: bool>(x: &OperandView<'_>, row: usize, entry: usize) -> f32 {
    if SCALED { x.scale(row, entry / TILE) } else { 1.0 }
}

/// [`write_values`], of codes times their scale.
#[inline(always)]
fn write_scaled<const SCALED: bool>(
    source: &Source<'_>,
    row: usize,
    first: usize,
    len: usize,
    to: &mut [f32; LANES],
) {
    write_values(source, row, first, len, to);
    if let Source::Codes(x) = source
        && SCALED
    {
        // What is past the end nobody reads.
        let scale = scale::<SCALED>(x, row, first);
        to.iter_mut().for_each(|to| *to *= scale);
    }
}

/// Takes the numbers of `count` rows that lie side by side, from `from` in `x` on, and anything as
/// far as `height`.
///
/// # Safety
/// These numbers lie inside `x`, `to` has room for `height`, which is at most [`LANES`], and the
/// instruction set of `S` is there.
#[inline(always)]
unsafe fn take_side_by_side<S: DecodeWords>(
    x: &Floats<'_>,
    from: *const f32,
    count: usize,
    height: usize,
    to: *mut f32,
) {
    // SAFETY: the caller vouches for `count` numbers and the room; more are read only where they
    // lie inside `x`.
    unsafe {
        let left = x.data.as_ptr_range().end.offset_from_unsigned(from);
        if x.taken == Taken::Whole {
            // Of one length, where there are as many: the copy is a few instructions.
            if left >= height {
                std::ptr::copy_nonoverlapping(from, to, height);
            } else {
                std::ptr::copy_nonoverlapping(from, to, count);
            }
            return;
        }
        let mut numbers = [0.0; LANES];
        if left >= LANES {
            S::take(x.taken, from, numbers.as_mut_ptr());
        } else {
            x.taken.of_all(std::slice::from_raw_parts(from, count), &mut numbers[..count]);
        }
        std::ptr::copy_nonoverlapping(numbers.as_ptr(), to, height);
    }
}

/// Writes `count` rows of sixteen entries (or `len`) as columns; zero past both.
///
/// # Safety
/// Rows and entries lie inside `source`, `to` has room for sixteen rows of sixteen numbers, and the
/// instruction set of `S` is there.
#[inline(always)]
unsafe fn square<S: DecodeWords, const SCALED: bool>(
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
            match source {
                Source::Floats(x) if x.depth_stride == 1 && len >= LANES => {
                    S::take(x.taken, x.at(row + r, first), block.as_mut_ptr());
                }
                _ => write_scaled::<SCALED>(source, row + r, first, len, block),
            }
        }
        S::transpose(block.as_flattened().as_ptr(), LANES, to, to_stride);
    }
}

/// Packs a depth tile of a panel of `width` columns, of rows that lie side by side.
///
/// # Safety
/// Rows and the `len` entries from `first` on lie inside `x`, whose rows lie side by side, `to` has
/// room for `len` rows of `width`, and the instruction set of `S` is there.
#[inline(always)]
unsafe fn right_side_by_side<S: DecodeWords>(
    x: &Floats<'_>,
    rows: Range<usize>,
    first: usize,
    len: usize,
    width: usize,
    to: *mut f32,
) {
    let count = rows.len();
    // What is taken is asked once where panels are whole: a line is soon packed.
    let whole = (count == width).then_some(x.taken);
    for i in 0..len {
        // SAFETY: the caller vouches for the operand and the room.
        unsafe {
            let from = x.at(rows.start, first + i);
            prefetch(from.wrapping_add(AHEAD * x.depth_stride).cast(), count * size_of::<f32>());
            let to = to.add(i * width);
            if whole == Some(Taken::Whole) {
                std::ptr::copy_nonoverlapping(from, to, width);
                continue;
            }
            for at in (0..width).step_by(LANES) {
                let to = to.add(at);
                if whole == Some(Taken::High) {
                    S::round(from.add(at), to);
                } else if at + LANES <= count {
                    S::take(x.taken, from.add(at), to);
                } else {
                    let to = &mut *to.cast::<[f32; LANES]>();
                    let live = count.saturating_sub(at);
                    let from = std::slice::from_raw_parts(from.wrapping_add(at), live);
                    x.taken.of_all(from, &mut to[..live]);
                    to[live..].fill(0.0);
                }
            }
        }
    }
}
