//! Device code: the registers of `mma.m16n8k16` on BF16, where they lie in the matrices, how they
//! are loaded and multiplied.
//!
//! `C [16, 8] += A [16, 16] B^T [8, 16]` by the 32 units of a plane, `B` given by its columns, which
//! are called lines as the rows of `A` are. A register of `A` or `B` is two neighbouring depths of a
//! line, the first in the lower half; of `C` each unit has [`HELD`] numbers of FP32.
//!
//! In shared memory an operand is rows of pairs, the rows `stride` words apart:
//!
//! - [`Along::Depth`]: a row is a line, a pair two depths of it;
//! - [`Along::Lines`]: a row is a depth, a pair two lines of it.
//!
//! With a stride of an odd multiple of four words a plane's loads meet no bank twice. Both kinds are
//! loaded by `ldmatrix`, the second with its transposition. Rows must begin at multiples of 16 bytes:
//! [`pair_rows`] makes such memory, and starts and strides are multiples of four words.
//!
//! Everything here must be called by all units of a cube alike, since the emulation has barriers.

use super::emulated;
use super::unit::MatrixUnit;
use crate::device::codec::bf16_bits;
use crate::device::tile::Along;
use cubecl::prelude::*;

/// Units of a plane.
pub(crate) const PLANE: u32 = 32;
/// Lines of `A`, lines of `B` and depth of an instruction.
pub(crate) const ROWS: u32 = 16;
pub(crate) const COLUMNS: u32 = 8;
pub(crate) const DEPTH: u32 = 16;
/// Registers of `A` and of `B`, and numbers of `C`, of a unit.
pub(crate) const A_WORDS: u32 = ROWS * DEPTH / PLANE / 2;
pub(crate) const B_WORDS: u32 = COLUMNS * DEPTH / PLANE / 2;
pub(crate) const HELD: u32 = ROWS * COLUMNS / PLANE;

/// A unit's registers of `A`.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(crate) struct Left {
    pub(crate) word0: u32,
    pub(crate) word1: u32,
    pub(crate) word2: u32,
    pub(crate) word3: u32,
}

/// A unit's registers of `B`.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(crate) struct Right {
    pub(crate) word0: u32,
    pub(crate) word1: u32,
}

/// What the emulation hands around in: nothing to speak of for the instruction.
#[derive(CubeType)]
pub(crate) struct Exchange {
    words: Shared<[u32]>,
}

/// Words of shared memory that an [`Exchange`] for `units` units of a cube takes.
pub(crate) const fn exchange_words(units: u32, unit: MatrixUnit) -> usize {
    match unit {
        MatrixUnit::Instruction => 1,
        MatrixUnit::Emulated => (units * emulated::WORDS) as usize,
    }
}

/// What [`multiply_add`] needs, made once a kernel, for a cube of `units` units.
#[cube]
pub(crate) fn exchange(#[comptime] units: u32, #[comptime] unit: MatrixUnit) -> Exchange {
    Exchange { words: Shared::<[u32]>::new_slice(comptime!(exchange_words(units, unit))) }
}

/// Shared memory for `words` words of rows of pairs.
#[cube]
pub(crate) fn pair_rows(#[comptime] words: usize) -> Shared<[u32]> {
    Shared::<[u32]>::new_aligned_slice(words, 16usize)
}

/// Two numbers rounded to the nearest BF16, ties to even, `low` in the lower half; NaN stays NaN.
#[cube]
pub(crate) fn pair(low: f32, high: f32, #[comptime] unit: MatrixUnit) -> u32 {
    if comptime!(unit == MatrixUnit::Instruction) {
        // As in `loaded`.
        let (low, high) = (low * 1.0f32, high * 1.0f32);
        let word: u32;
        gpu_asm!(
            "cvt.rn.bf16x2.f32 {word}, {high}, {low};",
            high = in(_) high, low = in(_) low, word = out(_) word, options(pure, nomem),
        );
        word
    } else {
        bf16_bits(u32::reinterpret(low)) | (bf16_bits(u32::reinterpret(high)) << 16u32)
    }
}

