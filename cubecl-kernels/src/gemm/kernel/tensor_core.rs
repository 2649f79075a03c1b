//! Device code of products on tensor cores: E4M3 `mma` of 16x8x32, partial sums of 128 promoted to
//! FP32 (3.3.2), double-buffered.
//!
//! A register of such a matrix is four neighbouring codes of a row: a word as it lies in memory. So
//! words go from global memory to shared memory to registers without being taken apart.
//!
//! The instruction is written as inline PTX: CubeCL's own says `.kind::f8f6f4`, which compilers take
//! for compute capability 12.0 alone, and without it 8.9 has the instruction as well.

use super::problem::{
    GemmForm, Operand, Problem, RowSpan, ScaleOf, Sizes, a_rows, a_scales, b_rows, b_scale,
    b_scales, locate, place_of, words_of, write_result,
};
use crate::definition::TILE;
use crate::device::{Shortfall, compute_capability};

use cubecl::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

/// The instruction's shape.
const MMA: (u32, u32, u32) = (16, 8, 32);
/// Rows and columns of `C` a cube computes.
pub(in crate::gemm) const BLOCK: u32 = 128;
/// Units of a cube, and of a plane.
pub(in crate::gemm) const UNITS: u32 = 256;
const PLANE: u32 = 32;
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
/// Words of a 16x32 and of a 32x8 operand in each unit.
const A_WORDS: u32 = MMA.0 * MMA.2 / PLANE / 4;
const B_WORDS: u32 = MMA.1 * MMA.2 / PLANE / 4;
const BUFFER: u32 = BLOCK * STRIDE;
/// Bytes of shared memory of a cube.
const SHARED_BYTES: usize = (4 * BUFFER * 4) as usize;

/// Why a device does not run the kernel, where it does not: the runtime must report the instruction,
/// and on compute capability 9.0, which has `wgmma`, the compiler makes F16 products of it. (On 10.0
/// it does so too, and they are the best that there is a kernel for.)
pub(in crate::gemm) fn shortfall(client: &Client) -> Option<Shortfall> {
    let e4m3 = ElemType::Float(FloatKind::E4M3);
    let instruction = MmaConfig {
        a_type: e4m3,
        b_type: e4m3,
        cd_type: ElemType::Float(FloatKind::F32),
        m: MMA.0,
        n: MMA.1,
        k: MMA.2,
    };
    let hardware = &client.properties().hardware;
    let planes = (hardware.plane_size_min, hardware.plane_size_max);
    match compute_capability(client) {
        Some(_) if !client.features().matmul.mma.contains(&instruction) => {
            Some(Shortfall::NoInstruction)
        }
        None => Some(Shortfall::NoInstruction),
        Some(90) => Some(Shortfall::Unpacks),
        Some(_)
            if planes != (PLANE, PLANE)
                || hardware.max_units_per_cube < UNITS
                || hardware.max_shared_memory_size < SHARED_BYTES =>
        {
            Some(Shortfall::NoRoom)
        }
        Some(_) => None,
    }
}

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
        let next = (step + 1u32) * STEP;
        let more = next < words;
        if more {
            // On its way while this step is computed.
            fetch(&a.codes, &a_rows, problem.word, next, words, &mut a_next);
            fetch(&b.codes, &b_rows, problem.word, next, words, &mut b_next);
        }

        multiply_step(&a_shared, &b_shared, buffer, &place, &mut sums);

        if step % STEPS_A_TILE == STEPS_A_TILE - 1u32 || !more {
            let tile = step / STEPS_A_TILE;
            promote(a, b, &problem, tile, &place, &mut sums);
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
                let row = row0 + place.row + down * MMA.0 + c_row(place.lane, h);
                let column = column0 + place.column + along * MMA.1 + c_column(place.lane, h);
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
    let word = first_word + UNIT_POS % STEP;
    let places = words_of(rows, UNIT_POS / STEP, word_base + word);
    #[unroll]
    for i in 0..MOVED {
        let mut value = 0u32;
        if word < words {
            value = codes[place_of(&places, comptime!(i * UNITS / STEP))];
        }
        next[i as usize] = value;
    }
}

