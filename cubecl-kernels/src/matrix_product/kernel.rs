//! Device code: products in BF16 by matrix instructions, one tile of `C` a cube.
//!
//! Operands are FP32 in memory and are rounded on their way into shared memory, as pairs in rows as
//! they lie: a row of [`Along::Depth`] is a line's depths, of [`Along::Lines`] a depth's lines, and
//! `ldmatrix` turns what has to be turned. Two buffers, so that the next step's numbers are under way
//! while one is multiplied.

use super::plan::{Form, Grouping, Lying, QUAD, STEP};
use crate::device::matrix::MatrixUnit;
use crate::device::matrix::fragment::{
    A_WORDS, COLUMNS, DEPTH, Exchange, HELD, Left, PLANE, ROWS, c_column, c_row, exchange,
    load_left, load_right_two, multiply_add, pair, pair_rows,
};
use crate::device::piece_of_rows;
use crate::device::raster::tile_of_cube;
use crate::device::tile::Along;
use cubecl::prelude::*;

/// Where an operand's rows begin in memory, as they lie, and how far apart, in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Rows {
    pub(super) base: u32,
    pub(super) step: u32,
}

/// Sizes of a product.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Sizes {
    /// Rows of `C`, of each group where groups are along the depth.
    pub(super) m: u32,
    pub(super) n: u32,
    /// Depth, where it is not a group's.
    pub(super) k: u32,
    pub(super) groups: u32,
    pub(super) a: Rows,
    pub(super) b: Rows,
    /// From a group's `B` to the next, in vectors.
    pub(super) b_group: u32,
    pub(super) c_base: u32,
}

/// What one cube multiplies.
#[derive(CubeType, Clone, Copy)]
struct Problem {
    /// First line of `A`, and the first that is not to be taken; rows of `C` but for `c_row`.
    row: u32,
    row_end: u32,
    /// From a line of `A` to its row of `C`.
    c_row: u32,
    depth: u32,
    depth_end: u32,
    /// Where the group's `B` begins.
    b_base: u32,
}

#[cube]
fn locate(bounds: &[u32], sizes: &Sizes, tile_row: u32, #[comptime] form: Form) -> Problem {
    let rows = comptime!(form.tile.rows());
    if comptime!(form.grouping == Grouping::Rows) {
        let piece = piece_of_rows(bounds, sizes.groups, tile_row, rows);
        Problem {
            row: piece.first,
            row_end: piece.end,
            c_row: 0u32,
            depth: 0u32,
            depth_end: sizes.k,
            b_base: sizes.b.base + piece.group * sizes.b_group,
        }
    } else if comptime!(form.grouping == Grouping::Depth) {
        Problem {
            row: tile_row * rows,
            row_end: sizes.m,
            c_row: CUBE_POS_Z * sizes.m,
            depth: bounds[CUBE_POS_Z as usize],
            depth_end: bounds[(CUBE_POS_Z + 1u32) as usize],
            b_base: sizes.b.base,
        }
    } else {
        Problem {
            row: tile_row * rows,
            row_end: sizes.m,
            c_row: 0u32,
            depth: 0u32,
            depth_end: sizes.k,
            b_base: sizes.b.base,
        }
    }
}

/// Lines and depths of an operand that a cube multiplies, and where they lie.
#[derive(CubeType, Clone, Copy)]
struct Source {
    base: u32,
    step: u32,
    first: u32,
    end: u32,
    depth_end: u32,
}