/// The registers of `A` for the sixteen lines and depths from word `start` on: the word of the first
/// line's first depth.
#[cube]
pub(crate) fn load_left(
    shared: &Shared<[u32]>,
    start: u32,
    lane: u32,
    #[comptime] stride: u32,
    #[comptime] along: Along,
    #[comptime] unit: MatrixUnit,
) -> Left {
    if comptime!(unit == MatrixUnit::Instruction) {
        // Unit `l` says where row `l % 8` of the instruction's matrix `l / 8` is. Matrix `r` is what
        // comes into register `r`: eight lines and eight depths.
        let (row, matrix) = (lane % 8u32, lane / 8u32);
        let place = if comptime!(along == Along::Depth) {
            (row + 8u32 * (matrix % 2u32)) * stride + 4u32 * (matrix / 2u32)
        } else {
            (row + 8u32 * (matrix / 2u32)) * stride + 4u32 * (matrix % 2u32)
        };
        let size!(N) = 4usize;
        let words = load_matrices::<N>(shared_address(shared) + 4u32 * (start + place), along);
        Left {
            word0: words.extract(0usize),
            word1: words.extract(1usize),
            word2: words.extract(2usize),
            word3: words.extract(3usize),
        }
    } else {
        Left {
            word0: load_pair(shared, start, a_row(lane, 0u32), a_pair(lane, 0u32), stride, along),
            word1: load_pair(shared, start, a_row(lane, 1u32), a_pair(lane, 1u32), stride, along),
            word2: load_pair(shared, start, a_row(lane, 2u32), a_pair(lane, 2u32), stride, along),
            word3: load_pair(shared, start, a_row(lane, 3u32), a_pair(lane, 3u32), stride, along),
        }
    }
}

/// The registers of `B` for the eight lines and sixteen depths from word `start` on, and for the
/// eight lines after them.
#[cube]
pub(crate) fn load_right_two(
    shared: &Shared<[u32]>,
    start: u32,
    lane: u32,
    #[comptime] stride: u32,
    #[comptime] along: Along,
    #[comptime] unit: MatrixUnit,
) -> (Right, Right) {
    if comptime!(unit == MatrixUnit::Instruction) {
        // Matrix `2 t + r` is register `r` of the lines from `8 t` on.
        let (row, matrix) = (lane % 8u32, lane / 8u32);
        let place = if comptime!(along == Along::Depth) {
            (row + 8u32 * (matrix / 2u32)) * stride + 4u32 * (matrix % 2u32)
        } else {
            (row + 8u32 * (matrix % 2u32)) * stride + 4u32 * (matrix / 2u32)
        };
        let size!(N) = 4usize;
        let words = load_matrices::<N>(shared_address(shared) + 4u32 * (start + place), along);
        let first = Right { word0: words.extract(0usize), word1: words.extract(1usize) };
        let second = Right { word0: words.extract(2usize), word1: words.extract(3usize) };
        (first, second)
    } else {
        let line = b_column(lane);
        let (low, high) = (b_pair(lane, 0u32), b_pair(lane, 1u32));
        let first = Right {
            word0: load_pair(shared, start, line, low, stride, along),
            word1: load_pair(shared, start, line, high, stride, along),
        };
        let second = Right {
            word0: load_pair(shared, start, line + COLUMNS, low, stride, along),
            word1: load_pair(shared, start, line + COLUMNS, high, stride, along),
        };
        (first, second)
    }
}

/// `sums[first..][..HELD] += A B`, a unit's numbers of `C`.
#[cube]
pub(crate) fn multiply_add(
    left: Left,
    right: Right,
    sums: &mut Array<f32>,
    first: u32,
    exchange: &mut Exchange,
    #[comptime] unit: MatrixUnit,
) {
    if comptime!(unit == MatrixUnit::Instruction) {
        let (a0, a1) = (loaded(left.word0), loaded(left.word1));
        let (a2, a3) = (loaded(left.word2), loaded(left.word3));
        let (b0, b1) = (loaded(right.word0), loaded(right.word1));
        let (c0, c1) = (sums[first as usize], sums[(first + 1u32) as usize]);
        let (c2, c3) = (sums[(first + 2u32) as usize], sums[(first + 3u32) as usize]);
        let size!(N) = comptime!(HELD as usize);
        let result: Vector<f32, N>;
        gpu_asm!(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {result}, \
             {{{a0}, {a1}, {a2}, {a3}}}, {{{b0}, {b1}}}, {{{c0}, {c1}, {c2}, {c3}}};",
            a0 = in(_) a0, a1 = in(_) a1, a2 = in(_) a2, a3 = in(_) a3,
            b0 = in(_) b0, b1 = in(_) b1,
            c0 = in(_) c0, c1 = in(_) c1, c2 = in(_) c2, c3 = in(_) c3,
            result = out(_) result, options(nomem),
        );
        #[unroll]
        for h in 0..HELD {
            sums[(first + h) as usize] = result.extract(comptime!(h as usize));
        }
    } else {
        emulated::multiply_add(left, right, sums, first, &mut exchange.words);
    }
}

/// A product's sums as the left operand of another, rounded to BF16: `first` and `second` are where
/// a unit's numbers of two neighbouring `C` of eight columns begin, which are sixteen depths.
#[cube]
pub(crate) fn left_of_sums(
    sums: &Array<f32>,
    first: u32,
    second: u32,
    #[comptime] unit: MatrixUnit,
) -> Left {
    let (a, b) = (first, second);
    Left {
        word0: pair(sums[a as usize], sums[(a + 1u32) as usize], unit),
        word1: pair(sums[(a + 2u32) as usize], sums[(a + 3u32) as usize], unit),
        word2: pair(sums[b as usize], sums[(b + 1u32) as usize], unit),
        word3: pair(sums[(b + 2u32) as usize], sums[(b + 3u32) as usize], unit),
    }
}

