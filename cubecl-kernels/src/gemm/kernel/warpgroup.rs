//! Device code of products on Hopper's tensor cores: `wgmma` on tiles that the copy engine brings,
//! partial sums of 128 promoted to FP32 (3.3.2, 3.5.2).
//!
//! One plane of a cube asks the copy engine for tiles of both operands, a ring of stages ahead; two
//! warpgroups multiply. While one of them promotes its partial sums, the other's products keep the
//! tensor cores busy. CubeCL has no operation for `wgmma`, so the instruction is written as inline
//! PTX; all else is CubeCL.

use super::problem::{
    GemmForm, Problem, RowSpan, ScaleOf, Sizes, a_rows, a_scale, at_most, b_rows, b_scale, locate,
    write_result,
};
use crate::definition::TILE;
use crate::device::matrix::fragment::shared_address;
use crate::device::raster::tile_of_cube;
use crate::device::{Shortfall, compute_capability};

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
const PLANES_A_WARPGROUP: u32 = WARPGROUP / PLANE;
/// Planes that multiply: two warpgroups. The one after them asks for copies.
const PLANES: u32 = 2 * PLANES_A_WARPGROUP;
const COPY_PLANE: u32 = PLANES;
/// Units of a cube.
pub(in crate::gemm) const UNITS: u32 = (PLANES + 1) * PLANE;
/// Words of a row in a stage: one tile of 128 codes.
const WORDS: u32 = TILE as u32 / 4;
/// FP32 numbers of a 64x128 result in each unit.
const HELD: u32 = 64;
/// Rows of a result that a plane holds, four units to a row. A unit holds two rows, so far apart,
/// and of each eight columns the same two of both.
const PLANE_ROWS: u32 = 16;
const UNITS_A_ROW: u32 = 4;
const ROWS_APART: u32 = 8;

/// Words of a stage of either operand: as many rows of `A` as columns of `C`.
const STAGE: u32 = ROWS * WORDS;
/// Bytes that the copy engine brings for a stage, of both operands.
const STAGE_BYTES: u32 = 4 * 2 * STAGE;
/// Bytes of shared memory of a cube, barriers and alignment included.
const SHARED_BYTES: u32 = STAGES * STAGE_BYTES + 4 * PLANES * COLUMNS + 2048;

/// From the unit's first row to that of number `e` of those that it holds (PTX ISA, "register
/// fragments for wgmma").
const fn row_of(e: u32) -> u32 {
    ROWS_APART * ((e / 2) % 2)
}

/// From the unit's first column to that of number `e` of those that it holds.
const fn column_of(e: u32) -> u32 {
    8 * (e / 4) + e % 2
}

/// Why a device cannot run the kernel, where it cannot: the instruction is compute capability 9.0's
/// alone, whose copy engine the runtime reports.
pub(in crate::gemm) fn shortfall(client: &Client) -> Option<Shortfall> {
    let hardware = &client.properties().hardware;
    if compute_capability(client) != Some(90) || !client.features().tma.contains(Tma::Base) {
        Some(Shortfall::NoInstruction)
    } else if hardware.max_units_per_cube < UNITS
        || hardware.max_shared_memory_size < SHARED_BYTES as usize
    {
        Some(Shortfall::NoRoom)
    } else {
        None
    }
}