/// `c[i, j] (+)= sum over l of a[i, l] b[j, l]` of operands rounded to BF16, in FP32; added to what
/// is there where the form says so.
///
/// # Shapes
/// `a` and `b` by their rows as they lie; `bounds` `[groups + 1]` or longer: the first row, or depth,
/// of each group and the number of them, not read where there are no groups; `c` `[rows, n]` from its
/// base on, or `[groups, m, n]`.
#[cube(launch_unchecked)]
pub(super) fn matrix_product<NA: Size, NB: Size>(
    a: &[Vector<f32, NA>],
    b: &[Vector<f32, NB>],
    bounds: &[u32],
    c: &mut [f32],
    sizes: Sizes,
    #[comptime] form: Form,
) {
    let tile = comptime!(form.tile);
    let (tile_column, tile_row) = tile_of_cube();
    let problem = locate(bounds, &sizes, tile_row, form);
    let column0 = tile_column * comptime!(tile.columns());
    let depth_end = problem.depth_end;
    let a_source = Source {
        base: sizes.a.base,
        step: sizes.a.step,
        first: problem.row,
        end: problem.row_end,
        depth_end,
    };
    let b_source = Source {
        base: problem.b_base,
        step: sizes.b.step,
        first: column0,
        end: sizes.n,
        depth_end,
    };
    let (a_lies, b_lies) = comptime!((form.a(), form.b()));
    let (a_buffer, b_buffer) = comptime!((a_lies.buffer_words(), b_lies.buffer_words()));
    let mut a_shared = pair_rows(comptime!((2 * a_buffer) as usize));
    let mut b_shared = pair_rows(comptime!((2 * b_buffer) as usize));
    let mut exchange = exchange(comptime!(tile.units()), comptime!(form.unit));
    let mut a_next = Array::<f32>::new(comptime!((QUAD * a_lies.quads()) as usize));
    let mut b_next = Array::<f32>::new(comptime!((QUAD * b_lies.quads()) as usize));
    let held = comptime!(tile.held());
    let mut sums = Array::<f32>::new(comptime!(held as usize));
    #[unroll]
    for e in 0..held {
        sums[e as usize] = 0.0f32;
    }

    // A cube without rows, of which there are some where the host does not know how many are needed,
    // has nothing to sum.
    let depths = select(problem.row < problem.row_end, depth_end - problem.depth, 0u32);
    let steps = depths.div_ceil(STEP);
    if steps > 0u32 {
        fetch::<NA>(a, &a_source, problem.depth, &mut a_next, a_lies);
        fetch::<NB>(b, &b_source, problem.depth, &mut b_next, b_lies);
        put(&mut a_shared, &a_next, 0u32, a_lies, comptime!(form.unit));
        put(&mut b_shared, &b_next, 0u32, b_lies, comptime!(form.unit));
    }
    sync_cube();

    for step in 0..steps {
        let odd = step % 2u32;
        let more = step + 1u32 < steps;
        if more {
            // On its way while this step is computed.
            let next = problem.depth + (step + 1u32) * STEP;
            fetch::<NA>(a, &a_source, next, &mut a_next, a_lies);
            fetch::<NB>(b, &b_source, next, &mut b_next, b_lies);
        }

        let (a_start, b_start) = (odd * a_buffer, odd * b_buffer);
        multiply_step(&a_shared, a_start, &b_shared, b_start, &mut sums, &mut exchange, form);

        if more {
            // The other buffer was last read a step ago, before the barrier that ended it.
            let other = 1u32 - odd;
            put(&mut a_shared, &a_next, other * a_buffer, a_lies, comptime!(form.unit));
            put(&mut b_shared, &b_next, other * b_buffer, b_lies, comptime!(form.unit));
        }
        sync_cube();
    }

    write(&sums, c, &problem, &sizes, column0, form);
}

/// The unit's numbers of a step: [`QUAD`] by [`QUAD`], neighbours of a row as the operand lies, zero
/// outside it.
#[cube]
fn fetch<N: Size>(
    x: &[Vector<f32, N>],
    source: &Source,
    depth: u32,
    next: &mut Array<f32>,
    #[comptime] lies: Lying,
) {
    let along_depth = comptime!(lies.along == Along::Depth);
    let (row0, row_end) =
        if comptime!(along_depth) { (source.first, source.end) } else { (depth, source.depth_end) };
    let (entry0, entry_end) =
        if comptime!(along_depth) { (depth, source.depth_end) } else { (source.first, source.end) };
    let row_quads = comptime!(lies.row_quads());
    #[unroll]
    for i in 0..comptime!(lies.quads()) {
        let item = i * comptime!(lies.units) + UNIT_POS;
        let row = row0 + item / row_quads;
        let entry = entry0 + item % row_quads * QUAD;
        if comptime!(lies.width == QUAD) {
            let mut quad = Vector::<f32, N>::zero();
            if row < row_end && entry < entry_end {
                quad = x[(source.base + row * source.step + entry / QUAD) as usize];
            }
            #[unroll]
            for s in 0..QUAD {
                next[comptime!((i * QUAD + s) as usize)] = quad.extract(comptime!(s as usize));
            }
        } else {
            #[unroll]
            for s in 0..QUAD {
                let mut value = 0.0f32;
                if row < row_end && entry + s < entry_end {
                    let one = x[(source.base + row * source.step + entry + s) as usize];
                    value = one.extract(0usize);
                }
                next[comptime!((i * QUAD + s) as usize)] = value;
            }
        }
    }
}

