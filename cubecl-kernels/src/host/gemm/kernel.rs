//! What a block of a result asks of a microkernel: how its operands are packed, and one call for a
//! tile. `vectors` is the tile in registers, `tiled` that of a tile unit.

use super::left::LeftLayout;
use super::pack::Pack;
use super::right::PanelForm;
use super::tile_unit::Segment;

/// Not scaled: operands that are numbers.
pub(super) const UNSCALED: usize = 0;
/// A scale for each row's tile on the left, for each block on the right.
pub(super) const BLOCK_SCALED: usize = 1;
/// A scale for each row's tile on both sides.
pub(super) const ROW_SCALED: usize = 2;

/// Not scaled, and the rows of the left operand lie side by side: [`TileCall::left_step`].
pub(super) const TURNED: usize = 3;

/// A microkernel. Its functions may only run where its instruction set has been found.
pub(super) trait Kernel {
    /// How its operands are packed.
    type Pack: Pack;
    /// How the right operand lies.
    const PANEL: PanelForm;
    /// Rows of a tile at most.
    const ROWS: usize;
    /// Whether all of a tile is computed, and written, where rows or columns are fewer.
    const WHOLE: bool;
    /// Columns of which a tile that is not whole has some number of times as many.
    const COLUMNS: usize;
    /// Rows of the left operand that are packed at a time, at most.
    const STRIP: usize;
    /// Depth tiles that all rows of a task go over before those behind: whole chunks.
    const REACH: usize;
    /// Words of memory that it needs beside the operands.
    const MEMORY: usize;
    /// Whether what is packed next is asked for while tiles are computed: a tile has to take long
    /// beside what is asked for before it.
    const ASKS: bool;
    /// Whether unscaled tiles go on over [`TileCall::more`].
    const SEGMENTS: bool;

    /// How the left operand lies.
    const LEFT: LeftLayout;
    /// Words of a chunk of one of its rows.
    const LEFT_ROW: usize;

    /// Begins a task. Until it is dropped nothing may be called that waits for the pool.
    ///
    /// # Safety
    /// `memory` has room for [`Kernel::MEMORY`] words from the start of a cache line on while this
    /// lives, and the instruction set is there.
    unsafe fn begin(memory: *mut u32) -> Self;

    /// Computes a tile: `out (+)= sum over depth tiles of scales * (left right^T)`.
    ///
    /// Sums of one depth tile stay apart from the total until they are scaled (3.3.2); unscaled,
    /// those of all of `call` do.
    ///
    /// # Safety
    /// Every pointer of `call` is good for what the tile needs, until [`Kernel::finish`] returns;
    /// the instruction set is there.
    unsafe fn tile<const SCALES: usize>(&mut self, rows: usize, columns: usize, call: &TileCall);

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
    /// Words from one step of the depth to the next, where rows lie side by side.
    pub(super) left_step: usize,
    /// First row's scale in the first depth tile.
    pub(super) left_scales: *const f32,
    /// Scales from one depth tile to the next.
    pub(super) left_scale_stride: usize,
    /// The panel.
    pub(super) right: *const u32,
    /// Words from one step of the depth to the next; of a tile unit those of the panel.
    pub(super) right_step: usize,
    /// Columns of the panel.
    pub(super) right_width: usize,
    /// The panel's scales of each depth tile ([`PanelForm`]).
    pub(super) right_scales: *const f32,
    /// Entries to sum over.
    pub(super) depth: usize,
    /// What else a tile unit sums over.
    pub(super) more: *const Segment,
    /// What unscaled sums are multiplied by; one for a tile unit.
    pub(super) factor: f32,
    /// The tile's first element.
    pub(super) out: *mut f32,
    /// Elements from one row to the next.
    pub(super) out_stride: usize,
    /// Whether to add to what is there.
    pub(super) add: bool,
}
