//! One block of a result: its rows packed chunk by chunk, the microkernel over it, edges and BF16
//! on the way out.

use std::ops::Range;

use super::ahead::Ahead;
use super::kernel::{Kernel, TURNED, TileCall, UNSCALED};
use super::left::LeftLayout;
use super::output::{Output, Place};
use super::pack::{self, Pack};
use super::plan::{Task, even};
use super::right::{Right, RightLayout, chunks, pack_panel};
use super::scratch::Scratch;
use super::source::{Group, Source};
use super::tile_unit::Segment;
use crate::definition::{TILE, tiles};
use crate::host::simd::LANES;

/// Tiles of rows up to which a right operand that can be read where it lies is not packed.
const FEW_TILES: usize = 4;

/// Columns up to which a left operand whose rows lie side by side is read where it lies: it is read
/// once a panel, and its lines may fall on few sets of a cache.
const FEW_COLUMNS: usize = 64;

/// Computes one block of a group's result.
///
/// # Safety
/// The instruction set of `K` is there; a `shared` right operand is packed in full.
#[inline(always)]
pub(super) unsafe fn multiply<K: Kernel, const SCALES: usize>(
    group: &Group<'_>,
    task: &Task,
    out: &Output<'_>,
    shared: Option<Right>,
    memory: &mut Scratch,
) {
    let Task { rows, columns, .. } = task;
    let (left, right) = (&group.left, &group.right);
    let width = K::PANEL.width;
    let layout = RightLayout::new(K::PANEL, right);
    let (panels, depth) = (columns.len().div_ceil(width), left.depth());
    // What lies side by side is read in turn, all rows of it.
    let strip_rows = if SCALES == TURNED { usize::MAX } else { K::STRIP };
    // Rows of the packed left operand, and of results that are summed beside their place.
    let height = if K::WHOLE { K::ROWS } else { rows.len().min(strip_rows) };
    let padded_rows = if K::WHOLE { rows.len().next_multiple_of(K::ROWS) } else { rows.len() };
    // A block whose result is not FP32 is summed beside it.
    let (beside, add) = match out.place {
        Place::F32 { add, .. } => (0, add),
        Place::Bf16 { .. } => (padded_rows * panels * width, false),
    };
    // For few rows packing would cost more than it saves.
    let few = shared.is_none() && rows.len() <= FEW_TILES * K::ROWS;
    let own = if shared.is_some() { 0 } else { panels * K::REACH.min(tiles(depth)) };
    let [left_words, left_scales, right_words, right_scales, block, edge, own_memory] = memory
        .reserve([
            height.next_multiple_of(K::ROWS) * K::LEFT_ROW,
            K::PANEL.chunk * height,
            own * layout.tile_words,
            own * layout.tile_scales,
            beside,
            K::ROWS * width,
            K::MEMORY,
        ]);
    let (left_scales, edge): (*mut f32, *mut f32) = (left_scales.cast(), edge.cast());
    let place = shared.unwrap_or(Right { words: right_words, scales: right_scales.cast(), panels });
    let first_panel = if shared.is_some() { columns.start / width } else { 0 };
    // SAFETY: all addresses lie in the memory just reserved, in the packed operand, or in this
    // task's block of the result. Tiles are finished before what they read changes, and before what
    // they write is read.
    unsafe {
        let (target, stride) = match out.place {
            Place::F32 { start, .. } => (
                start.add(group.start + rows.start * out.row_stride + columns.start),
                out.row_stride,
            ),
            Place::Bf16 { .. } => (block.cast::<f32>(), panels * width),
        };
        if depth == 0 && !add {
            clear_block(target, stride, rows.len(), columns.len());
        }
        edge.write_bytes(0, K::ROWS * width);
        let edge = matches!(out.place, Place::F32 { .. }).then_some(edge);
        let mut kernel = K::begin(own_memory);
        let mut steps = walk::<K>(rows, depth, strip_rows).peekable();
        while let Some((reach, strip, chunk)) = steps.next() {
            let (first_tile, depth_tiles) = (chunk.start / TILE, tiles(chunk.len()));
            let (left_words, left_step, parts) = if SCALES == TURNED {
                turned::<K>(left, strip.clone(), chunk.clone(), columns.len(), left_words)
            } else {
                K::Pack::left(left, strip.clone(), chunk.clone(), K::LEFT, left_words);
                (left_words.cast_const(), 0, LeftParts { by_row: K::LEFT.row, by_part: 0 })
            };
            if K::WHOLE && strip.len() < height {
                clear_rows(left_words.cast_mut(), strip.len()..height, chunk.len(), K::LEFT);
            }
            let packed = first_tile..first_tile + depth_tiles;
            if let Source::Codes(x) = left
                && SCALES != UNSCALED
            {
                pack::scales(x, strip.clone(), packed, height, left_scales);
            }
            let stored_tile =
                if shared.is_some() { first_tile } else { first_tile - reach.start / TILE };
            // While this strip's tiles are computed, the next strip is asked for, and while a panel's
            // are, the next panel that has to be packed.
            let parts_a_panel = strip.len().div_ceil(K::ROWS);
            let next_left = match steps.peek() {
                Some((_, strip, chunk)) if K::ASKS => {
                    Ahead::new(left, strip.clone(), chunk.clone(), panels * parts_a_panel)
                }
                _ => Ahead::NONE,
            };
            let mut ahead = [next_left, Ahead::NONE];
            for panel in 0..panels {
                let next = panel_columns(columns, panel + 1, width);
                let columns = panel_columns(columns, panel, width);
                let in_place = if few && columns.len() == width {
                    K::Pack::in_place(right, columns.start, chunk.start)
                } else {
                    None
                };
                ahead[1] = Ahead::NONE;
                if in_place.is_none() && shared.is_none() && strip.start == rows.start {
                    if K::ASKS && panel + 1 < panels {
                        ahead[1] = Ahead::new(right, next, chunk.clone(), parts_a_panel);
                    }
                    let (columns, chunk) = (columns.clone(), chunk.clone());
                    pack_panel::<K>(right, place, panel, columns, chunk, stored_tile);
                }
                let (packed, right_scales) =
                    place.panel(layout, stored_tile, depth_tiles, first_panel + panel);
                let (right, right_step) = in_place.unwrap_or((packed, width));
                let call = TileCall {
                    left: left_words,
                    left_stride: K::LEFT.tile,
                    left_step,
                    left_scales,
                    left_scale_stride: height,
                    right,
                    right_step,
                    right_width: width,
                    right_scales,
                    depth: chunk.len(),
                    more: Segment::NONE,
                    factor: out.factor,
                    out: target.add((strip.start - rows.start) * stride + panel * width),
                    out_stride: stride,
                    add: add || chunk.start > 0,
                };
                let size = (strip.len(), columns.len());
                panel_tiles::<K, SCALES>(&mut kernel, &call, parts, size, edge, &mut ahead);
            }
            kernel.finish();
        }
        drop(kernel);
        if let Place::Bf16 { start } = out.place {
            for (r, row) in rows.clone().enumerate() {
                let target = start.add(group.start + row * out.row_stride + columns.start);
                for c in 0..columns.len() {
                    *target.add(c) = half::bf16::from_f32(*block.cast::<f32>().add(r * stride + c));
                }
            }
        }
    }
}