/// A word as an instruction can take it: a variable is handed over as its address, what is computed
/// from it as a value.
#[cube]
#[allow(clippy::identity_op)] // computed, so that it is a value
fn loaded(word: u32) -> u32 {
    word + 0u32
}

/// Four matrices of eight rows of eight BF16, whose rows begin at the units' addresses; transposed
/// where the rows are depths.
#[cube]
fn load_matrices<N: Size>(address: u32, #[comptime] along: Along) -> Vector<u32, N> {
    let words: Vector<u32, N>;
    if comptime!(along == Along::Depth) {
        gpu_asm!(
            "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {words}, [{address}];",
            address = in(_) address, words = out(_) words, options(readonly),
        );
    } else {
        gpu_asm!(
            "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {words}, [{address}];",
            address = in(_) address, words = out(_) words, options(readonly),
        );
    }
    words
}

/// Pair `pair` of line `line` from word `start` on.
#[cube]
fn load_pair(
    shared: &Shared<[u32]>,
    start: u32,
    line: u32,
    pair: u32,
    #[comptime] stride: u32,
    #[comptime] along: Along,
) -> u32 {
    if comptime!(along == Along::Depth) {
        shared[(start + line * stride + pair) as usize]
    } else {
        let at = start + 2u32 * pair * stride + line / 2u32;
        let low = emulated::half_word(shared, at, line % 2u32);
        low | (emulated::half_word(shared, at + stride, line % 2u32) << 16u32)
    }
}

/// Where a shared slice begins, in the addresses of shared memory.
#[cube]
pub(crate) fn shared_address(slice: &Shared<[u32]>) -> u32 {
    let start = slice.as_slice().as_ptr();
    let address: u32;
    gpu_asm!(
        "{{ .reg .u64 whole; cvta.to.shared.u64 whole, {start}; cvt.u32.u64 {address}, whole; }}",
        start = in(_) start, address = out(_) address, options(pure, nomem),
    );
    address
}

// Where the registers are in the matrices (PTX ISA, "matrix fragments for mma.m16n8k16 with floating
// point type"), for unit `lane` of a plane.

/// Line of register `r` of `A`.
#[cube]
pub(crate) fn a_row(lane: u32, #[comptime] r: u32) -> u32 {
    lane / 4u32 + comptime!(8 * (r % 2))
}

/// Pair of depths of register `r` of `A`.
#[cube]
pub(crate) fn a_pair(lane: u32, #[comptime] r: u32) -> u32 {
    lane % 4u32 + comptime!(4 * (r / 2))
}

/// Line of the registers of `B`.
#[cube]
pub(crate) fn b_column(lane: u32) -> u32 {
    lane / 4u32
}

/// Pair of depths of register `r` of `B`.
#[cube]
pub(crate) fn b_pair(lane: u32, #[comptime] r: u32) -> u32 {
    lane % 4u32 + comptime!(4 * r)
}

/// Row of number `h` of `C`.
#[cube]
pub(crate) fn c_row(lane: u32, #[comptime] h: u32) -> u32 {
    lane / 4u32 + comptime!(8 * (h / 2))
}

/// Column of number `h` of `C`.
#[cube]
pub(crate) fn c_column(lane: u32, #[comptime] h: u32) -> u32 {
    lane % 4u32 * 2u32 + comptime!(h % 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cubecl::cmma::MatrixIdent::{A, Accumulator, B};
    use cubecl::prelude::polyfills::mma::{col_index, row_index};

    /// CubeCL knows the same places entry by entry, and by other formulas.
    #[test]
    fn registers_are_where_the_instruction_has_them() {
        for lane in 0..PLANE {
            for i in 0..2 * A_WORDS {
                assert_eq!(row_index(lane, i, 2, A), a_row(lane, i / 2), "row of A {lane} {i}");
                let column = 2 * a_pair(lane, i / 2) + i % 2;
                assert_eq!(col_index(lane, i, 2, A), column, "column of A {lane} {i}");
            }
            for i in 0..2 * B_WORDS {
                let row = 2 * b_pair(lane, i / 2) + i % 2;
                assert_eq!(row_index(lane, i, 2, B), row, "row of B {lane} {i}");
                assert_eq!(col_index(lane, i, 2, B), b_column(lane), "column of B {lane} {i}");
            }
            for h in 0..HELD {
                assert_eq!(row_index(lane, h, 1, Accumulator), c_row(lane, h));
                assert_eq!(col_index(lane, h, 1, Accumulator), c_column(lane, h));
            }
        }
    }
}