/// Rounds what [`fetch`] took, into the buffer from word `start` on.
#[cube]
fn put(
    shared: &mut Shared<[u32]>,
    next: &Array<f32>,
    start: u32,
    #[comptime] lies: Lying,
    #[comptime] unit: MatrixUnit,
) {
    let row_quads = comptime!(lies.row_quads());
    #[unroll]
    for i in 0..comptime!(lies.quads()) {
        let item = i * comptime!(lies.units) + UNIT_POS;
        let place = start + item / row_quads * comptime!(lies.stride()) + item % row_quads * 2u32;
        let e = comptime!((i * QUAD) as usize);
        let low = pair(next[e], next[comptime!(e + 1)], unit);
        let high = pair(next[comptime!(e + 2)], next[comptime!(e + 3)], unit);
        shared[place as usize] = low;
        shared[(place + 1u32) as usize] = high;
    }
}

/// Adds the products of a step to the plane's sums, a slice of the instruction's depth after another.
#[cube]
fn multiply_step(
    a_shared: &Shared<[u32]>,
    a_start: u32,
    b_shared: &Shared<[u32]>,
    b_start: u32,
    sums: &mut Array<f32>,
    exchange: &mut Exchange,
    #[comptime] form: Form,
) {
    let (tile, unit) = comptime!((form.tile, form.unit));
    let (a_lies, b_lies) = comptime!((form.a(), form.b()));
    let lane = UNIT_POS % PLANE;
    let plane = UNIT_POS / PLANE;
    let row = plane / comptime!(tile.planes.1) * comptime!(tile.plane.0);
    let column = plane % comptime!(tile.planes.1) * comptime!(tile.plane.1);
    #[unroll]
    for slice in 0..STEP / DEPTH {
        let depth = slice * DEPTH;
        let mut lefts = Array::<u32>::new(comptime!((tile.down() * A_WORDS) as usize));
        #[unroll]
        for down in 0..comptime!(tile.down()) {
            let at = a_start + place(row + down * ROWS, depth, a_lies);
            let (stride, along) = comptime!((a_lies.stride(), a_lies.along));
            let left = load_left(a_shared, at, lane, stride, along, unit);
            let w = comptime!((down * A_WORDS) as usize);
            lefts[w] = left.word0;
            lefts[comptime!(w + 1)] = left.word1;
            lefts[comptime!(w + 2)] = left.word2;
            lefts[comptime!(w + 3)] = left.word3;
        }
        // Two columns of matrices at once, since one instruction loads both.
        #[unroll]
        for two in 0..comptime!(tile.along() / 2) {
            let at = b_start + place(column + two * (2u32 * COLUMNS), depth, b_lies);
            let (stride, along) = comptime!((b_lies.stride(), b_lies.along));
            let (first, second) = load_right_two(b_shared, at, lane, stride, along, unit);
            #[unroll]
            for down in 0..comptime!(tile.down()) {
                let w = comptime!((down * A_WORDS) as usize);
                let left = Left {
                    word0: lefts[w],
                    word1: lefts[comptime!(w + 1)],
                    word2: lefts[comptime!(w + 2)],
                    word3: lefts[comptime!(w + 3)],
                };
                let e = comptime!((down * tile.along() + 2 * two) * HELD);
                multiply_add(left, first, sums, e, exchange, unit);
                multiply_add(left, second, sums, comptime!(e + HELD), exchange, unit);
            }
        }
    }
}

/// Where a line's depth is in a buffer, both at the beginning of a word.
#[cube]
fn place(line: u32, depth: u32, #[comptime] lies: Lying) -> u32 {
    let stride = comptime!(lies.stride());
    if comptime!(lies.along == Along::Depth) {
        line * stride + depth / 2u32
    } else {
        depth * stride + line / 2u32
    }
}

/// Writes the plane's sums.
#[cube]
fn write(
    sums: &Array<f32>,
    c: &mut [f32],
    problem: &Problem,
    sizes: &Sizes,
    column0: u32,
    #[comptime] form: Form,
) {
    let tile = comptime!(form.tile);
    let lane = UNIT_POS % PLANE;
    let plane = UNIT_POS / PLANE;
    let row0 = problem.row + plane / comptime!(tile.planes.1) * comptime!(tile.plane.0);
    let column0 = column0 + plane % comptime!(tile.planes.1) * comptime!(tile.plane.1);
    #[unroll]
    for down in 0..comptime!(tile.down()) {
        #[unroll]
        for along in 0..comptime!(tile.along()) {
            #[unroll]
            for h in 0..HELD {
                let row = row0 + down * ROWS + c_row(lane, h);
                let column = column0 + along * COLUMNS + c_column(lane, h);
                if row < problem.row_end && column < sizes.n {
                    let place = sizes.c_base + (problem.c_row + row) * sizes.n + column;
                    let e = comptime!(((down * tile.along() + along) * HELD + h) as usize);
                    if comptime!(form.added) {
                        c[place as usize] += sums[e];
                    } else {
                        c[place as usize] = sums[e];
                    }
                }
            }
        }
    }
}
