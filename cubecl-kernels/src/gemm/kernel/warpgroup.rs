//! Device code of products on Hopper's tensor cores: `wgmma` on tiles that the copy engine brings,
//! partial sums of 128 promoted to FP32 (3.3.2, 3.5.2).
//!
//! The ring of stages and the roles of a cube's planes are those of
//! [`device::warpgroup`](crate::device::warpgroup). While one warpgroup promotes its partial sums, the
//! other's products keep the tensor cores busy.

use super::problem::{
    GemmForm, Problem, RowSpan, ScaleOf, Sizes, a_rows, a_scale, at_most, b_rows, b_scale, locate,
    write_result,
};
use crate::definition::TILE;
use crate::device::Shortfall;
use crate::device::matrix::fragment::shared_address;
use crate::device::raster::tile_of_cube;
use crate::device::warpgroup::{
    self, COLUMNS, COPY_PLANE, HELD, PLANE, PLANE_ROWS, PLANES, PLANES_A_WARPGROUP, ROWS,
    ROWS_APART, STAGE, STAGES, UNITS_A_ROW, WORDS, ask_for_copies, column_of, descriptor,
    open_ring, ring, row_of,
};
use cubecl::prelude::*;

/// Bytes of shared memory of a cube beside the ring: scales of columns, for each plane its own.
const BESIDE_BYTES: u32 = 4 * PLANES * COLUMNS;

/// Why a device cannot run the kernel, where it cannot.
pub(in crate::gemm) fn shortfall(client: &Client) -> Option<Shortfall> {
    warpgroup::shortfall(client, BESIDE_BYTES)
}

/// One operand, its codes as the copy engine takes them: words, in boxes of a tile's rows and
/// [`WORDS`] words, swizzled over 128 bytes.
#[derive(CubeType, CubeLaunch)]
pub(in crate::gemm) struct MappedOperand {
    pub(in crate::gemm) codes: TensorMap<u32, Tiled>,
    /// Scales of its tiles or blocks.
    pub(in crate::gemm) scales: Box<[f32]>,
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
    let mut ring = ring();
    // Scales of a step's columns, for each plane its own; one number, of no use, where a block has
    // one scale.
    let mut column_scales =
        Shared::<[f32]>::new_slice(comptime!(if by_row { (PLANES * COLUMNS) as usize } else { 1 }));
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
                        let word = problem.word + step * WORDS;
                        let a_row = problem.a_row + row0;
                        let b_row = problem.b_row + column0;
                        ask_for_copies(&a.codes, a_row, &b.codes, b_row, word, &mut ring, s);
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
                        load_column_scales(b, &problem, &b_rows, step, &place, &mut column_scales);
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
                        &column_scales,
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

const _: () = assert!(TILE as u32 == 4 * WORDS);
