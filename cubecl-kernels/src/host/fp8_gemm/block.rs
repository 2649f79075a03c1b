//! One block of a result: its rows packed chunk by chunk, the microkernel over it, edges and BF16
//! on the way out.

use super::kernel::{Kernel, MAX_ROWS, TileCall, tile};
use super::output::{Output, Place};
use super::plan::{Task, even};
use super::right::{Right, RightLayout, chunk_tiles, chunks, pack_panel};
use super::scratch::Scratch;
use super::source::{Group, Source};
use crate::definition::{TILE, tiles};
use crate::host::simd::LANES;

/// Computes one block of a group's result.
///
/// # Safety
/// The instruction set of `K` is there; a `shared` right operand is packed in full.
#[inline(always)]
pub(super) unsafe fn multiply<K: Kernel, const V: usize, const SCALES: usize>(
    group: &Group<'_>,
    task: &Task,
    out: &Output<'_>,
    shared: Option<Right>,
    memory: &mut Scratch,
) {
    const { assert!(K::ROWS <= MAX_ROWS) };
    let Task { rows, columns, .. } = task;
    let (left, right) = (&group.left, &group.right);
    let (width, words) = (V * LANES, TILE / K::DEPTH);
    let layout = RightLayout::new(width, K::DEPTH, right);
    let (panels, depth) = (columns.len().div_ceil(width), left.depth());
    // A block whose result is not FP32 is summed beside it.
    let (beside, add) = match out.place {
        Place::F32 { add, .. } => (0, add),
        Place::Bf16 { .. } => (rows.len() * panels * width, false),
    };
    let chunk = chunk_tiles(K::DEPTH, width);
    let own = if shared.is_some() { 0 } else { panels * chunk };
    let [left_words, left_scales, right_words, right_scales, block] = memory.reserve([
        chunk * rows.len() * words,
        chunk * rows.len(),
        own * layout.tile_words,
        own * layout.tile_scales,
        beside,
    ]);
    let left_scales: *mut f32 = left_scales.cast();
    let place = shared.unwrap_or(Right { words: right_words, scales: right_scales.cast(), panels });
    let first_panel = if shared.is_some() { columns.start / width } else { 0 };
    let mut edge = [[[0.0f32; LANES]; V]; MAX_ROWS];
    // SAFETY: all addresses lie in the memory just reserved, in the packed operand, or in this
    // task's block of the result.
    unsafe {
        let (target, stride) = match out.place {
            Place::F32 { start, .. } => (
                start.add(group.start + rows.start * out.row_stride + columns.start),
                out.row_stride,
            ),
            Place::Bf16 { .. } => (block.cast::<f32>(), panels * width),
        };
        if depth == 0 && !add {
            for r in 0..rows.len() {
                (0..columns.len()).for_each(|c| target.add(r * stride + c).write(0.0));
            }
        }
        for chunk in chunks(depth, chunk) {
            let (first_tile, depth_tiles) = (chunk.start / TILE, tiles(chunk.len()));
            K::pack_left(left, rows.clone(), chunk.clone(), left_words);
            if let Source::Codes(x) = left {
                for (r, row) in rows.clone().enumerate() {
                    for t in 0..depth_tiles {
                        *left_scales.add(t * rows.len() + r) = x.scale(row, first_tile + t);
                    }
                }
            }
            for panel in 0..panels {
                let at = columns.start + panel * width;
                let panel_columns = at..columns.end.min(at + width);
                let stored_tile = if shared.is_some() { first_tile } else { 0 };
                if shared.is_none() {
                    pack_panel::<K, V>(
                        right,
                        place,
                        panel,
                        panel_columns.clone(),
                        chunk.clone(),
                        0,
                    );
                }
                let (right, right_scales) =
                    place.panel(layout, stored_tile, depth_tiles, first_panel + panel);
                let (columns, padded) =
                    (panel_columns.len(), matches!(out.place, Place::Bf16 { .. }));
                let add = add || chunk.start > 0;
                for rows in even(rows.len(), rows.len().div_ceil(K::ROWS)) {
                    let target = target.add(rows.start * stride + panel * width);
                    // A tile whose columns do not fill the panel is computed beside its place.
                    let narrow = columns < width && !padded;
                    let (out, out_stride) =
                        if narrow { (edge.as_mut_ptr().cast(), width) } else { (target, stride) };
                    if narrow && add {
                        copy(target, stride, out, width, rows.len(), columns);
                    }
                    let call = TileCall {
                        left: left_words.add(rows.start * words),
                        left_stride: task.rows.len() * words,
                        left_scales: left_scales.add(rows.start),
                        left_scale_stride: task.rows.len(),
                        right,
                        right_scales,
                        depth: chunk.len(),
                        out,
                        out_stride,
                        add,
                    };
                    any_rows::<K, V, SCALES>(rows.len(), &call);
                    if narrow {
                        copy(out, width, target, stride, rows.len(), columns);
                    }
                }
            }
        }
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

/// Calls [`tile`] with the number of rows as a constant.
///
/// # Safety
/// Every pointer of `call` is good for what the tile needs, and the instruction set is there.
#[inline(always)]
unsafe fn any_rows<K: Kernel, const V: usize, const SCALES: usize>(rows: usize, call: &TileCall) {
    macro_rules! by_rows {
        ($($rows:literal)*) => {
            match rows {
                // SAFETY: the caller vouches for the pointers of `call` and the instruction set.
                $($rows => unsafe { tile::<K, $rows, V, SCALES>(call) },)*
                _ => unreachable!("invariant: a tile has 1 to {MAX_ROWS} rows"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7)
}
