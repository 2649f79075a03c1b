//! Device code of products on tensor cores: E4M3 `mma` of 16x8x32, partial sums of 128 promoted to
//! FP32 (3.3.2), double-buffered.
//!
//! A register of such a matrix is four neighbouring codes of a row: a word as it lies in memory. So
//! words go from global memory to shared memory to registers without being taken apart.

use super::problem::{GemmForm, ScaleOf, Sizes, at_most, b_scale_index, locate};
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
const DOWN: u32 = PLANE_ROWS / MMA.0;
const ALONG: u32 = PLANE_COLUMNS / MMA.1;
/// Words of each row in a buffer, 64 codes; a tile of 128 is two steps.
const STEP: u32 = 16;
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

/// The product of [`gemm_tiles`](super::tiles::gemm_tiles) by `mma`.
#[cube(launch_unchecked)]
pub(in crate::gemm) fn gemm_mma<O: Float>(
    a_codes: &[u32],
    a_scales: &[f32],
    b_codes: &[u32],
    b_scales: &[f32],
    groups: &[u32],
    c: &mut [O],
    sizes: Sizes,
    #[comptime] form: GemmForm,
) {
    let mma = MmaDefinition::<e4m3, e4m3, f32>::new(MMA.0 as usize, MMA.1 as usize, MMA.2 as usize);
    let a_vector = mma.vector_size(MatrixIdent::A);
    let b_vector = mma.vector_size(MatrixIdent::B);
    let c_vector = mma.vector_size(MatrixIdent::Accumulator);
    comptime!(assert!(
        a_vector == 4 && b_vector == 4,
        "invariant: a register holds a word of codes"
    ));
    let a_registers = comptime!((MMA.0 * MMA.2 / PLANE) as usize / a_vector);
    let b_registers = comptime!((MMA.1 * MMA.2 / PLANE) as usize / b_vector);
    let c_registers = comptime!(HELD as usize / c_vector);
    let size!(NA) = a_vector;
    let size!(NB) = b_vector;
    let size!(NC) = c_vector;

    let problem = locate(groups, &sizes, CUBE_POS_Y, BLOCK, form.grouping);
    let lane = UNIT_POS % PLANE;
    let plane = UNIT_POS / PLANE;
    let plane_row = (plane / 2u32) * PLANE_ROWS;
    let plane_column = (plane % 2u32) * PLANE_COLUMNS;
    let row0 = problem.tile_row;
    let column0 = CUBE_POS_X * BLOCK;
    let live = row0 < problem.rows;
    let last_row = select(live, problem.rows - 1u32, 0u32);
    let last_column = sizes.n - 1u32;
    let words = select(live, problem.depth.div_ceil(4u32), 0u32);
    let steps = words.div_ceil(STEP);

    let mut a_shared = Shared::<[u32]>::new_slice(comptime!((2 * BUFFER) as usize));
    let mut b_shared = Shared::<[u32]>::new_slice(comptime!((2 * BUFFER) as usize));
    let mut a_next = Array::<u32>::new(MOVED as usize);
    let mut b_next = Array::<u32>::new(MOVED as usize);
    let mut partial = Array::<f32>::new(comptime!((DOWN * ALONG * HELD) as usize));
    let mut total = Array::<f32>::new(comptime!((DOWN * ALONG * HELD) as usize));

    if steps > 0u32 {
        fetch(
            a_codes,
            &mut a_next,
            problem.a_row,
            row0,
            last_row,
            sizes.a_words,
            problem.word,
            0u32,
            words,
        );
        fetch(
            b_codes,
            &mut b_next,
            problem.b_row,
            column0,
            last_column,
            sizes.b_words,
            problem.word,
            0u32,
            words,
        );
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
            fetch(
                a_codes,
                &mut a_next,
                problem.a_row,
                row0,
                last_row,
                sizes.a_words,
                problem.word,
                next,
                words,
            );
            fetch(
                b_codes,
                &mut b_next,
                problem.b_row,
                column0,
                last_column,
                sizes.b_words,
                problem.word,
                next,
                words,
            );
        }
        #[unroll]
        for slice in 0..STEP * 4u32 / MMA.2 {
            let word0 = comptime!(slice * MMA.2 / 4);
            #[unroll]
            for down in 0..DOWN {
                let mut a = Array::<Vector<e4m3, NA>>::new(a_registers);
                #[unroll]
                for r in 0..a_registers {
                    let (row, k) =
                        mma.position_of_nth(lane, comptime!((r * 4) as u32), MatrixIdent::A);
                    let line = plane_row + down * MMA.0 + row;
                    let word = a_shared[(buffer + line * STRIDE + word0 + k / 4u32) as usize];
                    a[r] = Vector::<e4m3, NA>::reinterpret(word);
                }
                #[unroll]
                for along in 0..ALONG {
                    let mut b = Array::<Vector<e4m3, NB>>::new(b_registers);
                    #[unroll]
                    for r in 0..b_registers {
                        let (k, column) =
                            mma.position_of_nth(lane, comptime!((r * 4) as u32), MatrixIdent::B);
                        let line = plane_column + along * MMA.1 + column;
                        let word = b_shared[(buffer + line * STRIDE + word0 + k / 4u32) as usize];
                        b[r] = Vector::<e4m3, NB>::reinterpret(word);
                    }
                    let first = comptime!((down * ALONG + along) * HELD);
                    let mut sums = Array::<Vector<f32, NC>>::new(c_registers);
                    #[unroll]
                    for r in 0..c_registers {
                        let mut held = Vector::<f32, NC>::empty();
                        #[unroll]
                        for i in 0..c_vector {
                            held.insert(i, partial[comptime!(first as usize + r * c_vector + i)]);
                        }
                        sums[r] = held;
                    }
                    let sums = mma.execute(&a, &b, &sums);
                    #[unroll]
                    for r in 0..c_registers {
                        let held = sums[r];
                        #[unroll]
                        for i in 0..c_vector {
                            partial[comptime!(first as usize + r * c_vector + i)] = held.extract(i);
                        }
                    }
                }
            }
        }
        if step % 2u32 == 1u32 || !more {
            let tile = step / 2u32;
            #[unroll]
            for down in 0..DOWN {
                #[unroll]
                for along in 0..ALONG {
                    #[unroll]
                    for h in 0..HELD {
                        let (row, column) = mma.position_of_nth(lane, h, MatrixIdent::Accumulator);
                        let row = at_most(row0 + plane_row + down * MMA.0 + row, last_row);
                        let column =
                            at_most(column0 + plane_column + along * MMA.1 + column, last_column);
                        let a_scale = a_scales[((problem.a_row + row) * sizes.a_tiles
                            + problem.tile
                            + tile) as usize];
                        // A cube's columns are one block, and its scale one load.
                        let column = if comptime!(matches!(form.b_scale, ScaleOf::Block)) {
                            column0
                        } else {
                            column
                        };
                        let b_scale = b_scales
                            [b_scale_index(&sizes, &problem, column, tile, form.b_scale) as usize];
                        let e = comptime!(((down * ALONG + along) * HELD + h) as usize);
                        total[e] += a_scale * b_scale * partial[e];
                        partial[e] = 0.0f32;
                    }
                }
            }
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
                let (row, column) = mma.position_of_nth(lane, h, MatrixIdent::Accumulator);
                let row = row0 + plane_row + down * MMA.0 + row;
                let column = column0 + plane_column + along * MMA.1 + column;
                if row < problem.written && column < sizes.n {
                    let index = ((problem.c_row + row) * sizes.n + column) as usize;
                    let sum = select(
                        row < problem.rows,
                        total[comptime!(((down * ALONG + along) * HELD + h) as usize)],
                        0.0f32,
                    );
                    if comptime!(form.accumulate) {
                        c[index] = O::cast_from(f32::cast_from(c[index]) + sum);
                    } else {
                        c[index] = O::cast_from(sum);
                    }
                }
            }
        }
    }
}

/// The unit's words of a step: [`STEP`] words of a row lie with as many neighbours. Words from
/// `words` on are zeros.
#[cube]
fn fetch(
    codes: &[u32],
    next: &mut Array<u32>,
    row_base: u32,
    first_row: u32,
    last_row: u32,
    row_words: u32,
    word_base: u32,
    first_word: u32,
    words: u32,
) {
    #[unroll]
    for i in 0..MOVED {
        let item = i * UNITS + UNIT_POS;
        let row = at_most(first_row + item / STEP, last_row);
        let word = first_word + item % STEP;
        let mut value = 0u32;
        if word < words {
            value = codes[((row_base + row) * row_words + word_base + word) as usize];
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

const _: () = assert!(TILE as u32 == 2 * STEP * 4 && BLOCK as usize == TILE);
