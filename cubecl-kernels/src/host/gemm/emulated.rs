//! The accumulator of few bits, emulated sixteen columns at a time; the same bits as the reference
//! on every machine.

use super::left::LeftLayout;
use super::output::{Output, Place};
use super::pack::{self, Pack};
use super::pack_words::Words;
use super::plan::Task;
use super::scratch;
use super::source::{Group, Source};
use super::truncate::Truncate;
use crate::definition::{TILE, tiles};
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Avx2, Avx512};
use crate::host::simd::{Isa, LANES, Plain, isa};

/// Products that the accumulator takes at once.
const GROUP: usize = 32;
/// Rows computed together: their sums do not wait for each other.
const ROWS: usize = 4;

/// Computes one block of a group's result with an accumulator of `bits` bits.
pub(super) fn multiply(group: &Group<'_>, task: &Task, out: &Output<'_>, bits: u32, promote: bool) {
    let (Source::Codes(left), Source::Codes(right)) = (&group.left, &group.right) else {
        unreachable!("invariant: only quantized operands have an emulated accumulator");
    };
    let depth_tiles = tiles(left.depth);
    let mut memory = scratch::take_task();
    {
        let [rows, panel, row_scales, column_scales] = memory.reserve([
            task.rows.len() * depth_tiles * TILE,
            depth_tiles * TILE * LANES,
            task.rows.len() * depth_tiles,
            depth_tiles * LANES,
        ]);
        for first in task.columns.clone().step_by(LANES) {
            let columns = first..task.columns.end.min(first + LANES);
            // SAFETY: the parts of the scratch have the sizes that packing needs, and packing
            // writes all of them.
            let block = unsafe {
                // Packing leaves out what is past the depth.
                let last = depth_tiles.saturating_sub(1) * TILE;
                if first == task.columns.start && depth_tiles > 0 {
                    rows.add(last * task.rows.len()).write_bytes(0, task.rows.len() * TILE);
                    Words::<Plain, false>::left(
                        &group.left,
                        task.rows.clone(),
                        0..left.depth,
                        LeftLayout::tiles(task.rows.len()),
                        rows,
                    );
                    let (rows, tiles) = (task.rows.clone(), 0..depth_tiles);
                    pack::scales(left, rows.clone(), tiles, rows.len(), row_scales.cast());
                }
                if depth_tiles > 0 {
                    panel.add(last * LANES).write_bytes(0, TILE * LANES);
                }
                let depth = 0..left.depth;
                Words::<Plain, false>::right(&group.right, columns.clone(), 1, depth, panel);
                let tiles = 0..depth_tiles;
                pack::scales(right, columns.clone(), tiles, LANES, column_scales.cast());
                Block {
                    rows: std::slice::from_raw_parts(rows.cast(), depth_tiles * task.rows.len()),
                    panel: std::slice::from_raw_parts(panel.cast(), depth_tiles),
                    row_scales: std::slice::from_raw_parts(
                        row_scales.cast(),
                        depth_tiles * task.rows.len(),
                    ),
                    column_scales: std::slice::from_raw_parts(column_scales.cast(), depth_tiles),
                    depth: left.depth,
                }
            };
            for row in (0..task.rows.len()).step_by(ROWS) {
                // Past the last row it is computed again.
                let these = std::array::from_fn(|r| (row + r).min(task.rows.len() - 1));
                let sums = sums(&block, these, bits, promote);
                for (row, sums) in (row..task.rows.len()).zip(sums) {
                    let start = group.start + (task.rows.start + row) * out.row_stride + first;
                    // SAFETY: the row's columns lie in this task's block of the result.
                    unsafe { write(out, start, &sums[..columns.len()]) };
                }
            }
        }
    }
    scratch::keep_task(memory);
}

/// Writes sums into the result, or adds them to it, from element `start` on.
///
/// # Safety
/// These elements lie inside the result and belong to the caller's task.
unsafe fn write(out: &Output<'_>, start: usize, sums: &[f32]) {
    for (c, &sum) in sums.iter().enumerate() {
        // SAFETY: the element belongs to the caller's task, and is initialised where it is added
        // to.
        unsafe {
            match out.place {
                Place::F32 { start: place, add: true } => *place.add(start + c) += sum,
                Place::F32 { start: place, add: false } => place.add(start + c).write(sum),
                Place::Bf16 { start: place } => {
                    place.add(start + c).write(half::bf16::from_f32(sum))
                }
            }
        }
    }
}

/// Packed operands of a block: all of its rows, sixteen of its columns.
struct Block<'a> {
    /// `[tile][row]`
    rows: &'a [[f32; TILE]],
    /// `[tile]`, each `[TILE][LANES]`
    panel: &'a [[[f32; LANES]; TILE]],
    /// `[tile][row]`
    row_scales: &'a [f32],
    /// `[tile]`
    column_scales: &'a [[f32; LANES]],
    depth: usize,
}

impl Block<'_> {
    /// The scales of a row's products in a depth tile, of `count` rows.
    #[inline(always)]
    fn scales(&self, tile: usize, row: usize, count: usize) -> [f32; LANES] {
        let mut scales = self.column_scales[tile];
        for scale in &mut scales {
            *scale *= self.row_scales[tile * count + row];
        }
        scales
    }
}

