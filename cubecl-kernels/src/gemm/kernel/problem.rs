//! What all kernels of a product share: its operands and sizes, which part of it a cube has, the
//! scales, and how a result is written.
//!
//! One kernel serves dense, grouped, masked and K-grouped products; they differ in which rows and
//! words a cube takes ([`Grouping`], [`locate`]).

use crate::definition::{Fp8Format, TILE};
use cubecl::prelude::*;

/// Entries that share a scale, and that a partial sum has before it is promoted.
pub(super) const DEPTH: u32 = TILE as u32;
/// Words of a tile of one row.
pub(in crate::gemm) const TILE_WORDS: u32 = DEPTH / 4;

/// Which part of the operands a cube multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::gemm) enum Grouping {
    /// All of them.
    Dense,
    /// The rows of one group of `A` with that expert's `B`.
    Rows,
    /// The first `counts[g]` of an expert's `max_rows` rows with its `B`.
    Masked,
    /// The words of one group of both: K-grouped Wgrad.
    Depth,
}

/// What shares a scale of `B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::gemm) enum ScaleOf {
    Row,
    Block,
}

/// What a product computes and writes, fixed when the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::gemm) struct GemmForm {
    pub(in crate::gemm) a_format: Fp8Format,
    pub(in crate::gemm) b_format: Fp8Format,
    pub(in crate::gemm) grouping: Grouping,
    pub(in crate::gemm) b_scale: ScaleOf,
    /// Adds to what `C` holds.
    pub(in crate::gemm) accumulate: bool,
    /// Whether each group of [`Grouping::Depth`] begins at a whole tile of its rows, whatever the
    /// table says of its first word.
    pub(in crate::gemm) padded: bool,
}

/// One operand in memory.
#[derive(CubeType, CubeLaunch)]
pub(in crate::gemm) struct Operand {
    /// Words of four codes.
    pub(in crate::gemm) codes: Box<[u32]>,
    /// Scales of its tiles or blocks.
    pub(in crate::gemm) scales: Box<[f32]>,
}

/// The sizes of a product and the strides of its operands, in words, scales and elements.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(in crate::gemm) struct Sizes {
    /// Rows of `C`: of each expert when masked, of all groups otherwise.
    pub(in crate::gemm) m: u32,
    pub(in crate::gemm) n: u32,
    /// Depth, where it is not a group's.
    pub(in crate::gemm) k: u32,
    pub(in crate::gemm) groups: u32,
    /// Words and scales from one row of `A` to the next.
    pub(in crate::gemm) a_words: u32,
    pub(in crate::gemm) a_tiles: u32,
    /// Words from one row of `B` to the next.
    pub(in crate::gemm) b_words: u32,
    /// Scales of `B` from one row (or block of rows) to the next, from one tile to the next, from
    /// one expert to the next.
    pub(in crate::gemm) b_scale_row: u32,
    pub(in crate::gemm) b_scale_tile: u32,
    pub(in crate::gemm) b_scale_expert: u32,
}

/// What one cube multiplies.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Problem {
    pub(super) sizes: Sizes,
    #[cube(comptime)]
    pub(super) form: GemmForm,
    /// First row of `A`, and of `C`, of the group.
    pub(super) a_row: u32,
    pub(super) c_row: u32,
    /// Rows of the group, and of the result that is written (the rest of it zero).
    pub(super) rows: u32,
    pub(super) written: u32,
    /// First row of the cube's tile within the group.
    pub(super) tile_row: u32,
    /// First row of `B`, and the expert whose scales it takes.
    pub(super) b_row: u32,
    pub(super) expert: u32,
    pub(super) depth: u32,
    /// First word and first scale of each row of both operands.
    pub(super) word: u32,
    pub(super) tile: u32,
}

/// The problem of the cube of the tile of rows `y`. `groups` holds offsets, first words and first
/// tiles of [`Grouping::Rows`] and [`Grouping::Depth`], counts of [`Grouping::Masked`].
#[cube]
pub(super) fn locate(
    groups: &[u32],
    sizes: Sizes,
    y: u32,
    tile_rows: u32,
    #[comptime] form: GemmForm,
) -> Problem {
    let group = CUBE_POS_Z;
    if comptime!(matches!(form.grouping, Grouping::Rows)) {
        // The tiles of all groups are numbered in one row: a cube counts through the groups until
        // it comes to its own.
        let mut found = 0u32;
        let mut before = 0u32;
        let mut own = (groups[1] - groups[0]).div_ceil(tile_rows);
        while y >= before + own && found + 1u32 < sizes.groups {
            before += own;
            found += 1u32;
            own = (groups[(found + 1u32) as usize] - groups[found as usize]).div_ceil(tile_rows);
        }
        let start = groups[found as usize];
        // A cube behind the last tile, where there are more than the groups need, has no rows.
        let behind = y >= before + own;
        let rows = select(behind, 0u32, groups[(found + 1u32) as usize] - start);
        Problem {
            sizes,
            form,
            a_row: start,
            c_row: start,
            rows,
            written: rows,
            tile_row: (y - before) * tile_rows,
            b_row: found * sizes.n,
            expert: found,
            depth: sizes.k,
            word: 0u32,
            tile: 0u32,
        }
    } else if comptime!(matches!(form.grouping, Grouping::Masked)) {
        Problem {
            sizes,
            form,
            a_row: group * sizes.m,
            c_row: group * sizes.m,
            rows: at_most(groups[group as usize], sizes.m),
            written: sizes.m,
            tile_row: y * tile_rows,
            b_row: group * sizes.n,
            expert: group,
            depth: sizes.k,
            word: 0u32,
            tile: 0u32,
        }
    } else if comptime!(matches!(form.grouping, Grouping::Depth)) {
        let stride = sizes.groups + 1u32;
        let tile = groups[(2u32 * stride + group) as usize];
        let word = if comptime!(form.padded) {
            tile * TILE_WORDS
        } else {
            groups[(stride + group) as usize]
        };
        Problem {
            sizes,
            form,
            a_row: 0u32,
            c_row: group * sizes.m,
            rows: sizes.m,
            written: sizes.m,
            tile_row: y * tile_rows,
            b_row: 0u32,
            expert: 0u32,
            depth: groups[(group + 1u32) as usize] - groups[group as usize],
            word,
            tile,
        }
    } else {
        Problem {
            sizes,
            form,
            a_row: 0u32,
            c_row: 0u32,
            rows: sizes.m,
            written: sizes.m,
            tile_row: y * tile_rows,
            b_row: 0u32,
            expert: 0u32,
            depth: sizes.k,
            word: 0u32,
            tile: 0u32,
        }
    }
}

