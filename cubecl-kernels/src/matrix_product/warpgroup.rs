//! Device code of products in BF16 on Hopper's tensor cores: `wgmma` on tiles of pairs that the copy
//! engine brings.
//!
//! The sums of a step of 64 depths are begun at zero and added to those in FP32, as the FP8 kernel
//! promotes its own: while one warpgroup adds, the other's products keep the tensor cores busy.

use super::plan::Grouping;
use crate::device::matrix::fragment::shared_address;
use crate::device::piece_of_rows;
use crate::device::raster::tile_of_cube;
use crate::device::warpgroup::{
    COLUMNS, COPY_PLANE, HELD, PLANE, PLANE_ROWS, PLANES_A_WARPGROUP, ROWS, STAGE, STAGES,
    UNITS_A_ROW, WORDS, ask_for_copies, column_of, descriptor, open_ring, ring, row_of,
};
use cubecl::prelude::*;

/// Sizes of a product.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct WarpgroupSizes {
    pub(super) m: u32,
    pub(super) n: u32,
    /// Words of a line.
    pub(super) words: u32,
    pub(super) groups: u32,
    pub(super) c_base: u32,
}

/// Lines of `A` and of `B` that a cube multiplies.
#[derive(CubeType, Clone, Copy)]
struct Problem {
    row: u32,
    row_end: u32,
    /// The group's first line of `B`.
    b_row: u32,
}

#[cube]
fn locate(
    bounds: &[u32],
    sizes: &WarpgroupSizes,
    tile_row: u32,
    #[comptime] grouping: Grouping,
) -> Problem {
    if comptime!(grouping == Grouping::Rows) {
        let piece = piece_of_rows(bounds, sizes.groups, tile_row, comptime!(ROWS));
        Problem { row: piece.first, row_end: piece.end, b_row: piece.group * sizes.n }
    } else {
        Problem { row: tile_row * ROWS, row_end: sizes.m, b_row: 0u32 }
    }
}

/// The product of [`matrix_product`](super::kernel::matrix_product), without groups along the depth,
/// of operands in pairs.
///
/// # Shapes
/// `a` `[m, words]` and `b` `[groups, n, words]` of pairs along the depth; `bounds` and `c` as there.
#[cube(launch_unchecked)]
pub(super) fn matrix_warpgroups(
    a: &TensorMap<u32, Tiled>,
    b: &TensorMap<u32, Tiled>,
    bounds: &[u32],
    c: &mut [f32],
    sizes: WarpgroupSizes,
    #[comptime] grouping: Grouping,
    #[comptime] added: bool,
) {
    let (tile_column, tile_row) = tile_of_cube();
    let problem = locate(bounds, &sizes, tile_row, grouping);
    let column0 = tile_column * COLUMNS;
    let steps = select(problem.row < problem.row_end, sizes.words.div_ceil(WORDS), 0u32);

    let mut ring = ring();
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
                        let b_row = problem.b_row + column0;
                        ask_for_copies(a, problem.row, b, b_row, step * WORDS, &mut ring, s);
                    }
                }
            }
        }
    } else {
        // The consumers: multiply a stage, leave it, and add what came out.
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
                    ring.full[s as usize].wait_parity(parity);
                    let size!(NP) = comptime!(HELD as usize);
                    let partial = multiply::<NP>(
                        descriptor(a_start + comptime!(4 * s * STAGE)),
                        descriptor(b_start + comptime!(4 * s * STAGE)),
                    );
                    if lane == 0u32 {
                        ring.empty[s as usize].arrive();
                    }
                    #[unroll]
                    for e in 0..HELD {
                        total[e as usize] += partial.extract(comptime!(e as usize));
                    }
                }
            }
        }

        let row0 = problem.row + plane * PLANE_ROWS + lane / UNITS_A_ROW;
        #[unroll]
        for e in 0..HELD {
            let row = row0 + comptime!(row_of(e));
            let column = column0 + comptime!(column_of(e)) + 2u32 * (lane % UNITS_A_ROW);
            if row < problem.row_end && column < sizes.n {
                let place = (sizes.c_base + row * sizes.n + column) as usize;
                if comptime!(added) {
                    c[place] += total[e as usize];
                } else {
                    c[place] = total[e as usize];
                }
            }
        }
    }
}

/// The 64x128 sums of a step of 64 depths: four products of depth 16, begun at zero, and waited for.
#[cube]
fn multiply<N: Size>(a: u64, b: u64) -> Vector<f32, N> {
    let sums: Vector<f32, N>;
    gpu_asm!(
        "{{\n.reg .pred more;\n.reg .b64 da, db;\n",
        "wgmma.fence.sync.aligned;\n",
        "setp.ne.b32 more, 0, 0;\n",
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {sums}, {a}, {b}, more, 1, 1, 0, 0;\n",
        "setp.ne.b32 more, 1, 0;\n",
        "add.s64 da, {a}, 2;\nadd.s64 db, {b}, 2;\n",
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {sums}, da, db, more, 1, 1, 0, 0;\n",
        "add.s64 da, {a}, 4;\nadd.s64 db, {b}, 4;\n",
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {sums}, da, db, more, 1, 1, 0, 0;\n",
        "add.s64 da, {a}, 6;\nadd.s64 db, {b}, 6;\n",
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {sums}, da, db, more, 1, 1, 0, 0;\n",
        "wgmma.commit_group.sync.aligned;\n",
        "wgmma.wait_group.sync.aligned 0;\n}}",
        a = in(_) a, b = in(_) b, sums = out(_) sums, options(readonly),
    );
    sums
}
