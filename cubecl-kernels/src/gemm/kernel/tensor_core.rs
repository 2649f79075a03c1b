//! Device code of products on tensor cores: E4M3 `mma` of 16x8x32, partial sums of 128 promoted to
//! FP32 (3.3.2), double-buffered.
//!
//! A register of such a matrix is four neighbouring codes of a row: a word as it lies in memory. So
//! words go from global memory to shared memory to registers without being taken apart.

use super::problem::{
    GemmForm, Operand, Problem, RowSpan, ScaleOf, Sizes, a_rows, a_scale, at_most, b_rows, b_scale,
    locate, write_result,
};
use crate::definition::TILE;
use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::e4m3;
use cubecl::prelude::*;

/// The instruction's shape.
pub(in crate::gemm) const MMA: (u32, u32, u32) = (16, 8, 32);
/// Rows and columns of `C` a cube computes.
pub(in crate::gemm) const BLOCK: u32 = 128;
/// Units of a cube, and of a plane.
pub(in crate::gemm) const UNITS: u32 = 256;
pub(in crate::gemm) const PLANE: u32 = 32;
/// A plane computes 32 rows and 64 columns: 2x8 matrices; planes are 4x2.
const PLANE_ROWS: u32 = 32;
const PLANE_COLUMNS: u32 = 64;
const PLANES_ALONG: u32 = BLOCK / PLANE_COLUMNS;
const DOWN: u32 = PLANE_ROWS / MMA.0;
const ALONG: u32 = PLANE_COLUMNS / MMA.1;
/// Words of each row in a buffer, 64 codes; a tile of 128 is two steps.
const STEP: u32 = 16;
const STEPS_A_TILE: u32 = 2;
/// From one row to the next: with 20 the eight rows and four words that a plane reads at once are
/// in 32 different banks.
const STRIDE: u32 = STEP + 4;
/// Words of each operand that a unit moves in a step.
const MOVED: u32 = BLOCK * STEP / UNITS;
/// FP32 numbers of a 16x8 accumulator in each unit.
const HELD: u32 = MMA.0 * MMA.1 / PLANE;
const BUFFER: u32 = BLOCK * STRIDE;
/// Bytes of shared memory of a cube.
pub(in crate::gemm) const SHARED_BYTES: usize = (4 * BUFFER * 4) as usize;

/// Where a unit is: its place in a plane, and the first row and column of the plane in the cube's
/// tile of `C`.
#[derive(CubeType, Clone, Copy)]
struct Place {
    lane: u32,
    row: u32,
    column: u32,
}

/// The accumulators of a plane's matrices that a unit holds, one matrix after another.
#[derive(CubeType)]
struct Accumulators {
    /// Sums in FP32.
    total: Array<f32>,
    /// Sums of a tile of 128, by the tensor core.
    partial: Array<f32>,
}

