//! The microkernel of vector registers.

use std::marker::PhantomData;

use super::kernel::{Kernel, TileCall};
use super::left::{LeftLayout, VECTOR_ROW};
use super::pack::Pack;
use super::register_tile::RegisterTile;
use super::right::PanelForm;
use crate::definition::TILE;
use crate::host::simd::LANES;

/// The most rows of any tile.
const MAX_ROWS: usize = 12;

/// The microkernel of an instruction set: tiles of up to `R` rows and `16 V` columns, whose
/// operands `P` packs.
pub(super) struct Vectors<L, P, const R: usize, const V: usize>(PhantomData<(L, P)>);

impl<L: RegisterTile, P: Pack, const R: usize, const V: usize> Kernel for Vectors<L, P, R, V> {
    type Pack = P;
    const PANEL: PanelForm = PanelForm {
        width: V * LANES,
        depth_a_word: P::DEPTH,
        // Results are read and written once a chunk. A panel of it takes 32 KiB, which the second
        // cache hands on as fast as it is used.
        chunk: 2 * P::DEPTH * 2 / V,
        spread: false,
        scaled: P::SCALED,
    };
    const LEFT: LeftLayout = LeftLayout::rows(P::DEPTH);
    const LEFT_ROW: usize = VECTOR_ROW;
    const ROWS: usize = R;
    const WHOLE: bool = false;
    const COLUMNS: usize = LANES;
    // Packed rows that the second cache keeps beside a panel: 200 KiB at most.
    const STRIP: usize = 8 * R;
    const REACH: usize = Self::PANEL.chunk;
    const MEMORY: usize = 0;
    const ASKS: bool = true;
    const SEGMENTS: bool = false;

    #[inline(always)]
    unsafe fn begin(_: *mut u32) -> Self {
        const { assert!(R <= MAX_ROWS && V <= 2 && L::DEPTH == P::DEPTH) };
        const { assert!(Self::PANEL.chunk * TILE / P::DEPTH <= VECTOR_ROW) };
        Self(PhantomData)
    }

    /// Calls [`RegisterTile::tile`] with the number of rows and of vectors as constants.
    #[inline(always)]
    unsafe fn tile<const SCALES: usize>(&mut self, rows: usize, columns: usize, call: &TileCall) {
        macro_rules! by_rows {
            ($vectors:tt: $($rows:literal)*) => {
                match rows {
                    // SAFETY: the caller vouches for the pointers of `call` and the instruction
                    // set.
                    $($rows if const { $rows <= R } => unsafe {
                        L::tile::<$rows, $vectors, SCALES>(call)
                    },)*
                    _ => unreachable!("invariant: a tile has 1 to {R} rows"),
                }
            };
        }
        if V > 1 && columns <= LANES {
            by_rows!(1: 1 2 3 4 5 6 7 8 9 10 11 12)
        } else {
            by_rows!(V: 1 2 3 4 5 6 7 8 9 10 11 12)
        }
    }

    #[inline(always)]
    unsafe fn finish(&mut self) {}
}
