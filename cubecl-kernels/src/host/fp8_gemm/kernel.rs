//! What a block of a result asks of a microkernel: how its operands are packed, and one call for a
//! tile. `vectors` is the tile in registers, `tiled` that of a tile unit.

use std::ops::Range;

use super::right::PanelForm;
use super::source::Source;

/// Not scaled: BF16 operands.
pub(super) const UNSCALED: usize = 0;
/// A scale for each row's tile on the left, for each block on the right.
pub(super) const BLOCK_SCALED: usize = 1;
/// A scale for each row's tile on both sides.
pub(super) const ROW_SCALED: usize = 2;

/// A microkernel. Its functions may only run where its instruction set has been found.
pub(super) trait Kernel {
    /// How the right operand is packed.
    const PANEL: PanelForm;
    /// Rows of a tile at most.
    const ROWS: usize;
    /// Whether all of a tile is computed, and written, where rows or columns are fewer.
    const WHOLE: bool;
    /// Rows of the left operand that are packed at a time, at most.
    const STRIP: usize;
    /// Depth tiles that all rows of a task go over before those behind: whole chunks.
    const REACH: usize;
    /// Words of memory that it needs beside the operands.
    const MEMORY: usize;

    /// Begins a task. Until it is dropped nothing may be called that waits for the pool.
    ///
    /// # Safety
    /// `memory` has room for [`Kernel::MEMORY`] words from the start of a cache line on while this
    /// lives, and the instruction set is there.
    unsafe fn begin(memory: *mut u32) -> Self;

    /// Packs rows as a left operand, [`TILE`] entries of the depth after another, of which those
    /// are written that a tile reads: zero past the end of the depth, and past that of the rows
    /// where a tile is always [whole](Kernel::WHOLE).
    ///
    /// [`TILE`]: crate::definition::TILE
    ///
    /// # Safety
    /// `words` has room for it, rows and depth lie inside `source`, depth starts at a tile, and the
    /// instruction set is there.
    unsafe fn pack_left(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        words: *mut u32,
    );

    /// Packs rows as a panel of a right operand: `[tile][TILE / entries a word][row]` words, zero
    /// past the end of the rows, and past that of the depth as far as a tile reads.
    ///
    /// # Safety
    /// `words` has room for it, rows and depth lie inside `source`, depth starts at a tile, and the
    /// instruction set is there.
    unsafe fn pack_right(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        words: *mut u32,
    );

    /// Computes a tile: `out (+)= sum over depth tiles of scales * (left right^T)`.
    ///
    /// Sums of one depth tile stay apart from the total until they are scaled (3.3.2); unscaled,
    /// there is one sum.
    ///
    /// # Safety
    /// Every pointer of `call` is good for what the tile needs, until [`Kernel::finish`] returns;
    /// the instruction set is there.
    unsafe fn tile<const SCALES: usize>(&mut self, rows: usize, call: &TileCall);

    /// Does what earlier tiles still owe: after it their results are written, and their operands
    /// may change.
    ///
    /// # Safety
    /// The pointers of these tiles' calls are still good; the instruction set is there.
    unsafe fn finish(&mut self);
}

/// Where the operands and the result of one tile are.
#[derive(Clone, Copy)]
pub(super) struct TileCall {
    /// First row's words of the first depth tile.
    pub(super) left: *const u32,
    /// Words from one depth tile to the next.
    pub(super) left_stride: usize,
    /// First row's scale in the first depth tile.
    pub(super) left_scales: *const f32,
    /// Scales from one depth tile to the next.
    pub(super) left_scale_stride: usize,
    /// The panel.
    pub(super) right: *const u32,
    /// The panel's scales of each depth tile ([`PanelForm`]).
    pub(super) right_scales: *const f32,
    /// Entries to sum over.
    pub(super) depth: usize,
    /// The tile's first element.
    pub(super) out: *mut f32,
    /// Elements from one row to the next.
    pub(super) out_stride: usize,
    /// Whether to add to what is there.
    pub(super) add: bool,
}