/// The product of [`gemm_tiles`](super::tiles::gemm_tiles) by `mma`.
#[cube(launch_unchecked)]
pub(in crate::gemm) fn gemm_mma<O: Float>(
    a: &Operand,
    b: &Operand,
    groups: &[u32],
    c: &mut [O],
    sizes: Sizes,
    #[comptime] form: GemmForm,
) {
    let mma = MmaDefinition::<e4m3, e4m3, f32>::new(MMA.0 as usize, MMA.1 as usize, MMA.2 as usize);
    let problem = locate(groups, sizes, CUBE_POS_Y, BLOCK, form);
    let plane = UNIT_POS / PLANE;
    let place = Place {
        lane: UNIT_POS % PLANE,
        row: (plane / PLANES_ALONG) * PLANE_ROWS,
        column: (plane % PLANES_ALONG) * PLANE_COLUMNS,
    };
    let row0 = problem.tile_row;
    let column0 = CUBE_POS_X * BLOCK;
    let a_rows = a_rows(&problem);
    let b_rows = b_rows(&problem, column0);
    let words = select(row0 < problem.rows, problem.depth.div_ceil(4u32), 0u32);
    let steps = words.div_ceil(STEP);

    let mut a_shared = Shared::<[u32]>::new_slice(comptime!((2 * BUFFER) as usize));
    let mut b_shared = Shared::<[u32]>::new_slice(comptime!((2 * BUFFER) as usize));
    let mut a_next = Array::<u32>::new(MOVED as usize);
    let mut b_next = Array::<u32>::new(MOVED as usize);
    let mut sums = Accumulators {
        partial: Array::<f32>::new(comptime!((DOWN * ALONG * HELD) as usize)),
        total: Array::<f32>::new(comptime!((DOWN * ALONG * HELD) as usize)),
    };

    // The first step's words.
    if steps > 0u32 {
        fetch(&a.codes, &a_rows, problem.word, 0u32, words, &mut a_next);
        fetch(&b.codes, &b_rows, problem.word, 0u32, words, &mut b_next);
        put(&mut a_shared, &a_next, 0u32);
        put(&mut b_shared, &b_next, 0u32);
    }
    sync_cube();

    for step in 0..steps {
        let buffer = (step % 2u32) * BUFFER;
        let more = step + 1u32 < steps;
        if more {
            // On its way while this step is computed.
            let next = (step + 1u32) * STEP;
            fetch(&a.codes, &a_rows, problem.word, next, words, &mut a_next);
            fetch(&b.codes, &b_rows, problem.word, next, words, &mut b_next);
        }

        multiply_step(&mma, &a_shared, &b_shared, buffer, &place, &mut sums);

        if step % STEPS_A_TILE == STEPS_A_TILE - 1u32 || !more {
            let tile = step / STEPS_A_TILE;
            promote(&mma, a, b, &problem, tile, &place, &mut sums);
        }

        if more {
            // The other buffer was last read a step ago, before the barrier that ended it.
            put(&mut a_shared, &a_next, BUFFER - buffer);
            put(&mut b_shared, &b_next, BUFFER - buffer);
        }
        sync_cube();
    }

    #[unroll]
    for down in 0..DOWN {
        #[unroll]
        for along in 0..ALONG {
            #[unroll]
            for h in 0..HELD {
                let (row, column) = mma.position_of_nth(place.lane, h, MatrixIdent::Accumulator);
                let row = row0 + place.row + down * MMA.0 + row;
                let column = column0 + place.column + along * MMA.1 + column;
                let sum = sums.total[comptime!(((down * ALONG + along) * HELD + h) as usize)];
                write_result(c, &problem, row, column, sum);
            }
        }
    }
}

/// The unit's words of a step: [`STEP`] words of a row lie with as many neighbours. Words from
/// `words` on are zeros.
#[cube]
fn fetch(
    codes: &[u32],
    rows: &RowSpan,
    word_base: u32,
    first_word: u32,
    words: u32,
    next: &mut Array<u32>,
) {
    #[unroll]
    for i in 0..MOVED {
        let item = i * UNITS + UNIT_POS;
        let row = at_most(rows.first + item / STEP, rows.last);
        let word = first_word + item % STEP;
        let mut value = 0u32;
        if word < words {
            value = codes[((rows.base + row) * rows.stride + word_base + word) as usize];
        }
        next[i as usize] = value;
    }
}

/// Puts what [`fetch`] took into a buffer.
#[cube]
fn put(shared: &mut Shared<[u32]>, next: &Array<u32>, buffer: u32) {
    #[unroll]
    for i in 0..MOVED {
        let item = i * UNITS + UNIT_POS;
        shared[(buffer + (item / STEP) * STRIDE + item % STEP) as usize] = next[i as usize];
    }
}

