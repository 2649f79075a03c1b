//! The accumulator of few bits, emulated sixteen columns at a time; the same bits as the reference on every machine.

use std::ops::Range;

use super::output::{Output, Place};
use super::pack;
use super::plan::Task;
use super::scratch;
use super::source::Source;
use super::task::Group;
use crate::definition::{OperandView, TILE, tiles};
use crate::host::simd::{LANES, Simd, multiversion};

/// Products that the accumulator takes at once.
const GROUP: usize = 32;
/// Rows computed together: their sums do not wait for each other.
const ROWS: usize = 2;

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
            // SAFETY: the parts of the scratch have the sizes that packing needs, and packing writes all of them.
            let block = unsafe {
                if first == task.columns.start {
                    pack::left(&group.left, task.rows.clone(), 0..left.depth, rows);
                    pack_scales(left, task.rows.clone(), task.rows.len(), row_scales.cast());
                }
                pack::right(&group.right, columns.clone(), 1, 0..left.depth, panel);
                pack_scales(right, columns.clone(), LANES, column_scales.cast());
                Block {
                    rows: std::slice::from_raw_parts(rows.cast(), depth_tiles * task.rows.len()),
                    panel: std::slice::from_raw_parts(panel.cast(), depth_tiles),
                    row_scales: std::slice::from_raw_parts(row_scales.cast(), depth_tiles * task.rows.len()),
                    column_scales: std::slice::from_raw_parts(column_scales.cast(), depth_tiles),
                    depth: left.depth,
                }
            };
            for row in (0..task.rows.len()).step_by(ROWS) {
                let second = (row + 1).min(task.rows.len() - 1);
                let sums = if promote { promoted(&block, [row, second], bits) } else { unpromoted(&block, [row, second], bits) };
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

/// `[tile][width]` scales, zero past the rows.
///
/// # Safety
/// `scales` has room for them.
unsafe fn pack_scales(x: &OperandView<'_>, rows: Range<usize>, width: usize, scales: *mut f32) {
    for t in 0..tiles(x.depth) {
        for r in 0..width {
            let scale = if r < rows.len() { x.scale(rows.start + r, t) } else { 0.0 };
            // SAFETY: the caller's promise.
            unsafe { *scales.add(t * width + r) = scale };
        }
    }
}

/// # Safety
/// The elements from `start` belong to the caller's task.
unsafe fn write(out: &Output<'_>, start: usize, sums: &[f32]) {
    for (c, &sum) in sums.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            match out.place {
                Place::F32 { start: place, add: true } => *place.add(start + c) += sum,
                Place::F32 { start: place, add: false } => place.add(start + c).write(sum),
                Place::Bf16 { start: place } => place.add(start + c).write(half::bf16::from_f32(sum)),
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

multiversion! {
    fn promoted(block: &Block<'_>, rows: [usize; ROWS], bits: u32) -> [[f32; LANES]; ROWS] {
        sums::<S, true>(block, rows, bits)
    }
}

multiversion! {
    fn unpromoted(block: &Block<'_>, rows: [usize; ROWS], bits: u32) -> [[f32; LANES]; ROWS] {
        sums::<S, false>(block, rows, bits)
    }
}

/// The sums of some rows with sixteen columns.
#[inline(always)]
fn sums<S: Simd, const PROMOTE: bool>(block: &Block<'_>, rows: [usize; ROWS], bits: u32) -> [[f32; LANES]; ROWS] {
    let count = block.rows.len() / block.panel.len().max(1);
    let (mut totals, mut sums) = ([[0.0f32; LANES]; ROWS], [[0.0f32; LANES]; ROWS]);
    let scale = |t: usize, r: usize, l: usize| block.row_scales[t * count + rows[r]] * block.column_scales[t][l];
    for (t, panel) in block.panel.iter().enumerate() {
        let left = rows.map(|row| &block.rows[t * count + row]);
        let len = TILE.min(block.depth - t * TILE);
        let mut ratios = [[1.0f32; LANES]; ROWS];
        if !PROMOTE {
            for (r, ratios) in ratios.iter_mut().enumerate() {
                (0..LANES).for_each(|l| ratios[l] = scale(t, r, l) / scale(0, r, l));
            }
        }
        // Entries past the depth are zero, and a product of zeros changes neither an exponent nor a sum.
        for group in 0..len.div_ceil(GROUP) {
            let range = group * GROUP..(group + 1) * GROUP;
            add_truncated::<S, PROMOTE>(&mut sums, left.map(|left| &left[range.clone()]), &panel[range.clone()], &ratios, bits);
        }
        if PROMOTE {
            for r in 0..ROWS {
                (0..LANES).for_each(|l| totals[r][l] += scale(t, r, l) * sums[r][l]);
            }
            sums = [[0.0; LANES]; ROWS];
        }
    }
    if !PROMOTE && block.depth > 0 {
        for r in 0..ROWS {
            (0..LANES).for_each(|l| totals[r][l] = scale(0, r, l) * sums[r][l]);
        }
    }
    totals
}

/// `sums += products`, as an accumulator of `bits` bits adds them.
#[inline(always)]
fn add_truncated<S: Simd, const PROMOTE: bool>(
    sums: &mut [[f32; LANES]; ROWS],
    left: [&[f32]; ROWS],
    right: &[[f32; LANES]],
    ratios: &[[f32; LANES]; ROWS],
    bits: u32,
) {
    let product = |r: usize, i: usize, l: usize| {
        let product = left[r][i] * right[i][l];
        if PROMOTE { product } else { product * ratios[r][l] }
    };
    let mut largest = sums.map(|sums| sums.map(|sum| sum.to_bits() & 0x7FFF_FFFF));
    for i in 0..right.len() {
        for (r, largest) in largest.iter_mut().enumerate() {
            (0..LANES).for_each(|l| largest[l] = largest[l].max(product(r, i, l).to_bits() & 0x7FFF_FFFF));
        }
    }
    // Powers of two as bits: the quantum of the largest exponent, kept normal, and its inverse.
    let exponents = largest.map(|largest| largest.map(|bits_of| (bits_of >> 23).max(bits)));
    let inverse = exponents.map(|e| e.map(|e| f32::from_bits((253 + bits - e) << 23)));
    let mut counts = [[0.0f32; LANES]; ROWS];
    for (r, counts) in counts.iter_mut().enumerate() {
        (0..LANES).for_each(|l| counts[l] = truncate::<S>(sums[r][l] * inverse[r][l]));
    }
    for i in 0..right.len() {
        for (r, counts) in counts.iter_mut().enumerate() {
            (0..LANES).for_each(|l| counts[l] += truncate::<S>(product(r, i, l) * inverse[r][l]));
        }
    }
    for r in 0..ROWS {
        for l in 0..LANES {
            let quantum = f32::from_bits((exponents[r][l] + 1 - bits) << 23);
            sums[r][l] = if exponents[r][l] == 255 { f32::NAN } else { counts[r][l] * quantum };
        }
    }
}

/// The integer part of a number of at most 24 bits. Where there is no instruction for it, by way of an integer.
#[inline(always)]
fn truncate<S: Simd>(x: f32) -> f32 {
    if S::FMA { x.trunc() } else { x as i32 as f32 }
}