/// Where the parts of a strip begin in its left operand: so many words a row before it, and a part.
#[derive(Clone, Copy)]
pub(super) struct LeftParts {
    pub(super) by_row: usize,
    pub(super) by_part: usize,
}

/// Packs the rows of a strip that lie side by side, or leaves them where they lie: the words, how
/// far apart the steps of the depth are, and the parts.
///
/// # Safety
/// The instruction set of `K` is there, and `words` has room for the rows.
#[inline(always)]
unsafe fn turned<K: Kernel>(
    left: &Source<'_>,
    strip: Range<usize>,
    chunk: Range<usize>,
    columns: usize,
    words: *mut u32,
) -> (*const u32, usize, LeftParts) {
    if columns <= FEW_COLUMNS
        && let Some((at, step)) = K::Pack::in_place(left, strip.start, chunk.start)
    {
        return (at.cast_const(), step, LeftParts { by_row: 1, by_part: 0 });
    }
    let parts = even(strip.len(), strip.len().div_ceil(K::ROWS));
    let parts = parts.map(|part| strip.start + part.start..strip.start + part.end);
    let by_part = chunk.len() * K::ROWS;
    // SAFETY: the caller vouches for the room and the instruction set.
    unsafe { K::Pack::left_turned(left, parts, K::ROWS, chunk, words) };
    (words.cast_const(), K::ROWS, LeftParts { by_row: 0, by_part })
}

