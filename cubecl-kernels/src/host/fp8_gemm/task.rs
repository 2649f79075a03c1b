//! Runs a product: cuts it into tasks, packs what they share, and hands each to the instruction set
//! of its path.

use std::ops::Range;

use super::block::multiply;
use super::emulated;
use super::kernel::{BLOCK_SCALED, Kernel, ROW_SCALED, UNSCALED};
#[cfg(target_arch = "x86_64")]
use super::lanes::Bf16;
use super::lanes::F32;
use super::output::Output;
#[cfg(target_arch = "x86_64")]
use super::pack_pairs::Avx512Pairs;
use super::pack_pairs::PlainPairs;
use super::path::GemmPath;
use super::plan::{Size, Task, plan};
use super::right::{PanelForm, Right, RightLayout, chunks, pack_panel, scaling};
use super::route::Route;
use super::scratch;
use super::source::{Group, Source};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::tile_unit::Amx;
use super::tile_unit::Emulated;
use super::tiled::{Tiled, columns_a_task};
use super::vectors::Vectors;
use crate::definition::{Accumulation, TILE, tiles};
use crate::host::gemm_view::Threads;
use crate::host::parallel::for_each;
use crate::host::simd::Plain;
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Avx2, Avx512};

/// Panels of a right operand that are packed by one task, where all tasks share it.
const PANELS_A_TASK: usize = 4;

/// How many times as fast as vectors a tile unit is: its products are worth another thread later.
const TILES_SPEED: usize = 4;

/// Computes every group's product into its place; all of each group's `[left.rows, right.rows]` is
/// written.
pub(super) fn product(
    route: Route,
    groups: &[Group<'_>],
    accumulation: Accumulation,
    out: &Output<'_>,
    threads: Threads,
) {
    let mut sizes = Vec::with_capacity(groups.len());
    let mut work = 0usize;
    for group in groups {
        let (rows, columns, depth) = (group.left.rows(), group.right.rows(), group.left.depth());
        assert_eq!(depth, group.right.depth(), "invariant: the sizes of a product agree");
        let reach = if rows == 0 || columns == 0 {
            0
        } else {
            group.start + (rows - 1) * out.row_stride + columns
        };
        assert!(
            reach <= out.len && (columns <= out.row_stride || rows <= 1),
            "invariant: a result lies inside its output"
        );
        let (speed, columns_a_task) = match accumulation {
            Accumulation::Promoted if route.path(rows).has_tiles() => {
                (TILES_SPEED, Some(columns_a_task(depth)))
            }
            _ => (1, None),
        };
        work = work.saturating_add(rows.saturating_mul(columns).saturating_mul(depth) / speed);
        sizes.push(Size { rows, columns, columns_a_task });
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
        let (path, columns) = (route.path(group.left.rows()), group.right.rows());
        let layout = RightLayout::new(panel_form(path), &group.right);
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
        let group = &groups[task.group];
        dispatch(route.path(group.left.rows()), &Call::Multiply { group, task, out, shared });
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

#[cfg(target_arch = "x86_64")]
type PairVectors = Vectors<Bf16<7>, 2>;
#[cfg(target_arch = "x86_64")]
type Avx512Vectors = Vectors<F32<Avx512, 7>, 2>;
#[cfg(target_arch = "x86_64")]
type Avx2Vectors = Vectors<F32<Avx2, 6>, 1>;
type PlainVectors = Vectors<F32<Plain, 2>, 1>;

fn dispatch(path: GemmPath, call: &Call<'_>) {
    match path {
        // SAFETY: the path says that tiles are permitted, which they are only beside AVX-512 with
        // BF16 and VBMI: a route only has paths of this machine.
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        GemmPath::Amx => unsafe { amx(call) },
        GemmPath::AmxEmulated => emulated_tiles(call),
        // SAFETY: the path says that AVX-512 with BF16 and VBMI has been found.
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx512Bf16 => unsafe { avx512_bf16::<PairVectors>(call) },
        // SAFETY: the path says that AVX-512 F, BW, DQ, VL and FMA have been found.
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx512 => unsafe { avx512(call) },
        // SAFETY: the path says that AVX2 and FMA have been found.
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx2 => unsafe { avx2::<Avx2Vectors>(call) },
        // SAFETY: nothing beyond the baseline is used.
        _ => unsafe { run::<PlainVectors>(call) },
    }
}

/// The emulated tile unit. Whatever instruction set is asked for, its arithmetic has FMA where the
/// machine has: without it each product is a call.
fn emulated_tiles(call: &Call<'_>) {
    // SAFETY: each form is taken only where its instruction set has been found; the plain one needs
    // none.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if GemmPath::Avx512Bf16.is_available() {
            return avx512_bf16::<Tiled<Emulated, Avx512Pairs>>(call);
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return avx2::<Tiled<Emulated, PlainPairs>>(call);
        }
        run::<Tiled<Emulated, PlainPairs>>(call)
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma")]
fn amx(call: &Call<'_>) {
    // SAFETY: the features are those of this function; the path has tiles.
    unsafe { run::<Tiled<Amx, Avx512Pairs>>(call) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,avx2,fma")]
fn avx512_bf16<K: Kernel>(call: &Call<'_>) {
    // SAFETY: the features are those of this function.
    unsafe { run::<K>(call) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512(call: &Call<'_>) {
    // SAFETY: the features are those of this function.
    unsafe { run::<Avx512Vectors>(call) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(call: &Call<'_>) {
    // SAFETY: the features are those of this function.
    unsafe { run::<K>(call) };
}

/// How a path wants its right operand.
fn panel_form(path: GemmPath) -> PanelForm {
    match path {
        GemmPath::Amx | GemmPath::AmxEmulated => Tiled::<Emulated, PlainPairs>::PANEL,
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx512Bf16 => PairVectors::PANEL,
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx512 => Avx512Vectors::PANEL,
        #[cfg(target_arch = "x86_64")]
        GemmPath::Avx2 => Avx2Vectors::PANEL,
        _ => PlainVectors::PANEL,
    }
}

/// Does what `call` asks for, with the microkernel `K`.
///
/// # Safety
/// The instruction set of `K` is there.
#[inline(always)]
unsafe fn run<K: Kernel>(call: &Call<'_>) {
    // SAFETY: the caller vouches for the instruction set; `product` has reserved room for every
    // panel, and hands out `shared` once all of them are packed.
    unsafe {
        match *call {
            Call::Pack { right, place, ref panels } => {
                let width = K::PANEL.width;
                for depth in chunks(0..right.depth(), K::PANEL.chunk) {
                    for panel in panels.clone() {
                        let columns = panel * width..right.rows().min((panel + 1) * width);
                        let first_tile = depth.start / TILE;
                        pack_panel::<K>(right, place, panel, columns, depth.clone(), first_tile);
                    }
                }
            }
            Call::Multiply { group, task, out, shared } => {
                let mut memory = scratch::take_task();
                match scaling(&group.right) {
                    UNSCALED => multiply::<K, UNSCALED>(group, task, out, shared, &mut memory),
                    BLOCK_SCALED => {
                        multiply::<K, BLOCK_SCALED>(group, task, out, shared, &mut memory)
                    }
                    _ => multiply::<K, ROW_SCALED>(group, task, out, shared, &mut memory),
                }
                scratch::keep_task(memory);
            }
        }
    }
}