/// `rows` rows of `words` words of codes as the copy engine takes them, in boxes of `box_rows`;
/// `None` where there are none.
///
/// The copy engine needs a buffer and rows that begin at multiples of 16 bytes (`pad::fits`).
/// `codes` must hold as many words, which [`Product`](crate::gemm::product::Product) checks of its
/// operands.
pub(in crate::gemm) fn map(
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

/// One operand, its codes as the copy engine takes them: words, in boxes of a tile's rows and
/// [`WORDS`] words, swizzled over 128 bytes.
#[derive(CubeType, CubeLaunch)]
pub(in crate::gemm) struct MappedOperand {
    pub(in crate::gemm) codes: TensorMap<u32, Tiled>,
    /// Scales of its tiles or blocks.
    pub(in crate::gemm) scales: Box<[f32]>,
}

/// Stages in shared memory, each filled by the copy engine and emptied by the planes that multiply.
#[derive(CubeType)]
struct Ring {
    a: Shared<[u32]>,
    b: Shared<[u32]>,
    /// Per stage: both tiles have arrived.
    full: Sequence<Shared<Barrier>>,
    /// Per stage: every plane has multiplied.
    empty: Sequence<Shared<Barrier>>,
    /// Scales of a step's columns, for each plane its own; one number, of no use, where a block has
    /// one scale.
    column_scales: Shared<[f32]>,
}

/// Where a unit is, and the first of its two rows within the group.
#[derive(CubeType, Clone, Copy)]
struct Place {
    plane: u32,
    lane: u32,
    row: u32,
}

/// The product of [`gemm_tiles`](super::tiles::gemm_tiles) by `wgmma`.
#[cube(launch_unchecked)]
pub(in crate::gemm) fn gemm_warpgroups<O: Float>(
    a: &MappedOperand,
    b: &MappedOperand,
    groups: &[u32],
    c: &mut [O],
    sizes: Sizes,
    #[comptime] form: GemmForm,
) {
    let (tile_x, tile_y) = tile_of_cube();
    let problem = locate(groups, sizes, tile_y, ROWS, form);
    let row0 = problem.tile_row;
    let column0 = tile_x * COLUMNS;
    let steps = select(row0 < problem.rows, problem.depth.div_ceil(TILE as u32), 0u32);

    let by_row = comptime!(matches!(form.b_scale, ScaleOf::Row));
    let mut ring = ring(by_row);
    open_ring(&ring);
    sync_cube();

    let lane = UNIT_POS % PLANE;
    let plane = UNIT_POS / PLANE;
    let rounds = steps.div_ceil(STAGES);
    if plane == COPY_PLANE {
        // The producer: asks for the tiles of both operands, a stage whenever one is empty.
        if lane == 0u32 {
            for round in 0..rounds {
                let parity = (round + 1u32) % 2u32;
                #[unroll]
                for s in 0..STAGES {
                    let step = round * STAGES + s;
                    if step < steps {
                        ring.empty[s as usize].wait_parity(parity);
                        ask_for_copies(a, b, &problem, column0, step, &mut ring, s);
                    }
                }
            }
        }
    } else {
        // The consumers: multiply a stage, leave it, and promote what came out.
        let place = Place { plane, lane, row: row0 + plane * PLANE_ROWS + lane / UNITS_A_ROW };
        let a_rows = a_rows(&problem);
        let b_rows = b_rows(&problem, column0);
        let first_row = at_most(place.row, a_rows.last);
        let second_row = at_most(place.row + ROWS_APART, a_rows.last);
        let warpgroup = plane / PLANES_A_WARPGROUP;
        let a_start = shared_address(&ring.a) + warpgroup * comptime!(4 * (ROWS / 2) * WORDS);
        let b_start = shared_address(&ring.b);
        let mut total = Array::<f32>::new(comptime!(HELD as usize));
        #[unroll]
        for e in 0..HELD {
            total[e as usize] = 0.0f32;
        }

        for round in 0..rounds {
            let parity = round % 2u32;
            #[unroll]
            for s in 0..STAGES {
                let step = round * STAGES + s;
                if step < steps {
                    // Loaded before the products, so that they are there when the products are.
                    let first_scale = a_scale(&a.scales, &problem, first_row, step);
                    let second_scale = a_scale(&a.scales, &problem, second_row, step);
                    if comptime!(by_row) {
                        load_column_scales(
                            b,
                            &problem,
                            &b_rows,
                            step,
                            &place,
                            &mut ring.column_scales,
                        );
                    }

                    ring.full[s as usize].wait_parity(parity);
                    let b_scale = if comptime!(by_row) {
                        f32::new(1.0)
                    } else {
                        b_scale(&b.scales, &problem, at_most(column0, b_rows.last), step)
                    };
                    let size!(NP) = comptime!(HELD as usize);
                    let partial = multiply::<NP>(
                        descriptor(a_start + comptime!(4 * s * STAGE)),
                        descriptor(b_start + comptime!(4 * s * STAGE)),
                    );
                    if lane == 0u32 {
                        ring.empty[s as usize].arrive();
                    }

                    promote::<NP>(
                        partial,
                        first_scale * b_scale,
                        second_scale * b_scale,
                        &ring.column_scales,
                        &place,
                        &mut total,
                        by_row,
                    );
                }
            }
        }

        #[unroll]
        for e in 0..HELD {
            let row = place.row + comptime!(row_of(e));
            let column = column0 + comptime!(column_of(e)) + 2u32 * (lane % UNITS_A_ROW);
            write_result(c, &problem, row, column, total[e as usize]);
        }
    }
}

/// The stages, and barriers that are not yet to be used.
#[cube]
fn ring(#[comptime] by_row: bool) -> Ring {
    // A swizzled tile begins at a multiple of 1024 bytes, and each stage is a whole number of them.
    let a = Shared::<[u32]>::new_aligned_slice(comptime!((STAGES * STAGE) as usize), 1024usize);
    let b = Shared::<[u32]>::new_aligned_slice(comptime!((STAGES * STAGE) as usize), 1024usize);
    let column_scales =
        Shared::<[f32]>::new_slice(comptime!(if by_row { (PLANES * COLUMNS) as usize } else { 1 }));
    let mut full = Sequence::<Shared<Barrier>>::new();
    let mut empty = Sequence::<Shared<Barrier>>::new();
    #[unroll]
    for _ in 0..STAGES {
        full.push(Barrier::shared_uninit());
        empty.push(Barrier::shared_uninit());
    }
    Ring { a, b, full, empty, column_scales }
}

/// Sets the barriers up, by one unit; all others may use them after the cube's next barrier.
#[cube]
fn open_ring(ring: &Ring) {
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

/// Asks for the tiles of `step` of both operands, into stage `s`.
#[cube]
fn ask_for_copies(
    a: &MappedOperand,
    b: &MappedOperand,
    problem: &Problem,
    column0: u32,
    step: u32,
    ring: &mut Ring,
    #[comptime] s: u32,
) {
    let bytes = comptime!(STAGE_BYTES);
    ring.full[s as usize].arrive_and_expect_tx(1u32, bytes.runtime());
    let word = (problem.word + step * WORDS) as i32;
    let (from, to) = comptime!(((s * STAGE) as usize, ((s + 1) * STAGE) as usize));
    let a_row = (problem.a_row + problem.tile_row) as i32;
    let b_row = (problem.b_row + column0) as i32;
    ring.full[s as usize].tma_load_2d(&a.codes, &mut ring.a[from..to], a_row, word);
    ring.full[s as usize].tma_load_2d(&b.codes, &mut ring.b[from..to], b_row, word);
}

/// Puts the scales of a step's columns where the plane's units find those of theirs.
#[cube]
fn load_column_scales(
    b: &MappedOperand,
    problem: &Problem,
    columns: &RowSpan,
    step: u32,
    place: &Place,
    column_scales: &mut Shared<[f32]>,
) {
    sync_plane();
    #[unroll]
    for i in 0..COLUMNS / PLANE {
        let own = place.lane * comptime!(COLUMNS / PLANE) + i;
        let column = at_most(columns.first + own, columns.last);
        column_scales[(place.plane * COLUMNS + own) as usize] =
            b_scale(&b.scales, problem, column, step);
    }
    sync_plane();
}

/// The promotion: partial sums of 128 are scaled and added to sums in FP32 (3.3.2). `first` and
/// `second` are the scales of the unit's two rows.
#[cube]
fn promote<N: Size>(
    partial: Vector<f32, N>,
    first: f32,
    second: f32,
    column_scales: &Shared<[f32]>,
    place: &Place,
    total: &mut Array<f32>,
    #[comptime] by_row: bool,
) {
    #[unroll]
    for e in 0..HELD {
        let scale = if comptime!(row_of(e) == 0) { first } else { second };
        let scale = if comptime!(by_row) {
            let column =
                place.plane * COLUMNS + comptime!(column_of(e)) + 2u32 * (place.lane % UNITS_A_ROW);
            scale * column_scales[column as usize]
        } else {
            scale
        };
        total[e as usize] += scale * partial.extract(comptime!(e as usize));
    }
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
