//! What all kernels of a product share: its sizes, which part of it a cube has, and where a scale
//! lies.
//!
//! One kernel serves dense, grouped, masked and K-grouped products; they differ in which rows and
//! words a cube takes ([`Grouping`], [`locate`]).

use crate::definition::{Fp8Format, TILE};
use cubecl::prelude::*;

/// Entries that share a scale, and that a partial sum has before it is promoted.
pub(super) const DEPTH: u32 = TILE as u32;
/// Words of a tile of one row.
pub(super) const TILE_WORDS: u32 = DEPTH / 4;

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
}

/// The sizes of a product and the strides of its operands, in words, scales and elements.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
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
pub(in crate::gemm) struct Problem {
    /// First row of `A`, and of `C`, of the group.
    pub(in crate::gemm) a_row: u32,
    pub(in crate::gemm) c_row: u32,
    /// Rows of the group, and of the result that is written (the rest of it zero).
    pub(in crate::gemm) rows: u32,
    pub(in crate::gemm) written: u32,
    /// First row of the cube's tile within the group.
    pub(in crate::gemm) tile_row: u32,
    /// First row of `B`, and the expert whose scales it takes.
    pub(in crate::gemm) b_row: u32,
    pub(in crate::gemm) expert: u32,
    pub(in crate::gemm) depth: u32,
    /// First word and first scale of each row of both operands.
    pub(in crate::gemm) word: u32,
    pub(in crate::gemm) tile: u32,
}

/// The problem of the cube of the tile of rows `y`. `groups` holds offsets, first words and first
/// tiles of [`Grouping::Rows`] and [`Grouping::Depth`], counts of [`Grouping::Masked`].
#[cube]
pub(in crate::gemm) fn locate(
    groups: &[u32],
    sizes: &Sizes,
    y: u32,
    tile_rows: u32,
    #[comptime] grouping: Grouping,
) -> Problem {
    let group = CUBE_POS_Z;
    if comptime!(matches!(grouping, Grouping::Rows)) {
        // The tiles of all groups are numbered in one row: a cube counts through the groups until
        // it comes to its own.
        let mut found = 0u32;
        let mut before = 0u32;
        let mut own = (groups[1] - groups[0]).div_ceil(tile_rows);
        while y >= before + own {
            before += own;
            found += 1u32;
            own = (groups[(found + 1u32) as usize] - groups[found as usize]).div_ceil(tile_rows);
        }
        let start = groups[found as usize];
        let rows = groups[(found + 1u32) as usize] - start;
        Problem {
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
    } else if comptime!(matches!(grouping, Grouping::Masked)) {
        Problem {
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
    } else if comptime!(matches!(grouping, Grouping::Depth)) {
        let stride = sizes.groups + 1u32;
        Problem {
            a_row: 0u32,
            c_row: group * sizes.m,
            rows: sizes.m,
            written: sizes.m,
            tile_row: y * tile_rows,
            b_row: 0u32,
            expert: 0u32,
            depth: groups[(group + 1u32) as usize] - groups[group as usize],
            word: groups[(stride + group) as usize],
            tile: groups[(2u32 * stride + group) as usize],
        }
    } else {
        Problem {
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

/// Where the scale of `column` and `tile` of `B` lies.
#[cube]
pub(in crate::gemm) fn b_scale_index(
    sizes: &Sizes,
    problem: &Problem,
    column: u32,
    tile: u32,
    #[comptime] of: ScaleOf,
) -> u32 {
    let row = if comptime!(matches!(of, ScaleOf::Block)) { column / DEPTH } else { column };
    problem.expert * sizes.b_scale_expert
        + row * sizes.b_scale_row
        + (problem.tile + tile) * sizes.b_scale_tile
}

/// The smaller of two numbers.
#[cube]
pub(super) fn at_most(x: u32, most: u32) -> u32 {
    select(x > most, most, x)
}
