//! Runs a product: operands packed block by block, the microkernel over the block, results written where they belong.

use std::ops::Range;

use super::emulated;
#[cfg(target_arch = "x86_64")]
use super::kernel::Bf16;
use super::kernel::{BLOCK_SCALED, F32, Kernel, MAX_ROWS, ROW_SCALED, TileCall, UNSCALED, tile};
use super::output::{Output, Place};
use super::path::GemmPath;
use super::plan::{Task, even, plan};
use super::scratch::{self, Scratch};
use super::source::Source;
use crate::definition::{Accumulation, TILE, tiles};
use crate::host::gemm_view::Threads;
use crate::host::parallel::for_each;
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Avx2, Avx512};
use crate::host::simd::{LANES, Plain};

/// Tiles of depth packed at a time: a panel of the right operand stays in L1 beside the left one's rows.
const TILES_A_CHUNK: usize = 2;
/// Rows of a group above which its right operand is packed once for all tasks.
const SHARED_ROWS: usize = 512;
/// Panels packed by one task of that.
const PANELS_A_TASK: usize = 4;

/// One product among those of a call: `left right^T`.
pub(super) struct Group<'a> {
    pub(super) left: Source<'a>,
    pub(super) right: Source<'a>,
    /// First element of its result, whose rows are [`Output::row_stride`] apart.
    pub(super) start: usize,
}