/// Adds the products of a step to the partial sums of the plane's matrices, a slice of the
/// instruction's depth after another.
#[cube]
fn multiply_step(
    mma: &MmaDefinition<e4m3, e4m3, f32>,
    a_shared: &Shared<[u32]>,
    b_shared: &Shared<[u32]>,
    buffer: u32,
    place: &Place,
    sums: &mut Accumulators,
) {
    let a_vector = mma.vector_size(MatrixIdent::A);
    let b_vector = mma.vector_size(MatrixIdent::B);
    comptime!(assert!(
        a_vector == 4 && b_vector == 4,
        "invariant: a register holds a word of codes"
    ));
    let a_registers = comptime!((MMA.0 * MMA.2 / PLANE) as usize / a_vector);
    let b_registers = comptime!((MMA.1 * MMA.2 / PLANE) as usize / b_vector);
    let size!(NA) = a_vector;
    let size!(NB) = b_vector;
    #[unroll]
    for slice in 0..STEP * 4u32 / MMA.2 {
        let word0 = comptime!(slice * MMA.2 / 4);
        #[unroll]
        for down in 0..DOWN {
            let mut a = Array::<Vector<e4m3, NA>>::new(a_registers);
            #[unroll]
            for r in 0..a_registers {
                let (row, k) =
                    mma.position_of_nth(place.lane, comptime!((r * 4) as u32), MatrixIdent::A);
                let line = place.row + down * MMA.0 + row;
                let word = a_shared[(buffer + line * STRIDE + word0 + k / 4u32) as usize];
                a[r] = Vector::<e4m3, NA>::reinterpret(word);
            }
            #[unroll]
            for along in 0..ALONG {
                let mut b = Array::<Vector<e4m3, NB>>::new(b_registers);
                #[unroll]
                for r in 0..b_registers {
                    let (k, column) =
                        mma.position_of_nth(place.lane, comptime!((r * 4) as u32), MatrixIdent::B);
                    let line = place.column + along * MMA.1 + column;
                    let word = b_shared[(buffer + line * STRIDE + word0 + k / 4u32) as usize];
                    b[r] = Vector::<e4m3, NB>::reinterpret(word);
                }
                multiply::<NA, NB>(mma, &a, &b, comptime!((down * ALONG + along) * HELD), sums);
            }
        }
    }
}

/// One instruction: the products of two matrices added to the [`HELD`] partial sums from `first`
/// on.
#[cube]
fn multiply<NA: Size, NB: Size>(
    mma: &MmaDefinition<e4m3, e4m3, f32>,
    a: &Array<Vector<e4m3, NA>>,
    b: &Array<Vector<e4m3, NB>>,
    #[comptime] first: u32,
    sums: &mut Accumulators,
) {
    let vector = mma.vector_size(MatrixIdent::Accumulator);
    let registers = comptime!(HELD as usize / vector);
    let size!(NC) = vector;
    let mut before = Array::<Vector<f32, NC>>::new(registers);
    #[unroll]
    for r in 0..registers {
        let mut held = Vector::<f32, NC>::empty();
        #[unroll]
        for i in 0..vector {
            held.insert(i, sums.partial[comptime!(first as usize + r * vector + i)]);
        }
        before[r] = held;
    }
    let after = mma.execute(a, b, &before);
    #[unroll]
    for r in 0..registers {
        let held = after[r];
        #[unroll]
        for i in 0..vector {
            sums.partial[comptime!(first as usize + r * vector + i)] = held.extract(i);
        }
    }
}

/// The promotion: partial sums of 128 leave the tensor core's accumulator for one of FP32, scaled
/// (3.3.2).
#[cube]
fn promote(
    mma: &MmaDefinition<e4m3, e4m3, f32>,
    a: &Operand,
    b: &Operand,
    problem: &Problem,
    tile: u32,
    place: &Place,
    sums: &mut Accumulators,
) {
    let a_rows = a_rows(problem);
    let column0 = CUBE_POS_X * BLOCK;
    let b_rows = b_rows(problem, column0);
    #[unroll]
    for down in 0..DOWN {
        #[unroll]
        for along in 0..ALONG {
            #[unroll]
            for h in 0..HELD {
                let (row, column) = mma.position_of_nth(place.lane, h, MatrixIdent::Accumulator);
                let row = at_most(a_rows.first + place.row + down * MMA.0 + row, a_rows.last);
                let column = at_most(column0 + place.column + along * MMA.1 + column, b_rows.last);
                // A cube's columns are one block, and its scale one load.
                let column = if comptime!(matches!(problem.form.b_scale, ScaleOf::Block)) {
                    column0
                } else {
                    column
                };
                let a_scale = a_scale(&a.scales, problem, row, tile);
                let b_scale = b_scale(&b.scales, problem, column, tile);
                let e = comptime!(((down * ALONG + along) * HELD + h) as usize);
                sums.total[e] += a_scale * b_scale * sums.partial[e];
                sums.partial[e] = 0.0f32;
            }
        }
    }
}

const _: () = assert!(TILE as u32 == STEPS_A_TILE * STEP * 4 && BLOCK as usize == TILE);