/// Puts what [`fetch`] took into a buffer.
#[cube]
fn put(shared: &mut Shared<[u32]>, next: &Array<u32>, buffer: u32) {
    let first = buffer + UNIT_POS / STEP * STRIDE + UNIT_POS % STEP;
    #[unroll]
    for i in 0..MOVED {
        shared[(first + comptime!(i * UNITS / STEP * STRIDE)) as usize] = next[i as usize];
    }
}

/// Adds the products of a step to the partial sums of the plane's matrices, a slice of the
/// instruction's depth after another.
#[cube]
fn multiply_step(
    a_shared: &Shared<[u32]>,
    b_shared: &Shared<[u32]>,
    buffer: u32,
    place: &Place,
    sums: &mut Accumulators,
) {
    let size!(NA) = comptime!(A_WORDS as usize);
    let size!(NB) = comptime!(B_WORDS as usize);
    let size!(NC) = comptime!(HELD as usize);
    #[unroll]
    for slice in 0..STEP * 4u32 / MMA.2 {
        let word0 = comptime!(slice * MMA.2 / 4);
        // The left operands of the plane's rows stay in registers while each right one passes: where
        // the instruction is emulated by the compiler, operands take twice the registers.
        let mut left = Array::<u32>::new(comptime!((DOWN * A_WORDS) as usize));
        #[unroll]
        for down in 0..DOWN {
            #[unroll]
            for r in 0..A_WORDS {
                let line = place.row + down * MMA.0 + a_row(place.lane, r);
                let word = word0 + a_word(place.lane, r);
                left[comptime!((down * A_WORDS + r) as usize)] =
                    a_shared[(buffer + line * STRIDE + word) as usize];
            }
        }
        #[unroll]
        for along in 0..ALONG {
            let mut b = Vector::<u32, NB>::empty();
            #[unroll]
            for r in 0..B_WORDS {
                let line = place.column + along * MMA.1 + b_column(place.lane);
                let word = word0 + b_word(place.lane, r);
                let word = b_shared[(buffer + line * STRIDE + word) as usize];
                b.insert(comptime!(r as usize), word);
            }
            #[unroll]
            for down in 0..DOWN {
                let mut a = Vector::<u32, NA>::empty();
                #[unroll]
                for r in 0..A_WORDS {
                    a.insert(comptime!(r as usize), left[comptime!((down * A_WORDS + r) as usize)]);
                }
                let first = comptime!((down * ALONG + along) * HELD);
                let mut c = Vector::<f32, NC>::empty();
                #[unroll]
                for h in 0..HELD {
                    c.insert(comptime!(h as usize), sums.partial[comptime!((first + h) as usize)]);
                }
                let c = mma::<NA, NB, NC>(a, b, c);
                #[unroll]
                for h in 0..HELD {
                    sums.partial[comptime!((first + h) as usize)] =
                        c.extract(comptime!(h as usize));
                }
            }
        }
    }
}

/// The instruction: `a b + c` of 16x32 and 32x8 codes.
#[cube]
fn mma<NA: Size, NB: Size, NC: Size>(
    a: Vector<u32, NA>,
    b: Vector<u32, NB>,
    c: Vector<f32, NC>,
) -> Vector<f32, NC> {
    // Each register by itself: a vector that was filled word by word is handed over as its address.
    let (a0, a1) = (a.extract(0usize), a.extract(1usize));
    let (a2, a3) = (a.extract(2usize), a.extract(3usize));
    let (b0, b1) = (b.extract(0usize), b.extract(1usize));
    let (c0, c1) = (c.extract(0usize), c.extract(1usize));
    let (c2, c3) = (c.extract(2usize), c.extract(3usize));
    let sums: Vector<f32, NC>;
    gpu_asm!(
        "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {sums}, \
         {{{a0}, {a1}, {a2}, {a3}}}, {{{b0}, {b1}}}, {{{c0}, {c1}, {c2}, {c3}}};",
        a0 = in(_) a0, a1 = in(_) a1, a2 = in(_) a2, a3 = in(_) a3,
        b0 = in(_) b0, b1 = in(_) b1,
        c0 = in(_) c0, c1 = in(_) c1, c2 = in(_) c2, c3 = in(_) c3,
        sums = out(_) sums, options(nomem),
    );
    sums
}

