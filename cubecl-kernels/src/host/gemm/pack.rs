//! What packing is asked for: operands in the order in which a microkernel reads them, and their
//! scales.

use std::ops::Range;

use super::left::LeftLayout;
use super::source::Source;
use crate::definition::{OperandView, TILE};

/// How operands become words of 32 bits. Its functions may only run where its instruction set has
/// been found.
pub(super) trait Pack {
    /// Entries along the depth in a word.
    const DEPTH: usize;

    /// Whether words of codes are what these stand for: without it they are values whose scales are
    /// packed beside them.
    const SCALED: bool = false;

    /// Whether any left operand is packed by [`Pack::left_turned`].
    const TURNS: bool = false;

    /// Whether this left operand is packed by [`Pack::left_turned`], for a tile whose rows lie side
    /// by side.
    #[inline(always)]
    fn is_turned(_: &Source<'_>) -> bool {
        false
    }

    /// Packs rows as a left operand, in parts one after another, each as `[depth][height]` words of
    /// which the first are those of its rows.
    ///
    /// # Safety
    /// No part has more than `height` rows, parts and depth lie inside `source`, of which
    /// [`Pack::is_turned`] says that it is, `words` has room, and the instruction set is there.
    #[inline(always)]
    unsafe fn left_turned(
        _source: &Source<'_>,
        _parts: impl Iterator<Item = Range<usize>> + Clone,
        _height: usize,
        _depth: Range<usize>,
        _words: *mut u32,
    ) {
        unreachable!("invariant: such packing has no turned operand")
    }

    /// Packs rows as a left operand: of each depth tile the words that hold a part of the depth,
    /// and zero past its end as far as a tile reads.
    ///
    /// # Safety
    /// `words` has room for the rows in this layout, rows and depth lie inside `source`, depth
    /// starts at a tile, and the instruction set is there.
    unsafe fn left(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        layout: LeftLayout,
        words: *mut u32,
    );

    /// Packs up to `LANES * vectors` rows as a panel of a right operand:
    /// `[tile][TILE / DEPTH][row]` words, zero past the end of the rows, and past that of the depth
    /// as [`Pack::left`].
    ///
    /// # Safety
    /// `words` has room for the panel, rows and depth lie inside `source`, depth starts at a tile,
    /// and the instruction set is there.
    unsafe fn right(
        source: &Source<'_>,
        rows: Range<usize>,
        vectors: usize,
        depth: Range<usize>,
        words: *mut u32,
    );

    /// Where an operand whose rows lie side by side can be read without being packed, from row `row`
    /// and entry `entry` on, and the words from one step of the depth to the next; none where it
    /// cannot.
    #[inline(always)]
    fn in_place(_: &Source<'_>, _row: usize, _entry: usize) -> Option<(*mut u32, usize)> {
        None
    }
}

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
    for (t, tile) in tiles.enumerate() {
        // SAFETY: the caller vouches for room of `[tile][width]`.
        let to = unsafe { std::slice::from_raw_parts_mut(scales.add(t * width), width) };
        // Rows of one block may share one place.
        let rows = rows.start..rows.end.min(rows.start + width);
        let (to, past) = to.split_at_mut(rows.len());
        // A division a row would cost as much as packing its codes.
        if x.scale_rows == 1 {
            let first = rows.start * x.scale_row_stride + tile * x.scale_tile_stride;
            for (r, to) in to.iter_mut().enumerate() {
                *to = x.scales[first + r * x.scale_row_stride];
            }
        } else {
            let mut row = rows.start;
            while row < rows.end {
                let end = rows.end.min((row / TILE + 1) * TILE);
                to[row - rows.start..end - rows.start].fill(x.scale(row, tile));
                row = end;
            }
        }
        past.fill(0.0);
    }
}