/// The sums of some rows with sixteen columns.
fn sums(block: &Block<'_>, rows: [usize; ROWS], bits: u32, promote: bool) -> [[f32; LANES]; ROWS] {
    match isa() {
        // SAFETY: `isa` has just found AVX-512 F, BW, DQ, VL and FMA on this machine.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { sums_avx512(block, rows, bits, promote) },
        // SAFETY: `isa` has just found AVX2 and FMA on this machine.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { sums_avx2(block, rows, bits, promote) },
        Isa::Baseline => either::<Plain>(block, rows, bits, promote),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn sums_avx512(
    block: &Block<'_>,
    rows: [usize; ROWS],
    bits: u32,
    promote: bool,
) -> [[f32; LANES]; ROWS] {
    either::<Avx512>(block, rows, bits, promote)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn sums_avx2(
    block: &Block<'_>,
    rows: [usize; ROWS],
    bits: u32,
    promote: bool,
) -> [[f32; LANES]; ROWS] {
    either::<Avx2>(block, rows, bits, promote)
}

#[inline(always)]
fn either<S: Truncate>(
    block: &Block<'_>,
    rows: [usize; ROWS],
    bits: u32,
    promote: bool,
) -> [[f32; LANES]; ROWS] {
    if promote {
        sums_of::<S, true>(block, rows, bits)
    } else {
        sums_of::<S, false>(block, rows, bits)
    }
}

#[inline(always)]
fn sums_of<S: Truncate, const PROMOTE: bool>(
    block: &Block<'_>,
    rows: [usize; ROWS],
    bits: u32,
) -> [[f32; LANES]; ROWS] {
    let count = block.rows.len() / block.panel.len().max(1);
    let (mut totals, mut sums) = ([[0.0f32; LANES]; ROWS], [S::zero(); ROWS]);
    for (t, panel) in block.panel.iter().enumerate() {
        let len = TILE.min(block.depth - t * TILE);
        let mut ratios = [S::zero(); ROWS];
        if !PROMOTE {
            for r in 0..ROWS {
                let (scales, first) =
                    (block.scales(t, rows[r], count), block.scales(0, rows[r], count));
                let mut ratio = [0.0; LANES];
                for l in 0..LANES {
                    ratio[l] = scales[l] / first[l];
                }
                ratios[r] = S::load(&ratio);
            }
        }
        // Entries past the depth are zero, and a product of zeros changes neither an exponent nor a
        // sum.
        for group in 0..len.div_ceil(GROUP) {
            let range = group * GROUP..(group + 1) * GROUP;
            let panel = &panel[range.clone()];
            let mut left = [&[0.0f32; 0][..]; ROWS];
            for r in 0..ROWS {
                left[r] = &block.rows[t * count + rows[r]][range.clone()];
            }
            add_truncated::<S, PROMOTE>(&mut sums, &left, panel, &ratios, bits);
        }
        if PROMOTE {
            for r in 0..ROWS {
                let (scales, sums) = (block.scales(t, rows[r], count), S::lanes(sums[r]));
                for l in 0..LANES {
                    totals[r][l] += scales[l] * sums[l];
                }
            }
            sums = [S::zero(); ROWS];
        }
    }
    if !PROMOTE && block.depth > 0 {
        for r in 0..ROWS {
            let (scales, sums) = (block.scales(0, rows[r], count), S::lanes(sums[r]));
            for l in 0..LANES {
                totals[r][l] = scales[l] * sums[l];
            }
        }
    }
    totals
}

/// `sums += left right`, as an accumulator of `bits` bits adds them.
#[inline(always)]
fn add_truncated<S: Truncate, const PROMOTE: bool>(
    sums: &mut [S::V; ROWS],
    left: &[&[f32]; ROWS],
    right: &[[f32; LANES]],
    ratios: &[S::V; ROWS],
    bits: u32,
) {
    let mut largest = [S::zero(); ROWS];
    for r in 0..ROWS {
        largest[r] = S::larger(largest[r], sums[r]);
    }
    for (i, columns) in right.iter().enumerate() {
        let columns = S::load(columns);
        for r in 0..ROWS {
            let product = S::mul(S::splat(left[r][i]), columns);
            largest[r] =
                S::larger(largest[r], if PROMOTE { product } else { S::mul(product, ratios[r]) });
        }
    }
    let mut quanta = [(S::zero(), S::zero()); ROWS];
    for r in 0..ROWS {
        quanta[r] = S::quantum(largest[r], bits);
        sums[r] = S::truncate(S::mul(sums[r], quanta[r].1));
    }
    for (i, columns) in right.iter().enumerate() {
        let columns = S::load(columns);
        for r in 0..ROWS {
            let product = S::mul(S::splat(left[r][i]), columns);
            let product = if PROMOTE { product } else { S::mul(product, ratios[r]) };
            sums[r] = S::add(sums[r], S::truncate(S::mul(product, quanta[r].1)));
        }
    }
    for r in 0..ROWS {
        sums[r] = S::mul(sums[r], quanta[r].0);
    }
}