/// Computes every group's product into its place; all of each group's `[left.rows, right.rows]` is written.
pub(super) fn product(path: GemmPath, groups: &[Group<'_>], accumulation: Accumulation, out: &Output<'_>, threads: Threads) {
    let sizes: Vec<_> = groups.iter().map(|group| (group.left.rows(), group.right.rows())).collect();
    let mut work = 0usize;
    for (group, &(rows, columns)) in groups.iter().zip(&sizes) {
        assert_eq!(group.left.depth(), group.right.depth(), "invariant: the sizes of a product agree");
        let reach = if rows == 0 || columns == 0 { 0 } else { group.start + (rows - 1) * out.row_stride + columns };
        assert!(reach <= out.len && (columns <= out.row_stride || rows <= 1), "invariant: a result lies inside its output");
        work = work.saturating_add(rows.saturating_mul(columns).saturating_mul(group.left.depth()));
    }
    let work = if threads == Threads::One { 0 } else { work };
    let tasks = plan(&sizes);
    if let Accumulation::Emulated { bits, promote } = accumulation {
        return for_each(tasks.len(), work, |index| {
            let task = &tasks[index];
            emulated::multiply(&groups[task.group], task, out, bits, promote);
        });
    }
    let single = groups.first().filter(|group| groups.len() == 1 && group.left.rows() > SHARED_ROWS && group.left.depth() > 0);
    let mut memory = scratch::take_shared();
    let shared = single.map(|group| {
        let columns = group.right.rows();
        let layout = RightLayout::new(path, &group.right);
        let panels = columns.div_ceil(layout.width);
        let place = layout.place(&mut memory, panels, tiles(group.right.depth()));
        for_each(panels.div_ceil(PANELS_A_TASK), work, |index| {
            let panels = index * PANELS_A_TASK..panels.min((index + 1) * PANELS_A_TASK);
            let call = Call::Pack { right: &group.right, place, panels };
            dispatch(path, &call);
        });
        place
    });
    for_each(tasks.len(), work, |index| {
        let task = &tasks[index];
        dispatch(path, &Call::Multiply { group: &groups[task.group], task, out, shared });
    });
    scratch::keep_shared(memory);
}

/// What one task does.
enum Call<'a> {
    /// Packs panels of a right operand, all of their depth.
    Pack { right: &'a Source<'a>, place: Right, panels: Range<usize> },
    /// Computes a block of a group's result.
    Multiply { group: &'a Group<'a>, task: &'a Task, out: &'a Output<'a>, shared: Option<Right> },
}

fn dispatch(path: GemmPath, call: &Call<'_>) {
    match path {
        // SAFETY: `GemmPath` only names what has been found on this machine.
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx512Bf16 => unsafe { avx512_bf16(call) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx512 => unsafe { avx512(call) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx2 => unsafe { avx2(call) },
        // SAFETY: nothing beyond the baseline is used.
        _ => unsafe { run::<F32<Plain, 2>, 1>(call) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma")]
fn avx512_bf16(call: &Call<'_>) {
    // SAFETY: the features are those of this function.
    unsafe { run::<Bf16<7>, 2>(call) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512(call: &Call<'_>) {
    // SAFETY: the features are those of this function.
    unsafe { run::<F32<Avx512, 7>, 2>(call) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(call: &Call<'_>) {
    // SAFETY: the features are those of this function.
    unsafe { run::<F32<Avx2, 6>, 1>(call) };
}

/// Columns of a panel on a path.
fn width(path: GemmPath) -> usize {
    match path {
        GemmPath::Avx512Bf16 | GemmPath::Avx512 => 2 * LANES,
        GemmPath::Avx2 | GemmPath::Baseline => LANES,
    }
}

/// Entries in a packed word on a path.
fn depth_a_word(path: GemmPath) -> usize {
    if path == GemmPath::Avx512Bf16 { 2 } else { 1 }
}

/// The sizes of a packed right operand.
#[derive(Clone, Copy)]
struct RightLayout {
    /// Columns of a panel.
    width: usize,
    /// Words of one depth tile of a panel.
    tile_words: usize,
    /// Scales of one depth tile of a panel.
    tile_scales: usize,
}

impl RightLayout {
    fn new(path: GemmPath, source: &Source<'_>) -> Self {
        Self::of(width(path), depth_a_word(path), source)
    }

    #[inline(always)]
    fn of(width: usize, depth_a_word: usize, source: &Source<'_>) -> Self {
        let tile_scales = match scaling(source) {
            UNSCALED => 0,
            BLOCK_SCALED => 1,
            _ => width,
        };
        Self { width, tile_words: TILE / depth_a_word * width, tile_scales }
    }

    /// Room for `panels` of `depth_tiles` in a memory of its own.
    fn place(self, memory: &mut Scratch, panels: usize, depth_tiles: usize) -> Right {
        let count = panels * depth_tiles;
        let [words, scales] = memory.reserve([count * self.tile_words, count * self.tile_scales]);
        Right { words, scales: scales.cast(), panels }
    }
}

/// A packed right operand: `[chunk of depth][panel][tile]` words and scales.
#[derive(Clone, Copy)]
struct Right {
    words: *mut u32,
    scales: *mut f32,
    panels: usize,
}

// SAFETY: tasks that pack write panels of their own, and none reads before all have been packed.
unsafe impl Send for Right {}
// SAFETY: as above.
unsafe impl Sync for Right {}

impl Right {
    /// Words and scales of a panel in the chunk of `chunk_tiles` that starts at depth tile `first_tile`.
    ///
    /// # Safety
    /// They lie inside the memory that was reserved for them.
    #[inline(always)]
    unsafe fn panel(&self, layout: RightLayout, first_tile: usize, chunk_tiles: usize, panel: usize) -> (*mut u32, *mut f32) {
        let tile = first_tile * self.panels + panel * chunk_tiles;
        // SAFETY: the caller's promise.
        unsafe { (self.words.add(tile * layout.tile_words), self.scales.add(tile * layout.tile_scales)) }
    }
}

/// Which scales a right operand has, as the microkernel's parameter.
#[inline(always)]
fn scaling(right: &Source<'_>) -> usize {
    match right {
        Source::Floats(_) => UNSCALED,
        Source::Codes(x) if x.scale_rows == TILE => BLOCK_SCALED,
        Source::Codes(_) => ROW_SCALED,
    }
}

/// The chunks of a depth.
#[inline(always)]
fn chunks(depth: usize) -> impl Iterator<Item = Range<usize>> {
    (0..depth).step_by(TILES_A_CHUNK * TILE).map(move |start| start..depth.min(start + TILES_A_CHUNK * TILE))
}

/// # Safety
/// The instruction set of `K` is there.
#[inline(always)]
unsafe fn run<K: Kernel, const V: usize>(call: &Call<'_>) {
    // SAFETY: the caller's promise, handed on.
    unsafe {
        match *call {
            Call::Pack { right, place, ref panels } => {
                for depth in chunks(right.depth()) {
                    for panel in panels.clone() {
                        let columns = panel * V * LANES..right.rows().min((panel + 1) * V * LANES);
                        pack_panel::<K, V>(right, place, panel, columns, depth.clone(), depth.start / TILE);
                    }
                }
            }
            Call::Multiply { group, task, out, shared } => {
                let mut memory = scratch::take_task();
                match scaling(&group.right) {
                    UNSCALED => multiply::<K, V, UNSCALED>(group, task, out, shared, &mut memory),
                    BLOCK_SCALED => multiply::<K, V, BLOCK_SCALED>(group, task, out, shared, &mut memory),
                    _ => multiply::<K, V, ROW_SCALED>(group, task, out, shared, &mut memory),
                }
                scratch::keep_task(memory);
            }
        }
    }
}

/// Packs one panel of one chunk of depth, which is stored as that of depth tile `first_tile`.
///
/// # Safety
/// The instruction set of `K` is there, and `place` has room for the panel.
#[inline(always)]
unsafe fn pack_panel<K: Kernel, const V: usize>(
    right: &Source<'_>,
    place: Right,
    panel: usize,
    columns: Range<usize>,
    depth: Range<usize>,
    first_tile: usize,
) {
    let layout = RightLayout::of(V * LANES, K::DEPTH, right);
    let depth_tiles = tiles(depth.len());
    // SAFETY: the caller's promise.
    unsafe {
        let (words, scales) = place.panel(layout, first_tile, depth_tiles, panel);
        K::pack_right(right, columns.clone(), V, depth.clone(), words);
        let Source::Codes(x) = right else { return };
        for t in 0..depth_tiles {
            for c in 0..layout.tile_scales {
                let row = columns.start + c;
                let scale = if row < columns.end { x.scale(row, depth.start / TILE + t) } else { 0.0 };
                *scales.add(t * layout.tile_scales + c) = scale;
            }
        }
    }
}

/// Computes one block of a group's result.
///
/// # Safety
/// The instruction set of `K` is there; a `shared` right operand is packed in full.
#[inline(always)]
unsafe fn multiply<K: Kernel, const V: usize, const SCALES: usize>(
    group: &Group<'_>,
    task: &Task,
    out: &Output<'_>,
    shared: Option<Right>,
    memory: &mut Scratch,
) {
    let Task { rows, columns, .. } = task;
    let (left, right) = (&group.left, &group.right);
    let (width, words) = (V * LANES, TILE / K::DEPTH);
    let layout = RightLayout::of(width, K::DEPTH, right);
    let (panels, depth) = (columns.len().div_ceil(width), left.depth());
    // A block whose result is not FP32 is summed beside it.
    let (beside, add) = match out.place {
        Place::F32 { add, .. } => (0, add),
        Place::Bf16 { .. } => (rows.len() * panels * width, false),
    };
    let own = if shared.is_some() { 0 } else { panels * TILES_A_CHUNK };
    let [left_words, left_scales, right_words, right_scales, block] = memory.reserve([
        TILES_A_CHUNK * rows.len() * words,
        TILES_A_CHUNK * rows.len(),
        own * layout.tile_words,
        own * layout.tile_scales,
        beside,
    ]);
    let left_scales: *mut f32 = left_scales.cast();
    let place = shared.unwrap_or(Right { words: right_words, scales: right_scales.cast(), panels });
    let first_panel = if shared.is_some() { columns.start / width } else { 0 };
    // SAFETY: all addresses lie in the memory just reserved, in the packed operand, or in this task's block of the result.
    unsafe {
        let (target, stride) = match out.place {
            Place::F32 { start, .. } => (start.add(group.start + rows.start * out.row_stride + columns.start), out.row_stride),
            Place::Bf16 { .. } => (block.cast::<f32>(), panels * width),
        };
        if depth == 0 && !add {
            for r in 0..rows.len() {
                std::slice::from_raw_parts_mut(target.add(r * stride).cast::<std::mem::MaybeUninit<f32>>(), columns.len())
                    .fill(std::mem::MaybeUninit::new(0.0));
            }
        }
        for chunk in chunks(depth) {
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
                    pack_panel::<K, V>(right, place, panel, panel_columns.clone(), chunk.clone(), 0);
                }
                let (right, right_scales) = place.panel(layout, stored_tile, depth_tiles, first_panel + panel);
                for rows in even(rows.len(), rows.len().div_ceil(K::ROWS)) {
                    let call = TileCall {
                        left: left_words.add(rows.start * words),
                        left_stride: task.rows.len() * words,
                        left_scales: left_scales.add(rows.start),
                        left_scale_stride: task.rows.len(),
                        right,
                        right_scales,
                        depth: chunk.len(),
                        out: target.add(rows.start * stride + panel * width),
                        out_stride: stride,
                        add: add || chunk.start > 0,
                    };
                    let padded = !matches!(out.place, Place::F32 { .. });
                    if padded || panel_columns.len() == width {
                        any_rows::<K, V, SCALES>(rows.len(), &call);
                    } else {
                        narrow::<K, V, SCALES>(rows.len(), panel_columns.len(), call);
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

/// A tile whose columns do not fill a panel, through one that they do.
///
/// # Safety
/// As [`tile`], but only `columns` of the result are there.
#[inline(always)]
unsafe fn narrow<K: Kernel, const V: usize, const SCALES: usize>(rows: usize, columns: usize, mut call: TileCall) {
    let mut buffer = [[0.0f32; LANES]; MAX_ROWS * 2];
    let (out, stride, width) = (call.out, call.out_stride, V * LANES);
    let buffer: *mut f32 = buffer.as_mut_ptr().cast();
    (call.out, call.out_stride) = (buffer, width);
    // SAFETY: the buffer holds any tile, and the result the given rows and columns of it.
    unsafe {
        if call.add {
            (0..rows).for_each(|r| std::ptr::copy_nonoverlapping(out.add(r * stride), buffer.add(r * width), columns));
        }
        any_rows::<K, V, SCALES>(rows, &call);
        (0..rows).for_each(|r| std::ptr::copy_nonoverlapping(buffer.add(r * width), out.add(r * stride), columns));
    }
}

/// [`tile`] with the number of rows as a constant.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn any_rows<K: Kernel, const V: usize, const SCALES: usize>(rows: usize, call: &TileCall) {
    macro_rules! by_rows {
        ($($rows:literal)*) => {
            match rows {
                // SAFETY: the caller's promise.
                $($rows if $rows <= K::ROWS => unsafe { tile::<K, $rows, V, SCALES>(call) },)*
                _ => unreachable!("invariant: a tile has 1 to {} rows", K::ROWS),
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8 9 10 11 12)
}