/// Zeroes a block of a result: the product of operands of no depth.
///
/// # Safety
/// All of it can be written.
pub(super) unsafe fn clear_block(target: *mut f32, stride: usize, rows: usize, columns: usize) {
    for r in 0..rows {
        // SAFETY: the caller vouches for the row.
        unsafe { target.add(r * stride).write_bytes(0, columns) };
    }
}

/// Zeroes rows of a tile that are not there.
///
/// # Safety
/// `words` has room for these rows of `depth` entries in this layout, of pairs.
#[inline(always)]
pub(super) unsafe fn clear_rows(
    words: *mut u32,
    rows: Range<usize>,
    depth: usize,
    layout: LeftLayout,
) {
    // Depth tiles follow each other as the steps of one do.
    for step in 0..depth.div_ceil(2 * LANES) {
        // SAFETY: the caller vouches for the rows' room.
        unsafe {
            let first = words.add(step * layout.step + rows.start * layout.row);
            first.write_bytes(0, rows.len() * layout.row);
        }
    }
}

/// The columns of a panel of a task.
#[inline(always)]
pub(super) fn panel_columns(columns: &Range<usize>, panel: usize, width: usize) -> Range<usize> {
    let at = columns.start + panel * width;
    at..columns.end.min(at + width)
}

/// In which order a task goes over its rows and its depth: `(reach, strip, chunk)`.
#[inline(always)]
fn walk<K: Kernel>(
    rows: &Range<usize>,
    depth: usize,
    strip_rows: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>, Range<usize>)> {
    let (first, end) = (rows.start, rows.end);
    chunks(0..depth, K::REACH).flat_map(move |reach| {
        (first..end).step_by(strip_rows).flat_map(move |start| {
            let strip = start..end.min(start.saturating_add(strip_rows));
            let of_reach = reach.clone();
            chunks(reach.clone(), K::PANEL.chunk)
                .map(move |chunk| (of_reach.clone(), strip.clone(), chunk))
        })
    })
}

/// Computes the tiles of a strip of `rows` in one panel, of which `columns` are there; `call` is
/// that of the first row. Before each some of what is `ahead` is asked for. Tiles that are not full
/// are computed in `edge`, if there is one, and copied to their place; else there is room around it.
///
/// # Safety
/// Every pointer of `call` is good for what the tiles need, until the kernel is finished; the
/// instruction set of `K` is there.
#[inline(always)]
pub(super) unsafe fn panel_tiles<K: Kernel, const SCALES: usize>(
    kernel: &mut K,
    call: &TileCall,
    parts: LeftParts,
    (rows, columns): (usize, usize),
    edge: Option<*mut f32>,
    ahead: &mut [Ahead; 2],
) {
    let width = K::PANEL.width;
    // A strip of whole tiles is one: dividing costs more than the rest of this.
    let count = if K::WHOLE { 1 } else { rows.div_ceil(K::ROWS) };
    for (index, part) in even(rows, count).enumerate() {
        ahead.iter_mut().for_each(Ahead::ask);
        let full = columns.is_multiple_of(K::COLUMNS) && (!K::WHOLE || part.len() == K::ROWS);
        // SAFETY: the caller vouches for the operands and the result, of which this is a part, and
        // for the instruction set; `edge` has room for a tile.
        unsafe {
            let place = call.out.add(part.start * call.out_stride);
            let beside = edge.filter(|_| !full);
            if let Some(edge) = beside
                && call.add
            {
                copy(place, call.out_stride, edge, width, part.len(), columns);
            }
            let part_call = TileCall {
                left: call.left.add(part.start * parts.by_row + index * parts.by_part),
                left_scales: call.left_scales.add(part.start),
                out: beside.unwrap_or(place),
                out_stride: if beside.is_some() { width } else { call.out_stride },
                ..*call
            };
            kernel.tile::<SCALES>(part.len(), columns, &part_call);
            if let Some(edge) = beside {
                kernel.finish();
                copy(edge, width, place, call.out_stride, part.len(), columns);
            }
        }
    }
}

/// Copies `rows` rows of `columns` numbers.
///
/// # Safety
/// They can be read and written, and do not overlap.
#[inline(always)]
unsafe fn copy(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    rows: usize,
    columns: usize,
) {
    for r in 0..rows {
        // SAFETY: the caller vouches that both rows are there and do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(from.add(r * from_stride), to.add(r * to_stride), columns)
        };
    }
}