/// Rows of an operand as a cube loads them: from the first one of its tile on, none past the last.
#[derive(CubeType, Clone, Copy)]
pub(super) struct RowSpan {
    /// The group's first row in the operand.
    pub(super) base: u32,
    /// The first row of the cube's tile, and the last row that there is, within the group.
    pub(super) first: u32,
    pub(super) last: u32,
    /// Words from one row to the next.
    pub(super) stride: u32,
}

/// The rows of `A` that a cube loads; row 0 where the cube's tile is past the group.
#[cube]
pub(super) fn a_rows(problem: &Problem) -> RowSpan {
    let live = problem.tile_row < problem.rows;
    RowSpan {
        base: problem.a_row,
        first: problem.tile_row,
        last: select(live, problem.rows - 1u32, 0u32),
        stride: problem.sizes.a_words,
    }
}

/// The rows of `B`, columns of `C`, that a cube loads from `column` on.
#[cube]
pub(super) fn b_rows(problem: &Problem, column: u32) -> RowSpan {
    let sizes = problem.sizes;
    RowSpan { base: problem.b_row, first: column, last: sizes.n - 1u32, stride: sizes.b_words }
}

/// The scale of a tile of a row of `A`.
#[cube]
pub(super) fn a_scale(scales: &[f32], problem: &Problem, row: u32, tile: u32) -> f32 {
    scales[((problem.a_row + row) * problem.sizes.a_tiles + problem.tile + tile) as usize]
}

/// The scale of a tile of a row of `B`, which is a column of `C`.
#[cube]
pub(super) fn b_scale(scales: &[f32], problem: &Problem, column: u32, tile: u32) -> f32 {
    let sizes = problem.sizes;
    let of = comptime!(problem.form.b_scale);
    let row = if comptime!(matches!(of, ScaleOf::Block)) { column / DEPTH } else { column };
    let index = problem.expert * sizes.b_scale_expert
        + row * sizes.b_scale_row
        + (problem.tile + tile) * sizes.b_scale_tile;
    scales[index as usize]
}

/// Where the numbers of a unit's rows are in a buffer: that of the first one, and that of the last
/// row that there is. Both move with the depth, so that the place of a row is computed where it is
/// wanted; one that did not would stay in a register from the first step to the last.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Places {
    first: u32,
    last: u32,
    /// From one row to the next.
    apart: u32,
}

/// The place of the row `beyond` rows after the first, or of the last that there is. (Far past the
/// last the sum may wrap around: to a place of the buffer too, and of a row that nothing is written
/// of.)
#[cube]
pub(super) fn place_of(places: &Places, beyond: u32) -> usize {
    at_most(places.first + beyond * places.apart, places.last) as usize
}

/// Word `word` of the rows of an operand, from row `line` of the cube's on.
#[cube]
pub(super) fn words_of(rows: &RowSpan, line: u32, word: u32) -> Places {
    let apart = rows.stride;
    let at = rows.base * apart + word;
    Places { first: at + (rows.first + line) * apart, last: at + rows.last * apart, apart }
}

/// The scales of a tile of `A`, from row `line` of the cube's on.
#[cube]
pub(super) fn a_scales(problem: &Problem, line: u32, tile: u32) -> Places {
    let rows = a_rows(problem);
    let apart = problem.sizes.a_tiles;
    let at = rows.base * apart + tile;
    Places { first: at + (rows.first + line) * apart, last: at + rows.last * apart, apart }
}

/// The scales of a tile of `B` of [`ScaleOf::Row`], from column `column` of `C` on.
#[cube]
pub(super) fn b_scales(problem: &Problem, column: u32, tile: u32) -> Places {
    let sizes = problem.sizes;
    let apart = sizes.b_scale_row;
    let at = problem.expert * sizes.b_scale_expert + tile * sizes.b_scale_tile;
    Places { first: at + column * apart, last: at + (sizes.n - 1u32) * apart, apart }
}

/// Writes an element of the group's result, or adds it to what is there. Rows past those of the
/// group are zero, and what lies outside the result is not written.
#[cube]
pub(super) fn write_result<O: Float>(
    c: &mut [O],
    problem: &Problem,
    row: u32,
    column: u32,
    sum: f32,
) {
    let n = problem.sizes.n;
    if row < problem.written && column < n {
        let index = ((problem.c_row + row) * n + column) as usize;
        let sum = select(row < problem.rows, sum, 0.0f32);
        if comptime!(problem.form.accumulate) {
            c[index] = O::cast_from(f32::cast_from(c[index]) + sum);
        } else {
            c[index] = O::cast_from(sum);
        }
    }
}

/// The smaller of two numbers.
#[cube]
pub(super) fn at_most(x: u32, most: u32) -> u32 {
    select(x > most, most, x)
}
