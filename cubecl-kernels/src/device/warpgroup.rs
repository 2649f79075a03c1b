//! What kernels of Hopper's warpgroups share: a ring of stages in shared memory that the copy engine
//! fills and `wgmma` multiplies from.
//!
//! One plane of a cube asks the copy engine for tiles of both operands, a ring of stages ahead; two
//! warpgroups multiply. CubeCL has no operation for `wgmma`, so the instruction is written as inline
//! PTX; all else is CubeCL.

use super::{Shortfall, compute_capability};
use cubecl::features::Tma;
use cubecl::ir::{ElemType, UIntKind};
use cubecl::prelude::barrier::Barrier;
use cubecl::prelude::*;
use cubecl::server::Handle;
use cubecl::zspace::{shape, strides};

/// Rows of `C` a cube computes: 64 a warpgroup.
pub(crate) const ROWS: u32 = 128;
/// Columns of `C` a cube computes, in one instruction.
///
/// Twice as many would fetch each tile of `A` half as often, but their sums do not fit a unit's
/// registers: the compiler puts the second instruction before the promotion of the first one's
/// sums.
pub(crate) const COLUMNS: u32 = 128;
/// Tiles of both operands that are under way or in work.
pub(crate) const STAGES: u32 = 6;
pub(crate) const PLANE: u32 = 32;
const WARPGROUP: u32 = 128;
pub(crate) const PLANES_A_WARPGROUP: u32 = WARPGROUP / PLANE;
/// Planes that multiply: two warpgroups. The one after them asks for copies.
pub(crate) const PLANES: u32 = 2 * PLANES_A_WARPGROUP;
pub(crate) const COPY_PLANE: u32 = PLANES;
/// Units of a cube.
pub(crate) const UNITS: u32 = (PLANES + 1) * PLANE;
/// Words of a row in a stage: 128 bytes, over which the copy engine swizzles.
pub(crate) const WORDS: u32 = 32;
/// FP32 numbers of a 64x128 result in each unit.
pub(crate) const HELD: u32 = 64;
/// Rows of a result that a plane holds, four units to a row. A unit holds two rows, so far apart,
/// and of each eight columns the same two of both.
pub(crate) const PLANE_ROWS: u32 = 16;
pub(crate) const UNITS_A_ROW: u32 = 4;
pub(crate) const ROWS_APART: u32 = 8;

/// Words of a stage of either operand: as many rows of `A` as columns of `C`.
pub(crate) const STAGE: u32 = ROWS * WORDS;
/// Bytes that the copy engine brings for a stage, of both operands.
const STAGE_BYTES: u32 = 4 * 2 * STAGE;
/// From the unit's first row to that of number `e` of those that it holds (PTX ISA, "register
/// fragments for wgmma").
pub(crate) const fn row_of(e: u32) -> u32 {
    ROWS_APART * ((e / 2) % 2)
}

/// From the unit's first column to that of number `e` of those that it holds.
pub(crate) const fn column_of(e: u32) -> u32 {
    8 * (e / 4) + e % 2
}

/// Why a device cannot run a kernel of warpgroups with so many bytes of shared memory beside the
/// ring, where it cannot: the instruction is compute capability 9.0's alone, whose copy engine the
/// runtime reports.
pub(crate) fn shortfall(client: &Client, beside: u32) -> Option<Shortfall> {
    // Barriers and alignment included.
    let bytes = STAGES * STAGE_BYTES + beside + 2048;
    let hardware = &client.properties().hardware;
    if compute_capability(client) != Some(90) || !client.features().tma.contains(Tma::Base) {
        Some(Shortfall::NoInstruction)
    } else if hardware.max_units_per_cube < UNITS
        || hardware.max_shared_memory_size < bytes as usize
    {
        Some(Shortfall::NoRoom)
    } else {
        None
    }
}

