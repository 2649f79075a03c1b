//! The microkernel of a tile unit: blocks of 32 rows and columns, each promoted while the next is
//! multiplied.
//!
//! Vectors were measured to work beside tiles only within one piece of code, and to hide there
//! completely. So a block's promotion is owed until the next block runs.

use std::marker::PhantomData;

use super::kernel::{Kernel, TileCall, UNSCALED};
use super::left::LeftLayout;
use super::pack::Pack;
use super::right::PanelForm;
use super::tile_unit::{BLOCK, Block, Promotion, STEP, STEP_WORDS, Segment, Sums, Tiles};
use crate::definition::TILE;
use crate::host::simd::LANES;

/// Depth tiles of which 32 rows are packed: 32 KiB, which are read again for every 32 columns.
const CHUNK: usize = 4;
/// Depth tiles that a task goes over before those behind.
const REACH: usize = 2 * CHUNK;
/// Bytes of the right operand's pairs within [`REACH`] that a task goes over again for each of its
/// strips: half of a second cache of 2 MiB.
const RIGHT_BYTES: usize = 1 << 20;
/// Columns of a task at most.
const MAX_COLUMNS: usize = 1024;

/// Columns of a task's result at most, by the depth of the product.
pub(super) fn columns_a_task(depth: usize) -> usize {
    let reach = depth.clamp(1, REACH * TILE);
    (RIGHT_BYTES / 2 / reach / BLOCK * BLOCK).min(MAX_COLUMNS)
}

/// What is added to where nothing is there yet.
static ZERO: [f32; BLOCK] = [0.0; BLOCK];
/// The scales of what has none.
static ONE: [f32; BLOCK] = [1.0; BLOCK];

/// The microkernel of the tile unit `T`, which packs by `P`.
pub(super) struct Tiled<T, P> {
    unit: T,
    /// The sums of this block, and of the one before.
    sums: [*mut Sums; 2],
    /// The total of a tile's earlier depth tiles.
    total: *mut Sums,
    /// The promotion that is owed, and the one before or nothing. They stay where they were written:
    /// a copy would be read while what is promoted still waits to be stored, and wait for it.
    promotions: [Promotion; 2],
    /// Where the one that is owed is, if one is.
    owed: Option<usize>,
    pairs: PhantomData<P>,
}

impl<T: Tiles, P: Pack> Kernel for Tiled<T, P> {
    type Pack = P;
    const PANEL: PanelForm =
        PanelForm { width: BLOCK, depth_a_word: 2, chunk: CHUNK, spread: true, scaled: P::SCALED };
    const LEFT: LeftLayout = LeftLayout::BLOCKS;
    const LEFT_ROW: usize = CHUNK * TILE / 2;
    const ROWS: usize = BLOCK;
    const WHOLE: bool = true;
    const COLUMNS: usize = BLOCK;
    const STRIP: usize = BLOCK;
    const REACH: usize = REACH;
    const MEMORY: usize = 3 * size_of::<Sums>() / size_of::<u32>();
    const ASKS: bool = false;
    const SEGMENTS: bool = true;

    #[inline(always)]
    unsafe fn begin(memory: *mut u32) -> Self {
        let memory = memory.cast::<Sums>();
        // SAFETY: the caller vouches for room of three.
        let [first, second, total] = [0, 1, 2].map(|i| unsafe { memory.add(i) });
        Self {
            unit: T::new(),
            sums: [first, second],
            total,
            promotions: [Promotion::NONE; 2],
            owed: None,
            pairs: PhantomData,
        }
    }

    #[inline(always)]
    unsafe fn tile<const SCALES: usize>(&mut self, _: usize, _: usize, call: &TileCall) {
        // What is summed before it is scaled and added. Unscaled sums stay in the tiles for a whole
        // chunk, whose depth tiles lie one after another in both operands.
        let part = if SCALES == UNSCALED { call.depth } else { TILE };
        let pitch = call.out_stride * size_of::<f32>();
        let total = (self.total.cast::<f32>(), BLOCK * size_of::<f32>());
        for first in (0..call.depth).step_by(part) {
            let t = first / TILE;
            // SAFETY: the caller vouches for the operands and the result, `begin`'s for the sums.
            unsafe {
                let block = Block {
                    left: call.left.add(t * call.left_stride),
                    right: call.right.add(t * (TILE / 2) * BLOCK),
                    steps: part.min(call.depth - first).div_ceil(STEP),
                    next: if SCALES == UNSCALED { call.more } else { Segment::NONE },
                    sums: self.sums[0],
                };
                self.sums.swap(0, 1);
                let (row_scales, column_scales) = if SCALES == UNSCALED {
                    (&raw const ONE, &raw const ONE)
                } else {
                    (
                        call.left_scales.add(t * call.left_scale_stride).cast(),
                        call.right_scales.add(t * BLOCK).cast(),
                    )
                };
                let (from, from_pitch) = if first > 0 {
                    (total.0.cast_const(), total.1)
                } else if call.add {
                    (call.out.cast_const(), pitch)
                } else {
                    (ZERO.as_ptr(), 0)
                };
                let last = first + part >= call.depth;
                let (to, to_pitch) = if last { (call.out, pitch) } else { total };
                let next = self.owed.map_or(0, |owed| 1 - owed);
                self.promotions[next] = Promotion {
                    sums: block.sums,
                    row_scales,
                    column_scales,
                    from,
                    from_pitch,
                    to,
                    to_pitch,
                };
                let owed = self.owed.replace(next).map(|owed| &self.promotions[owed]);
                self.unit.run(Some(&block), owed);
            }
        }
    }

    #[inline(always)]
    unsafe fn finish(&mut self) {
        if let Some(owed) = self.owed.take() {
            // SAFETY: the caller vouches for what earlier tiles read and write.
            unsafe { self.unit.run(None, Some(&self.promotions[owed])) };
        }
    }
}

const _: () = assert!(STEP_WORDS == LANES && STEP == 2 * LANES);