// Where the instruction's registers are in its matrices (PTX ISA, "matrix fragments for
// mma.m16n8k32"), for unit `lane` of a plane; words are those of a row of 32 codes.

/// Row of word `r` of the left operand.
#[cube]
fn a_row(lane: u32, #[comptime] r: u32) -> u32 {
    lane / 4u32 + comptime!(8 * (r % 2))
}

/// Word of word `r` of the left operand.
#[cube]
fn a_word(lane: u32, #[comptime] r: u32) -> u32 {
    lane % 4u32 + comptime!(4 * (r / 2))
}

/// Column of the right operand's words.
#[cube]
fn b_column(lane: u32) -> u32 {
    lane / 4u32
}

/// Word of word `r` of the right operand.
#[cube]
fn b_word(lane: u32, #[comptime] r: u32) -> u32 {
    lane % 4u32 + comptime!(4 * r)
}

/// Row of number `h` of the accumulator.
#[cube]
fn c_row(lane: u32, #[comptime] h: u32) -> u32 {
    lane / 4u32 + comptime!(8 * (h / 2))
}

/// Column of number `h` of the accumulator.
#[cube]
fn c_column(lane: u32, #[comptime] h: u32) -> u32 {
    lane % 4u32 * 2u32 + comptime!(h % 2)
}

/// The promotion: partial sums of 128 leave the tensor core's accumulator for one of FP32, scaled
/// (3.3.2).
#[cube]
fn promote(
    a: &Operand,
    b: &Operand,
    problem: &Problem,
    tile: u32,
    place: &Place,
    sums: &mut Accumulators,
) {
    let column0 = CUBE_POS_X * BLOCK;
    let own = column0 + place.column + c_column(place.lane, 0u32);
    let a_places = a_scales(problem, place.row + c_row(place.lane, 0u32), problem.tile + tile);
    let b_places = b_scales(problem, own, problem.tile + tile);
    #[unroll]
    for along in 0..ALONG {
        #[unroll]
        for down in 0..DOWN {
            #[unroll]
            for h in 0..HELD {
                let a_scale = a.scales[place_of(&a_places, comptime!(down * MMA.0 + 8 * (h / 2)))];
                let b_scale = if comptime!(matches!(problem.form.b_scale, ScaleOf::Row)) {
                    b.scales[place_of(&b_places, comptime!(along * MMA.1 + h % 2))]
                } else {
                    // A cube's columns are one block, and its scale one load.
                    b_scale(&b.scales, problem, column0, tile)
                };
                let e = comptime!(((down * ALONG + along) * HELD + h) as usize);
                sums.total[e] += a_scale * b_scale * sums.partial[e];
                sums.partial[e] = 0.0f32;
            }
        }
    }
}

const _: () = assert!(TILE as u32 == STEPS_A_TILE * STEP * 4 && BLOCK as usize == TILE);

#[cfg(test)]
mod tests {
    use super::*;
    use cubecl::cmma::MatrixIdent::{A, Accumulator, B};
    use cubecl::prelude::polyfills::mma::{col_index, row_index};

    /// CubeCL knows the same places entry by entry, and by other formulas.
    #[test]
    fn registers_are_where_the_instruction_has_them() {
        for lane in 0..PLANE {
            for i in 0..4 * A_WORDS {
                assert_eq!(row_index(lane, i, 4, A), a_row(lane, i / 4), "row of A {lane} {i}");
                let column = 4 * a_word(lane, i / 4) + i % 4;
                assert_eq!(col_index(lane, i, 4, A), column, "column of A {lane} {i}");
            }
            for i in 0..4 * B_WORDS {
                let row = 4 * b_word(lane, i / 4) + i % 4;
                assert_eq!(row_index(lane, i, 4, B), row, "row of B {lane} {i}");
                assert_eq!(col_index(lane, i, 4, B), b_column(lane), "column of B {lane} {i}");
            }
            for h in 0..HELD {
                assert_eq!(row_index(lane, h, 1, Accumulator), c_row(lane, h));
                assert_eq!(col_index(lane, h, 1, Accumulator), c_column(lane, h));
            }
        }
    }
}
