//! One block of a result that is a sum of several products: of parts of the same operands.
//!
//! Each part is packed once a depth tile, small enough that the parts of both operands stay in the
//! first cache while the products that they take part in are added up.

use std::ops::Range;

use super::ahead::Ahead;
use super::block::{LeftParts, clear_block, clear_rows, panel_columns, panel_tiles};
use super::kernel::{Kernel, TileCall, UNSCALED};
use super::output::{Output, Place};
use super::pack::Pack;
use super::packed::Panels;
use super::plan::Task;
use super::right::{Right, RightLayout, chunks, pack_panel};
use super::scratch::Scratch;
use super::source::{Group, Taken};
use super::tile_unit::Segment;
use crate::definition::{TILE, tiles};
use crate::host::simd::LANES;

/// What may be taken of a number, in the order in which parts lie.
const PARTS: [Taken; 3] = [Taken::High, Taken::Middle, Taken::Low];

/// Depth of a piece.
const PIECE: usize = TILE / 2;
/// Depth that lies together in the left operand.
const STEP: usize = 2 * LANES;
/// Products that are added up.
const MAX_TERMS: usize = 6;

/// Where a part lies among [`PARTS`].
fn place_of(taken: Taken) -> usize {
    let place = PARTS.iter().position(|&part| part == taken);
    place.expect("invariant: terms are of parts")
}

/// Computes one block of a group's result, the sum of `terms` depth tile by depth tile: what is
/// taken of the left and of the right operand in each.
///
/// # Safety
/// The instruction set of `K`, which computes on pairs, is there; `shared` right operands are packed
/// in full.
#[inline(always)]
pub(super) unsafe fn multiply_terms<K: Kernel>(
    group: &Group<'_>,
    task: &Task,
    out: &Output<'_>,
    shared: Option<&Panels>,
    terms: &[[Taken; 2]],
    memory: &mut Scratch,
) {
    let Place::F32 { start, add } = out.place else {
        unreachable!("invariant: sums of several products are FP32");
    };
    let Task { rows, columns, .. } = task;
    let width = K::PANEL.width;
    let layout = RightLayout::new(K::PANEL, &group.right);
    let (panels, depth) = (columns.len().div_ceil(width), group.left.depth());
    let height = if K::WHOLE { K::ROWS } else { rows.len() };
    // Of one depth tile alone: parts that lie far from each other would fall on the same sets.
    let left_words = if K::WHOLE { K::LEFT.tile } else { height * K::LEFT_ROW };
    let own_words = if shared.is_some() { 0 } else { panels * layout.tile_words };
    let [left, own, edge, own_memory] = memory.reserve([
        PARTS.len() * left_words,
        PARTS.len() * own_words,
        K::ROWS * width,
        K::MEMORY,
    ]);
    let edge: *mut f32 = edge.cast();
    let first_panel = columns.start / width;
    // SAFETY: all addresses lie in the memory just reserved, in packed operands, or in this task's
    // block of the result. Tiles are finished before what they read changes.
    unsafe {
        let target = start.add(group.start + rows.start * out.row_stride + columns.start);
        if depth == 0 && !add {
            clear_block(target, out.row_stride, rows.len(), columns.len());
        }
        edge.write_bytes(0, K::ROWS * width);
        let mut kernel = K::begin(own_memory);
        for (tile, part) in chunks(0..depth, 1).enumerate() {
            let right = |panel: usize, taken: Taken| match shared {
                Some(shared) => {
                    let panel = first_panel + panel;
                    shared_tile::<K>(shared.taking(taken), layout, depth, tile, panel)
                }
                None => own.add(place_of(taken) * own_words + panel * layout.tile_words),
            };
            let columns_of = |panel: usize| panel_columns(columns, panel, width);
            if shared.is_none() {
                for (panel, taken) in (0..panels).flat_map(|panel| PARTS.map(|part| (panel, part)))
                {
                    let place = Right { words: right(panel, taken), scales: edge, panels: 1 };
                    let source = group.right.taking(taken);
                    pack_panel::<K>(&source, place, 0, columns_of(panel), part.clone(), 0);
                }
            }
            for first in (rows.start..rows.end).step_by(height.max(1)) {
                let strip = first..rows.end.min(first + height);
                for (i, &taken) in PARTS.iter().enumerate() {
                    let words = left.add(i * left_words);
                    let source = group.left.taking(taken);
                    K::Pack::left(&source, strip.clone(), part.clone(), K::LEFT, words);
                    if K::WHOLE && strip.len() < height {
                        clear_rows(words, strip.len()..height, part.len(), K::LEFT);
                    }
                }
                let above = (strip.start - rows.start) * out.row_stride;
                for (piece, panel) in pieces(part.len())
                    .flat_map(|piece| (0..panels).map(move |panel| (piece.clone(), panel)))
                {
                    let segments = terms.iter().map(|&[of_left, of_right]| Segment {
                        left: left.add(
                            place_of(of_left) * left_words + piece.start / STEP * K::LEFT.step,
                        ),
                        right: right(panel, of_right).add(piece.start / K::Pack::DEPTH * width),
                        steps: piece.len().div_ceil(STEP),
                    });
                    let mut list = [Segment::END; MAX_TERMS + 1];
                    list.iter_mut().zip(segments).for_each(|(to, segment)| *to = segment);
                    // All in one where the unit can, else one after the other.
                    let calls = if K::SEGMENTS { 1 } else { terms.len() };
                    for (term, first) in list[..calls].iter().enumerate() {
                        let call = TileCall {
                            left: first.left,
                            left_stride: K::LEFT.tile,
                            left_step: 0,
                            left_scales: edge,
                            left_scale_stride: 0,
                            right: first.right,
                            right_step: width,
                            right_width: width,
                            right_scales: edge,
                            depth: piece.len(),
                            more: if K::SEGMENTS { &list[1] } else { Segment::NONE },
                            factor: out.factor,
                            out: target.add(above + panel * width),
                            out_stride: out.row_stride,
                            add: add || tile > 0 || piece.start > 0 || term > 0,
                        };
                        let parts = LeftParts { by_row: K::LEFT.row, by_part: 0 };
                        let size = (strip.len(), columns_of(panel).len());
                        let ahead = &mut [Ahead::NONE, Ahead::NONE];
                        panel_tiles::<K, UNSCALED>(
                            &mut kernel,
                            &call,
                            parts,
                            size,
                            Some(edge),
                            ahead,
                        );
                    }
                }
                kernel.finish();
            }
        }
    }
}

/// The depth of a tile in pieces, of which all parts of a block of both operands stay in the first
/// cache: 24 KiB.
#[inline(always)]
fn pieces(depth: usize) -> impl Iterator<Item = Range<usize>> {
    (0..depth).step_by(PIECE).map(move |first| first..depth.min(first + PIECE))
}

/// The words of depth tile `tile` in a panel of an operand that is packed in chunks.
///
/// # Safety
/// The panel lies inside the operand.
#[inline(always)]
unsafe fn shared_tile<K: Kernel>(
    right: Right,
    layout: RightLayout,
    depth: usize,
    tile: usize,
    panel: usize,
) -> *mut u32 {
    let chunk = K::PANEL.chunk;
    let first = tile / chunk * chunk;
    let count = chunk.min(tiles(depth) - first);
    // SAFETY: the caller vouches for the panel, whose tiles follow each other.
    unsafe { right.panel(layout, first, count, panel).0.add((tile - first) * layout.tile_words) }
}
