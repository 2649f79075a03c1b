//! Device code of products on Hopper's tensor cores: `wgmma` on tiles that the copy engine brings,
//! partial sums of 128 promoted to FP32 (3.3.2, 3.5.2).
//!
//! One plane of a cube asks the copy engine for tiles of both operands, a ring of stages ahead; two
//! warpgroups multiply. While one of them promotes its partial sums, the other's products keep the
//! tensor cores busy. CubeCL has no operation for `wgmma`, so the instruction is written as inline
//! PTX; all else is CubeCL.

use super::problem::{GemmForm, ScaleOf, Sizes, at_most, b_scale_index, locate};
use crate::definition::TILE;
use cubecl::features::Tma;
use cubecl::ir::{ElemType, UIntKind};
use cubecl::prelude::barrier::Barrier;
use cubecl::prelude::*;
use cubecl::server::Handle;
use cubecl::zspace::{shape, strides};

/// Rows of `C` a cube computes: 64 a warpgroup.
pub(in crate::gemm) const ROWS: u32 = 128;
/// Columns of `C` a cube computes, in one instruction.
///
/// Twice as many would fetch each tile of `A` half as often, but their sums do not fit a unit's
/// registers: the compiler puts the second instruction before the promotion of the first one's
/// sums.
pub(in crate::gemm) const COLUMNS: u32 = 128;
/// Tiles of both operands that are under way or in work.
const STAGES: u32 = 6;
const PLANE: u32 = 32;
const WARPGROUP: u32 = 128;
/// Two warpgroups that multiply and the plane that asks for copies.
pub(in crate::gemm) const UNITS: u32 = 2 * WARPGROUP + PLANE;
/// Words of a row in a stage: one tile of 128 codes.
const WORDS: u32 = TILE as u32 / 4;
/// FP32 numbers of a 64x128 result in each unit.
const HELD: u32 = 64;
/// Rows of tiles that are computed together, so that cubes at work at one time share operands in
/// the cache.
const RASTER: u32 = 16;

/// Words of a stage of either operand: as many rows of `A` as columns of `C`.
const STAGE: u32 = ROWS * WORDS;
/// Bytes of shared memory of a cube, barriers and alignment included.
const SHARED_BYTES: u32 = 4 * 2 * STAGES * STAGE + 4 * 8 * COLUMNS + 2048;

/// Whether a device has the instruction: compute capability 9.0 alone, whose copy engine the
/// runtime reports.
pub(in crate::gemm) fn supported(client: &Client) -> bool {
    let properties = client.properties();
    let hardware = &properties.hardware;
    properties.identity.fingerprint == "ptx_sm90"
        && client.features().tma.contains(Tma::Base)
        && hardware.max_units_per_cube >= UNITS
        && hardware.max_shared_memory_size >= SHARED_BYTES as usize
}

