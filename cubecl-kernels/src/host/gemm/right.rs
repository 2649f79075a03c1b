//! The right operand, packed: panels of columns, chunks of depth, and where both lie.

use std::ops::Range;

use super::kernel::{BLOCK_SCALED, Kernel, ROW_SCALED, UNSCALED};
use super::pack::{self, Pack};
use super::scratch::Scratch;
use super::source::Source;
use crate::definition::{TILE, tiles};
use crate::host::simd::LANES;

/// How a microkernel wants its right operand.
#[derive(Clone, Copy)]
pub(super) struct PanelForm {
    /// Columns of a panel.
    pub(super) width: usize,
    /// Entries in a word.
    pub(super) depth_a_word: usize,
    /// Tiles of depth packed at a time.
    pub(super) chunk: usize,
    /// Whether the scale of a block is repeated for each column.
    pub(super) spread: bool,
    /// Whether words of codes are scaled already.
    pub(super) scaled: bool,
}

/// The sizes of a packed right operand.
#[derive(Clone, Copy)]
pub(super) struct RightLayout {
    /// Columns of a panel.
    pub(super) width: usize,
    /// Words of one depth tile of a panel.
    pub(super) tile_words: usize,
    /// Scales of one depth tile of a panel.
    pub(super) tile_scales: usize,
}

impl RightLayout {
    /// The layout of panels of this form.
    #[inline(always)]
    pub(super) fn new(form: PanelForm, source: &Source<'_>) -> Self {
        let width = form.width;
        let tile_scales = match scaling(form, source) {
            UNSCALED => 0,
            BLOCK_SCALED if !form.spread => 1,
            _ => width,
        };
        Self { width, tile_words: TILE / form.depth_a_word * width, tile_scales }
    }

    /// Room for so many times `panels` of `depth_tiles` in a memory of its own.
    pub(super) fn places(
        self,
        memory: &mut Scratch,
        panels: usize,
        depth_tiles: usize,
        times: usize,
    ) -> impl Iterator<Item = Right> {
        let count = panels * depth_tiles;
        let (word_count, scale_count) = (count * self.tile_words, count * self.tile_scales);
        let [words, scales] = memory.reserve([times * word_count, times * scale_count]);
        let scales = scales.cast::<f32>();
        (0..times).map(move |i| Right {
            words: words.wrapping_add(i * word_count),
            scales: scales.wrapping_add(i * scale_count),
            panels,
        })
    }
}

/// A packed right operand: `[chunk of depth][panel][tile]` words and scales.
#[derive(Clone, Copy)]
pub(super) struct Right {
    pub(super) words: *mut u32,
    pub(super) scales: *mut f32,
    pub(super) panels: usize,
}

// SAFETY: tasks that pack write panels of their own, and none reads before all have been packed.
unsafe impl Send for Right {}
// SAFETY: as for `Send`: tasks that pack write panels of their own, and what all have packed is
// only read.
unsafe impl Sync for Right {}

impl Right {
    /// Words and scales of a panel in the chunk of `chunk_tiles` that starts at depth tile
    /// `first_tile`, whole chunks before it.
    ///
    /// # Safety
    /// They lie inside the memory that was reserved for them.
    #[inline(always)]
    pub(super) unsafe fn panel(
        &self,
        layout: RightLayout,
        first_tile: usize,
        chunk_tiles: usize,
        panel: usize,
    ) -> (*mut u32, *mut f32) {
        let tile = first_tile * self.panels + panel * chunk_tiles;
        // SAFETY: the caller vouches that the panel lies inside the memory reserved for it.
        unsafe {
            (self.words.add(tile * layout.tile_words), self.scales.add(tile * layout.tile_scales))
        }
    }
}

/// Which scales a packed right operand has, as the microkernel's parameter.
#[inline(always)]
pub(super) fn scaling(form: PanelForm, right: &Source<'_>) -> usize {
    match right {
        Source::Floats(_) => UNSCALED,
        Source::Codes(_) if form.scaled => UNSCALED,
        Source::Codes(x) if x.scale_rows == TILE => BLOCK_SCALED,
        Source::Codes(_) => ROW_SCALED,
    }
}

/// Runs of so many depth tiles.
#[inline(always)]
pub(super) fn chunks(depth: Range<usize>, tiles: usize) -> impl Iterator<Item = Range<usize>> {
    let (end, len) = (depth.end, tiles * TILE);
    depth.step_by(len).map(move |start| start..end.min(start + len))
}

/// Packs one panel of one chunk of depth, which is stored as that of depth tile `first_tile`.
///
/// # Safety
/// The instruction set of `K` is there, and `place` has room for the panel.
#[inline(always)]
pub(super) unsafe fn pack_panel<K: Kernel>(
    right: &Source<'_>,
    place: Right,
    panel: usize,
    columns: Range<usize>,
    depth: Range<usize>,
    first_tile: usize,
) {
    let layout = RightLayout::new(K::PANEL, right);
    let depth_tiles = tiles(depth.len());
    // SAFETY: the caller vouches for the instruction set and for the panel's room, which has as
    // many words and scales a tile as `layout` says.
    unsafe {
        let (words, scales) = place.panel(layout, first_tile, depth_tiles, panel);
        let vectors = K::PANEL.width / LANES;
        K::Pack::right(right, columns.clone(), vectors, depth.clone(), words);
        if let Source::Codes(x) = right
            && layout.tile_scales > 0
        {
            let first = depth.start / TILE;
            pack::scales(x, columns, first..first + depth_tiles, layout.tile_scales, scales);
        }
    }
}
