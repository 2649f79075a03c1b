//! The tile in vector registers, written once for every instruction set.

use std::marker::PhantomData;
use std::ops::Range;

use super::kernel::{BLOCK_SCALED, Kernel, TileCall, UNSCALED};
use super::lanes::Lanes;
use super::right::PanelForm;
use super::source::Source;
use crate::definition::TILE;
use crate::host::simd::{LANES, Simd};

/// The most rows of any tile.
const MAX_ROWS: usize = 7;

/// The microkernel of an instruction set: tiles of its rows and of `16 V` columns.
pub(super) struct Vectors<L, const V: usize>(PhantomData<L>);

impl<L: Lanes, const V: usize> Kernel for Vectors<L, V> {
    const PANEL: PanelForm = PanelForm {
        width: V * LANES,
        depth_a_word: L::DEPTH,
        // Results are read and written once a chunk. A panel of it takes 32 or 64 KiB, which the
        // second cache hands on as fast as it is used.
        chunk: 4,
        spread: false,
    };
    const ROWS: usize = L::ROWS;
    const WHOLE: bool = false;
    const STRIP: usize = usize::MAX;
    const REACH: usize = Self::PANEL.chunk;
    const MEMORY: usize = 0;

    #[inline(always)]
    unsafe fn begin(_: *mut u32) -> Self {
        const { assert!(L::ROWS <= MAX_ROWS) };
        Self(PhantomData)
    }

    #[inline(always)]
    unsafe fn pack_left(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        words: *mut u32,
    ) {
        // SAFETY: the caller vouches for the operand, the room and the instruction set.
        unsafe { L::pack_left(source, rows, depth, words) }
    }

    #[inline(always)]
    unsafe fn pack_right(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        words: *mut u32,
    ) {
        // SAFETY: the caller vouches for the operand, the room and the instruction set.
        unsafe { L::pack_right(source, rows, V, depth, words) }
    }

    /// Calls [`tile`] with the number of rows as a constant.
    #[inline(always)]
    unsafe fn tile<const SCALES: usize>(&mut self, rows: usize, call: &TileCall) {
        macro_rules! by_rows {
            ($($rows:literal)*) => {
                match rows {
                    // SAFETY: the caller vouches for the pointers of `call` and the instruction
                    // set.
                    $($rows => unsafe { tile::<L, $rows, V, SCALES>(call) },)*
                    _ => unreachable!("invariant: a tile has 1 to {MAX_ROWS} rows"),
                }
            };
        }
        by_rows!(1 2 3 4 5 6 7)
    }

    #[inline(always)]
    unsafe fn finish(&mut self) {}
}

/// Computes a tile of `R` rows and `16 V` columns, as [`Kernel::tile`] says.
///
/// # Safety
/// Every pointer of `call` is good for what the tile needs, and the instruction set is there.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize, const SCALES: usize>(call: &TileCall) {
    // SAFETY: the caller's promise covers every address below, all of which lie in the tile's
    // operands and result.
    unsafe {
        let words = TILE / L::DEPTH;
        let mut total = [[L::S::zero(); V]; R];
        if call.add {
            for (r, total) in total.iter_mut().enumerate() {
                for (v, total) in total.iter_mut().enumerate() {
                    *total = L::S::load(&*call.out.add(r * call.out_stride + v * LANES).cast());
                }
            }
        }
        prefetch::<R, V>(call);
        for t in 0..call.depth.div_ceil(TILE) {
            let left = call.left.add(t * call.left_stride);
            let right = call.right.add(t * words * V * LANES);
            let steps = (call.depth - t * TILE).min(TILE).div_ceil(L::DEPTH);
            let mut sums = if SCALES == UNSCALED { total } else { [[L::S::zero(); V]; R] };
            for step in 0..steps {
                let columns: [L::W; V] =
                    std::array::from_fn(|v| L::load(right.add((step * V + v) * LANES)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let row = L::broadcast(left.add(r * words + step));
                    for v in 0..V {
                        sums[v] = L::dot(row, columns[v], sums[v]);
                    }
                }
            }
            if SCALES == UNSCALED {
                total = sums;
                continue;
            }
            for r in 0..R {
                let row = *call.left_scales.add(t * call.left_scale_stride + r);
                for v in 0..V {
                    let scale = if SCALES == BLOCK_SCALED {
                        L::S::splat(row * *call.right_scales.add(t))
                    } else {
                        let columns =
                            L::S::load(&*call.right_scales.add((t * V + v) * LANES).cast());
                        L::S::madd(L::S::splat(row), columns, L::S::zero())
                    };
                    total[r][v] = L::S::madd(scale, sums[r][v], total[r][v]);
                }
            }
        }
        for (r, total) in total.iter().enumerate() {
            for (v, &total) in total.iter().enumerate() {
                *call.out.add(r * call.out_stride + v * LANES).cast() = L::S::lanes(total);
            }
        }
    }
}

/// Asks for the result's lines, which are rarely in a cache, before they are written.
#[inline(always)]
fn prefetch<const R: usize, const V: usize>(call: &TileCall) {
    #[cfg(target_arch = "x86_64")]
    for r in 0..R {
        for v in 0..V {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the instruction is part of x86-64, and no address is wrong for it.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(
                    call.out.wrapping_add(r * call.out_stride + v * LANES).cast(),
                )
            };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = call;
}
