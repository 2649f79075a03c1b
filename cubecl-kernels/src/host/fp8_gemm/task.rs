//! Runs a product: cuts it into tasks, packs what they share, and hands each to the instruction set
//! of the path.

use std::ops::Range;

use super::block::multiply;
use super::emulated;
#[cfg(target_arch = "x86_64")]
use super::kernel::Bf16;
use super::kernel::{BLOCK_SCALED, F32, Kernel, ROW_SCALED, UNSCALED};
use super::output::Output;
use super::path::GemmPath;
use super::plan::{Task, plan};
use super::right::{Right, RightLayout, chunk_tiles, chunks, pack_panel, scaling};
use super::scratch;
use super::source::{Group, Source};
use crate::definition::{Accumulation, TILE, tiles};
use crate::host::gemm_view::Threads;
use crate::host::parallel::for_each;
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Avx2, Avx512};
use crate::host::simd::{LANES, Plain};

/// Panels of a right operand that are packed by one task, where all tasks share it.
const PANELS_A_TASK: usize = 4;

/// Computes every group's product into its place; all of each group's `[left.rows, right.rows]` is
/// written.
pub(super) fn product(
    path: GemmPath,
    groups: &[Group<'_>],
    accumulation: Accumulation,
    out: &Output<'_>,
    threads: Threads,
) {
    let sizes: Vec<_> =
        groups.iter().map(|group| (group.left.rows(), group.right.rows())).collect();
    let mut work = 0usize;
    for (group, &(rows, columns)) in groups.iter().zip(&sizes) {
        assert_eq!(
            group.left.depth(),
            group.right.depth(),
            "invariant: the sizes of a product agree"
        );
        let reach = if rows == 0 || columns == 0 {
            0
        } else {
            group.start + (rows - 1) * out.row_stride + columns
        };
        assert!(
            reach <= out.len && (columns <= out.row_stride || rows <= 1),
            "invariant: a result lies inside its output"
        );
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
    // Several tasks need the same columns: these are packed once for all.
    let single = groups.first().filter(|group| {
        groups.len() == 1
            && group.left.depth() > 0
            && tasks.first().is_some_and(|task| task.rows.len() < group.left.rows())
    });
    let mut memory = scratch::take_shared();
    let shared = single.map(|group| {
        let columns = group.right.rows();
        let layout = RightLayout::new(width(path), depth_a_word(path), &group.right);
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
        // SAFETY: the path says that AVX-512 with BF16 and VBMI has been found: `GemmPath` only
        // names what this machine has.
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx512Bf16 => unsafe { avx512_bf16(call) },
        // SAFETY: the path says that AVX-512 F, BW, DQ, VL and FMA have been found.
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx512 => unsafe { avx512(call) },
        // SAFETY: the path says that AVX2 and FMA have been found.
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

/// Does what `call` asks for, with the microkernel `K`.
///
/// # Safety
/// The instruction set of `K` is there.
#[inline(always)]
unsafe fn run<K: Kernel, const V: usize>(call: &Call<'_>) {
    // SAFETY: the caller vouches for the instruction set; `product` has reserved room for every
    // panel, and hands out `shared` once all of them are packed.
    unsafe {
        match *call {
            Call::Pack { right, place, ref panels } => {
                for depth in chunks(right.depth(), chunk_tiles(K::DEPTH, V * LANES)) {
                    for panel in panels.clone() {
                        let columns = panel * V * LANES..right.rows().min((panel + 1) * V * LANES);
                        pack_panel::<K, V>(
                            right,
                            place,
                            panel,
                            columns,
                            depth.clone(),
                            depth.start / TILE,
                        );
                    }
                }
            }
            Call::Multiply { group, task, out, shared } => {
                let mut memory = scratch::take_task();
                match scaling(&group.right) {
                    UNSCALED => multiply::<K, V, UNSCALED>(group, task, out, shared, &mut memory),
                    BLOCK_SCALED => {
                        multiply::<K, V, BLOCK_SCALED>(group, task, out, shared, &mut memory)
                    }
                    _ => multiply::<K, V, ROW_SCALED>(group, task, out, shared, &mut memory),
                }
                scratch::keep_task(memory);
            }
        }
    }
}
