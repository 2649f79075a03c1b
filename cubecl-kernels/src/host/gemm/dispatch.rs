//! A piece of a product, computed by the microkernel of a path.

use std::ops::Range;

use super::block::multiply;
use super::kernel::{BLOCK_SCALED, Kernel, ROW_SCALED, TURNED, UNSCALED};
#[cfg(target_arch = "x86_64")]
use super::lanes::Bf16;
use super::lanes::F32;
use super::output::Output;
use super::pack::Pack;
#[cfg(target_arch = "x86_64")]
use super::pack_pairs::Avx512Pairs;
use super::pack_pairs::PlainPairs;
use super::pack_words::Words;
use super::packed::Panels;
use super::path::GemmPath;
use super::plan::Task;
use super::right::{PanelForm, Right, chunks, pack_panel, scaling};
use super::scratch;
use super::source::{Group, Source};
use super::terms::multiply_terms;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::tile_unit::Amx;
use super::tile_unit::Emulated;
use super::tiled::Tiled;
use super::vectors::Vectors;
use crate::definition::TILE;
use crate::host::simd::Plain;
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Avx2, Avx512};

/// What one task does.
pub(super) enum Call<'a> {
    /// Packs panels of a right operand, all of their depth.
    Pack { right: &'a Source<'a>, place: Right, panels: Range<usize> },
    /// Computes a block of a group's result.
    Multiply {
        group: &'a Group<'a>,
        task: &'a Task,
        out: &'a Output<'a>,
        shared: Option<&'a Panels>,
    },
}

#[cfg(target_arch = "x86_64")]
type PairVectors = Vectors<Bf16, Avx512Pairs, 7, 2>;
#[cfg(target_arch = "x86_64")]
type Avx512Vectors = Vectors<F32<Avx512>, Words<Avx512>, 12, 2>;
#[cfg(target_arch = "x86_64")]
type Avx2Vectors = Vectors<F32<Avx2>, Words<Avx2>, 6, 1>;
type PlainVectors = Vectors<F32<Plain>, Words<Plain>, 2, 1>;

/// Does a piece on a path of this machine.
pub(super) fn dispatch(path: GemmPath, call: &Call<'_>) {
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
        // SAFETY: the path says that AVX2, FMA and F16C have been found.
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
        } else if GemmPath::Avx2.is_available() {
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
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<K: Kernel>(call: &Call<'_>) {
    // SAFETY: the features are those of this function.
    unsafe { run::<K>(call) };
}

/// How a path wants its right operand.
pub(super) fn panel_form(path: GemmPath) -> PanelForm {
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
                let terms = group.left.terms(K::Pack::DEPTH == 1);
                let &[[left, right]] = terms else {
                    if const { K::Pack::DEPTH > 1 } {
                        multiply_terms::<K>(group, task, out, shared, terms, &mut memory);
                    }
                    return scratch::keep_task(memory);
                };
                let shared = shared.map(|shared| shared.taking(right));
                let group = &Group {
                    left: group.left.taking(left),
                    right: group.right.taking(right),
                    start: group.start,
                };
                match scaling(K::PANEL, &group.right) {
                    UNSCALED if const { K::Pack::TURNS } && K::Pack::is_turned(&group.left) => {
                        multiply::<K, TURNED>(group, task, out, shared, &mut memory)
                    }
                    UNSCALED => multiply::<K, UNSCALED>(group, task, out, shared, &mut memory),
                    _ if const { K::PANEL.scaled } => {
                        unreachable!("invariant: scaled words have no scales beside them")
                    }
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