/// `rows` rows of `words` words as the copy engine takes them, in boxes of `box_rows` by [`WORDS`],
/// swizzled over 128 bytes; `None` where there are none.
///
/// The copy engine needs a buffer and rows that begin at multiples of 16 bytes. `codes` must hold as
/// many words, which the caller has checked.
pub(crate) fn map(
    codes: &Handle,
    rows: usize,
    words: usize,
    box_rows: u32,
) -> Option<TensorMapArg<Tiled>> {
    if rows == 0 || words == 0 {
        return None;
    }
    // SAFETY: the caller says that the buffer holds `rows * words` words, and the strides are those
    // of rows one after another.
    let codes = unsafe {
        TensorArg::from_raw_parts(codes.clone(), strides![words, 1], shape![rows, words])
    };
    let boxes = TiledArgs { tile_size: shape![box_rows as usize, WORDS as usize] };
    let map = TensorMapArg::new(boxes, codes, ElemType::UInt(UIntKind::U32));
    Some(map.with_swizzle(TensorMapSwizzle::B128).with_prefetch(TensorMapPrefetch::B256))
}

/// Stages in shared memory, each filled by the copy engine and emptied by the planes that multiply.
#[derive(CubeType)]
pub(crate) struct Ring {
    pub(crate) a: Shared<[u32]>,
    pub(crate) b: Shared<[u32]>,
    /// Per stage: both tiles have arrived.
    pub(crate) full: Sequence<Shared<Barrier>>,
    /// Per stage: every plane has multiplied.
    pub(crate) empty: Sequence<Shared<Barrier>>,
}

/// The stages, and barriers that are not yet to be used.
#[cube]
pub(crate) fn ring() -> Ring {
    // A swizzled tile begins at a multiple of 1024 bytes, and each stage is a whole number of them.
    let a = Shared::<[u32]>::new_aligned_slice(comptime!((STAGES * STAGE) as usize), 1024usize);
    let b = Shared::<[u32]>::new_aligned_slice(comptime!((STAGES * STAGE) as usize), 1024usize);
    let mut full = Sequence::<Shared<Barrier>>::new();
    let mut empty = Sequence::<Shared<Barrier>>::new();
    #[unroll]
    for _ in 0..STAGES {
        full.push(Barrier::shared_uninit());
        empty.push(Barrier::shared_uninit());
    }
    Ring { a, b, full, empty }
}

/// Sets the barriers up, by one unit; all others may use them after the cube's next barrier.
#[cube]
pub(crate) fn open_ring(ring: &Ring) {
    if UNIT_POS == 0u32 {
        #[unroll]
        for s in 0..STAGES {
            // One arrival by the unit that asks for copies, one by each plane that multiplies.
            ring.full[s as usize].init_manual(1u32);
            ring.empty[s as usize].init_manual(PLANES);
        }
        sync_async_proxy_shared();
    }
}

/// Asks for a step's tiles of both operands, from their rows and a word on, into stage `s`.
#[cube]
pub(crate) fn ask_for_copies(
    a: &TensorMap<u32, Tiled>,
    a_row: u32,
    b: &TensorMap<u32, Tiled>,
    b_row: u32,
    word: u32,
    ring: &mut Ring,
    #[comptime] s: u32,
) {
    let bytes = comptime!(STAGE_BYTES);
    ring.full[s as usize].arrive_and_expect_tx(1u32, bytes.runtime());
    let (from, to) = comptime!(((s * STAGE) as usize, ((s + 1) * STAGE) as usize));
    let word = word as i32;
    ring.full[s as usize].tma_load_2d(a, &mut ring.a[from..to], a_row as i32, word);
    ring.full[s as usize].tma_load_2d(b, &mut ring.b[from..to], b_row as i32, word);
}

/// What `wgmma` takes for a tile whose rows of 128 bytes are swizzled: its address, 1024 bytes from
/// eight rows to the next, and the kind of swizzle, in units of 16 bytes (PTX ISA, "matrix
/// descriptor").
#[cube]
pub(crate) fn descriptor(address: u32) -> u64 {
    let fixed = comptime!((1u64 << 62) | (64u64 << 32) | (1u64 << 16));
    u64::cast_from((address & 0x3FFFFu32) >> 4u32) | fixed.runtime()
}
