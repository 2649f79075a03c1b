//! Device code: where a plane's rows and columns lie.

use crate::attention::kernel::{Block, Sizes};
use crate::device::plane_mix::{MIX_WORDS, Mixed};
use crate::device::plane_tile::PlaneTile;
use cubecl::prelude::*;

/// Groups of [`MIX_WORDS`] words that hold each part of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Groups {
    pub(crate) nope: u32,
    pub(crate) rope: u32,
    pub(crate) v: u32,
}

/// Lines of a buffer, in words: where line 0 is, how far apart they are, how many there are.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Strip {
    pub(super) base: u32,
    pub(super) step: u32,
    pub(super) end: u32,
}

/// The block of a plane: heads first, then blocks.
#[cube]
pub(super) fn block_of(plane: u32, sizes: Sizes, #[comptime] tile: PlaneTile) -> Block {
    let heads = sizes.batch * sizes.heads;
    let own = plane % heads;
    Block {
        sequence: own / sizes.heads,
        head: own % sizes.heads,
        first: plane / heads * comptime!(tile.rows),
    }
}

/// Rows of `q`.
#[cube]
pub(super) fn queries(block: Block, sizes: Sizes) -> Strip {
    let width = sizes.nope + sizes.rope;
    Strip {
        base: (block.sequence * sizes.queries * sizes.heads + block.head) * width,
        step: sizes.heads * width,
        end: sizes.queries,
    }
}

/// Rows of `kv`.
#[cube]
pub(super) fn keys(block: Block, sizes: Sizes) -> Strip {
    let width = sizes.nope + sizes.v;
    Strip {
        base: (block.sequence * sizes.keys * sizes.heads + block.head) * width,
        step: sizes.heads * width,
        end: sizes.keys,
    }
}

/// Rows of `k_rope`, which all heads share.
#[cube]
pub(super) fn ropes(block: Block, sizes: Sizes) -> Strip {
    Strip { base: block.sequence * sizes.keys * sizes.rope, step: sizes.rope, end: sizes.keys }
}

/// Rows of `out`.
#[cube]
pub(super) fn outs(block: Block, sizes: Sizes) -> Strip {
    Strip {
        base: (block.sequence * sizes.queries * sizes.heads + block.head) * sizes.v,
        step: sizes.heads * sizes.v,
        end: sizes.queries,
    }
}

/// The strip `offset` words further on.
#[cube]
pub(super) fn part(strip: Strip, offset: u32) -> Strip {
    Strip { base: strip.base + offset, step: strip.step, end: strip.end }
}

/// Group `group` of the `width` words of a strip's lines from `first` on.
#[cube]
pub(super) fn mixed(strip: Strip, first: u32, width: u32, #[comptime] group: u32) -> Mixed {
    let before = comptime!(group * MIX_WORDS);
    Mixed {
        base: strip.base + before,
        step: strip.step,
        first,
        end: strip.end,
        words: words_of(width, group),
    }
}

/// Words of group `group` of `width`.
#[cube]
pub(super) fn words_of(width: u32, #[comptime] group: u32) -> u32 {
    let rest = width - comptime!(group * MIX_WORDS);
    select(rest < MIX_WORDS, rest, MIX_WORDS.runtime())
}
