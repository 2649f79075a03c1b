//! One tile in vector registers, written once for every instruction set, and compiled as a function
//! of its own for each: within the loops around it the compiler would keep addresses in the
//! registers that the sums need.

// Loops run over the indices of fixed arrays, and nothing is a closure: so arrays stay in
// registers, and everything in the one function that has the features.
#![allow(clippy::needless_range_loop)]

use super::kernel::{BLOCK_SCALED, TURNED, TileCall, UNSCALED};
#[cfg(target_arch = "x86_64")]
use super::lanes::Bf16;
use super::lanes::{F32, Lanes};
use super::left::VECTOR_ROW;
use crate::definition::TILE;
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Avx2, Avx512};
use crate::host::simd::{LANES, Plain, Simd, prefetch};

/// Steps of the depth between two looks at whether there are more. What counts and compares takes
/// ports that multiply, too.
const UNROLLED: usize = 4;

/// What has a tile in registers.
pub(super) trait RegisterTile: Lanes {
    /// Computes a tile of `R` rows and `16 V` columns, as
    /// [`Kernel::tile`](super::kernel::Kernel::tile) says.
    ///
    /// # Safety
    /// Every pointer of `call` is good for what the tile needs, and the instruction set is there.
    unsafe fn tile<const R: usize, const V: usize, const SCALES: usize>(call: &TileCall);
}

macro_rules! register_tile {
    ($($lanes:ty: $(#[$features:meta])?;)*) => {
        $(
            impl RegisterTile for $lanes {
                #[inline(always)]
                unsafe fn tile<const R: usize, const V: usize, const SCALES: usize>(
                    call: &TileCall,
                ) {
                    $(#[$features])?
                    #[inline(never)]
                    unsafe fn alone<const R: usize, const V: usize, const SCALES: usize>(
                        call: &TileCall,
                    ) {
                        // SAFETY: the caller vouches for `call`; the features are those of this
                        // function.
                        unsafe { tile::<$lanes, R, V, SCALES>(call) }
                    }
                    // SAFETY: the caller vouches for `call` and for the instruction set.
                    unsafe { alone::<R, V, SCALES>(call) }
                }
            }
        )*
    };
}

register_tile!(F32<Plain>:;);
#[cfg(target_arch = "x86_64")]
register_tile! {
    F32<Avx2>: #[target_feature(enable = "avx2,fma")];
    F32<Avx512>: #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")];
    Bf16:
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")];
}

/// What [`RegisterTile::tile`] does.
///
/// # Safety
/// Every pointer of `call` is good for what the tile needs, and the instruction set is there.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize, const SCALES: usize>(call: &TileCall) {
    // SAFETY: the caller's promise covers every address below, all of which lie in the tile's
    // operands and result.
    unsafe {
        prefetch_result::<R, V>(call);
        if SCALES == UNSCALED || SCALES == TURNED {
            // Depth tiles follow each other in both operands.
            let sums = sums::<L, R, V, SCALES>(call, call.left, call.right, call.depth);
            write::<L, R, V, SCALES>(call, 0, call.add, &sums);
            return;
        }
        let words = TILE / L::DEPTH;
        for t in 0..call.depth.div_ceil(TILE) {
            let left = call.left.add(t * call.left_stride);
            let right = call.right.add(t * words * call.right_step);
            let depth = (call.depth - t * TILE).min(TILE);
            let sums = sums::<L, R, V, SCALES>(call, left, right, depth);
            write::<L, R, V, SCALES>(call, t, call.add || t > 0, &sums);
        }
    }
}

/// The sums over some of the depth, from these words of the operands on.
///
/// # Safety
/// `left` and `right` are good for the words of the tile's rows and columns, and the instruction
/// set is there.
#[inline(always)]
unsafe fn sums<L: Lanes, const R: usize, const V: usize, const SCALES: usize>(
    call: &TileCall,
    left: *const u32,
    right: *const u32,
    depth: usize,
) -> [[<L::S as Simd>::V; V]; R] {
    // SAFETY: the caller vouches for both operands.
    unsafe {
        let mut sums = [[L::S::zero(); V]; R];
        let steps = depth.div_ceil(L::DEPTH);
        let whole = steps / UNROLLED * UNROLLED;
        for first in (0..whole).step_by(UNROLLED) {
            for i in 0..UNROLLED {
                add_step::<L, R, V, SCALES>(call, left, right, first + i, &mut sums);
            }
        }
        for step in whole..steps {
            add_step::<L, R, V, SCALES>(call, left, right, step, &mut sums);
        }
        sums
    }
}

/// Adds the products of one step of the depth.
///
/// # Safety
/// As for [`sums`], of which it is a step.
#[inline(always)]
unsafe fn add_step<L: Lanes, const R: usize, const V: usize, const SCALES: usize>(
    call: &TileCall,
    left: *const u32,
    right: *const u32,
    step: usize,
    sums: &mut [[<L::S as Simd>::V; V]; R],
) {
    // SAFETY: the caller vouches for both operands.
    unsafe {
        let right = right.add(step * call.right_step);
        let mut columns = [L::load(right); V];
        for v in 1..V {
            columns[v] = L::load(right.add(v * LANES));
        }
        for r in 0..R {
            let turned = SCALES == TURNED;
            let at = if turned { step * call.left_step + r } else { r * VECTOR_ROW + step };
            let row = L::broadcast(left.add(at));
            for v in 0..V {
                sums[r][v] = L::dot(row, columns[v], sums[r][v]);
            }
        }
    }
}

/// Writes the scaled sums of depth tile `t` (or of all), or adds them.
///
/// # Safety
/// Every pointer of `call` is good for what the tile needs, and the instruction set is there.
#[inline(always)]
unsafe fn write<L: Lanes, const R: usize, const V: usize, const SCALES: usize>(
    call: &TileCall,
    t: usize,
    add: bool,
    sums: &[[<L::S as Simd>::V; V]; R],
) {
    // SAFETY: the caller's promise covers scales and result.
    unsafe {
        for r in 0..R {
            let row = match SCALES {
                UNSCALED | TURNED => call.factor,
                BLOCK_SCALED => {
                    *call.left_scales.add(t * call.left_scale_stride + r)
                        * *call.right_scales.add(t)
                }
                _ => *call.left_scales.add(t * call.left_scale_stride + r),
            };
            let row = L::S::splat(row);
            for v in 0..V {
                let scale = match SCALES {
                    UNSCALED | TURNED | BLOCK_SCALED => row,
                    _ => {
                        let columns = L::S::load(
                            &*call.right_scales.add(t * call.right_width + v * LANES).cast(),
                        );
                        L::S::madd(row, columns, L::S::zero())
                    }
                };
                let out = call.out.add(r * call.out_stride + v * LANES).cast::<[f32; LANES]>();
                let before = if add { L::S::load(&*out) } else { L::S::zero() };
                *out = L::S::lanes(L::S::madd(scale, sums[r][v], before));
            }
        }
    }
}

/// Asks for the result's lines, which are rarely in a cache, before they are written.
#[inline(always)]
fn prefetch_result<const R: usize, const V: usize>(call: &TileCall) {
    for r in 0..R {
        prefetch(call.out.wrapping_add(r * call.out_stride).cast(), V * LANES * size_of::<f32>());
    }
}
