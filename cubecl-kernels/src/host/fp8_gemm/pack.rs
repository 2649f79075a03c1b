//! What packing is asked for: operands in the order in which a microkernel reads them, and their
//! scales.

use std::ops::Range;

use super::left::LeftLayout;
use super::source::Source;
use crate::definition::OperandView;

/// How operands become words of 32 bits. Its functions may only run where its instruction set has
/// been found.
pub(super) trait Pack {
    /// Entries along the depth in a word.
    const DEPTH: usize;

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

    /// Where a panel of a right operand from row `row` and entry `entry` on can be read without
    /// being packed, and the words from one step of the depth to the next; none where it cannot.
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
    for r in 0..width {
        for (t, tile) in tiles.clone().enumerate() {
            let scale = if r < rows.len() { x.scale(rows.start + r, tile) } else { 0.0 };
            // SAFETY: the caller vouches for room of `[tile][width]`.
            unsafe { *scales.add(t * width + r) = scale };
        }
    }
}