/// `rows` rows of `words` words of codes as the copy engine takes them, in boxes of `box_rows`.
///
/// The copy engine needs a buffer and rows that begin at multiples of 16 bytes; `None` where they
/// do not. `codes` must hold as many words, which [`Product`](crate::gemm::product::Product) checks
/// of its operands.
pub(in crate::gemm) fn map(
    codes: &Handle,
    rows: usize,
    words: usize,
    box_rows: u32,
) -> Option<TensorMapArg<Tiled>> {
    if rows == 0
        || words == 0
        || !words.is_multiple_of(4)
        || !codes.offset_start.unwrap_or(0).is_multiple_of(16)
    {
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

/// The product of [`gemm_tiles`](super::tiles::gemm_tiles) by `wgmma`. The maps are of words, in
/// boxes of a tile's rows and [`WORDS`] words, swizzled over 128 bytes.
#[cube(launch_unchecked)]
pub(in crate::gemm) fn gemm_warpgroups<O: Float>(
    a_map: &TensorMap<u32, Tiled>,
    a_scales: &[f32],
    b_map: &TensorMap<u32, Tiled>,
    b_scales: &[f32],
    groups: &[u32],
    c: &mut [O],
    sizes: Sizes,
    #[comptime] form: GemmForm,
) {
    let by_row = comptime!(matches!(form.b_scale, ScaleOf::Row));
    let stages = comptime!(STAGES);

    let (tile_x, tile_y) = tile_of_cube();
    let problem = locate(groups, &sizes, tile_y, ROWS, form.grouping);
    let row0 = problem.tile_row;
    let column0 = tile_x * COLUMNS;
    let live = row0 < problem.rows;
    let steps = select(live, problem.depth.div_ceil(TILE as u32), 0u32);

    // A swizzled tile begins at a multiple of 1024 bytes, and each stage is a whole number of them.
    let mut a_shared =
        Shared::<[u32]>::new_aligned_slice(comptime!((stages * STAGE) as usize), 1024usize);
    let mut b_shared =
        Shared::<[u32]>::new_aligned_slice(comptime!((stages * STAGE) as usize), 1024usize);
    let mut scales_shared =
        Shared::<[f32]>::new_slice(comptime!(if by_row { (8 * COLUMNS) as usize } else { 1 }));
    let mut full = Sequence::<Shared<Barrier>>::new();
    let mut empty = Sequence::<Shared<Barrier>>::new();
    #[unroll]
    for _ in 0..stages {
        full.push(Barrier::shared_uninit());
        empty.push(Barrier::shared_uninit());
    }
    if UNIT_POS == 0u32 {
        #[unroll]
        for s in 0..stages {
            full[s as usize].init_manual(1u32);
            // One arrival a plane that multiplies.
            empty[s as usize].init_manual(8u32);
        }
        sync_async_proxy_shared();
    }
    sync_cube();

    let lane = UNIT_POS % PLANE;
    let plane = UNIT_POS / PLANE;
    let rounds = steps.div_ceil(stages);
    if plane == 8u32 {
        if lane == 0u32 {
            for round in 0..rounds {
                let parity = (round + 1u32) % 2u32;
                #[unroll]
                for s in 0..stages {
                    let step = round * stages + s;
                    if step < steps {
                        empty[s as usize].wait_parity(parity);
                        let bytes = comptime!(4 * 2 * STAGE);
                        full[s as usize].arrive_and_expect_tx(1u32, bytes.runtime());
                        let word = (problem.word + step * WORDS) as i32;
                        let (from, to) =
                            comptime!(((s * STAGE) as usize, ((s + 1) * STAGE) as usize));
                        full[s as usize].tma_load_2d(
                            a_map,
                            &mut a_shared[from..to],
                            (problem.a_row + row0) as i32,
                            word,
                        );
                        full[s as usize].tma_load_2d(
                            b_map,
                            &mut b_shared[from..to],
                            (problem.b_row + column0) as i32,
                            word,
                        );
                    }
                }
            }
        }
    } else {
        let warpgroup = plane / 4u32;
        let mut total = Array::<f32>::new(comptime!(HELD as usize));
        #[unroll]
        for e in 0..HELD {
            total[e as usize] = 0.0f32;
        }
        let last_row = select(live, problem.rows - 1u32, 0u32);
        let last_column = sizes.n - 1u32;
        // A unit holds two rows, eight apart, and of each eight columns the same two of both.
        let row = row0 + plane * 16u32 + lane / 4u32;
        let a_scale0 = (problem.a_row + at_most(row, last_row)) * sizes.a_tiles + problem.tile;
        let a_scale1 =
            (problem.a_row + at_most(row + 8u32, last_row)) * sizes.a_tiles + problem.tile;
        let a_start = shared_address(&a_shared) + warpgroup * comptime!(4 * (ROWS / 2) * WORDS);
        let b_start = shared_address(&b_shared);

        for round in 0..rounds {
            let parity = round % 2u32;
            #[unroll]
            for s in 0..stages {
                let step = round * stages + s;
                if step < steps {
                    // Loaded before the products, so that they are there when the products are.
                    let scale0 = a_scales[(a_scale0 + step) as usize];
                    let scale1 = a_scales[(a_scale1 + step) as usize];
                    if by_row {
                        sync_plane();
                        #[unroll]
                        for i in 0..4u32 {
                            let column = at_most(column0 + lane * 4u32 + i, last_column);
                            let from = b_scale_index(&sizes, &problem, column, step, form.b_scale);
                            scales_shared[(plane * COLUMNS + lane * 4u32 + i) as usize] =
                                b_scales[from as usize];
                        }
                        sync_plane();
                    }
                    full[s as usize].wait_parity(parity);
                    let b_scale = if by_row {
                        f32::new(1.0)
                    } else {
                        let column = at_most(column0, last_column);
                        b_scales
                            [b_scale_index(&sizes, &problem, column, step, form.b_scale) as usize]
                    };
                    let a = descriptor(a_start + comptime!(4 * s * STAGE));
                    let b = descriptor(b_start + comptime!(4 * s * STAGE));
                    let size!(NP) = comptime!(HELD as usize);
                    let partial = multiply::<NP>(a, b);
                    if lane == 0u32 {
                        empty[s as usize].arrive();
                    }
                    let first = scale0 * b_scale;
                    let second = scale1 * b_scale;
                    #[unroll]
                    for e in 0..HELD {
                        let scale = if comptime!((e / 2) % 2 == 0) { first } else { second };
                        let scale = if by_row {
                            let column = plane * COLUMNS
                                + comptime!(8 * (e / 4) + e % 2)
                                + 2u32 * (lane % 4u32);
                            scale * scales_shared[column as usize]
                        } else {
                            scale
                        };
                        total[e as usize] += scale * partial.extract(comptime!(e as usize));
                    }
                }
            }
        }

        #[unroll]
        for e in 0..HELD {
            let own = row + comptime!(8 * ((e / 2) % 2));
            let column = column0 + comptime!(8 * (e / 4) + e % 2) + 2u32 * (lane % 4u32);
            if own < problem.written && column < sizes.n {
                let index = ((problem.c_row + own) * sizes.n + column) as usize;
                let sum = select(own < problem.rows, total[e as usize], 0.0f32);
                if comptime!(form.accumulate) {
                    c[index] = O::cast_from(f32::cast_from(c[index]) + sum);
                } else {
                    c[index] = O::cast_from(sum);
                }
            }
        }
    }
}

/// Column and row of this cube's tile: [`RASTER`] rows of tiles, column by column, then the next.
#[cube]
fn tile_of_cube() -> (u32, u32) {
    let linear = CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X;
    let band = RASTER * CUBE_COUNT_X;
    let first = linear / band * RASTER;
    let rows = at_most(RASTER, CUBE_COUNT_Y - first);
    let within = linear % band;
    (within / rows, first + within % rows)
}

/// Where a shared slice begins, in the addresses of shared memory.
#[cube]
fn shared_address(slice: &Shared<[u32]>) -> u32 {
    let start = slice.as_slice().as_ptr();
    let address: u32;
    gpu_asm!(
        "{{ .reg .u64 whole; cvta.to.shared.u64 whole, {start}; cvt.u32.u64 {address}, whole; }}",
        start = in(_) start, address = out(_) address, options(pure, nomem),
    );
    address
}

/// What `wgmma` takes for a tile whose rows of 128 bytes are swizzled: its address, 1024 bytes from
/// eight rows to the next, and the kind of swizzle, in units of 16 bytes (PTX ISA, "matrix
/// descriptor").
#[cube]
fn descriptor(address: u32) -> u64 {
    let fixed = comptime!((1u64 << 62) | (64u64 << 32) | (1u64 << 16));
    u64::cast_from((address & 0x3FFFFu32) >> 4u32) | fixed.runtime()
}

/// The 64x128 partial sums of a tile of 128 codes: four products of depth 32, begun at zero, and
/// waited for.
#[cube]
fn multiply<N: Size>(a: u64, b: u64) -> Vector<f32, N> {
    let sums: Vector<f32, N>;
    gpu_asm!(
        "{{\n.reg .pred more;\n.reg .b64 da, db;\n",
        "wgmma.fence.sync.aligned;\n",
        "setp.ne.b32 more, 0, 0;\n",
        "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {sums}, {a}, {b}, more, 1, 1;\n",
        "setp.ne.b32 more, 1, 0;\n",
        "add.s64 da, {a}, 2;\nadd.s64 db, {b}, 2;\n",
        "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {sums}, da, db, more, 1, 1;\n",
        "add.s64 da, {a}, 4;\nadd.s64 db, {b}, 4;\n",
        "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {sums}, da, db, more, 1, 1;\n",
        "add.s64 da, {a}, 6;\nadd.s64 db, {b}, 6;\n",
        "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {sums}, da, db, more, 1, 1;\n",
        "wgmma.commit_group.sync.aligned;\n",
        "wgmma.wait_group.sync.aligned 0;\n}}",
        a = in(_) a, b = in(_) b, sums = out(_) sums, options(readonly),
    );
    sums
}
