//! Which group a tile or a piece of rows belongs to, in device code.

use cubecl::prelude::*;

/// The group that tile `tile` of the grouped layout belongs to. `groups` holds offsets, first words
/// and first tiles, `count + 1` of each.
#[cube]
pub(crate) fn group_of_tile(groups: &[u32], count: u32, tile: u32) -> u32 {
    let mut low = 0u32;
    let mut high = count;
    // The last group whose first tile is at or below `tile`: empty groups share a first tile with
    // the one after them.
    while high - low > 1u32 {
        let middle = (low + high) / 2u32;
        if groups[(2u32 * (count + 1u32) + middle) as usize] <= tile {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// A piece of the rows of a group.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) group: u32,
    /// Its first row; behind the last piece this is behind the last row.
    pub(crate) first: u32,
    /// The first row that is no longer the group's.
    pub(crate) end: u32,
}

/// Piece `piece` of all groups' rows, each of which is cut into pieces of `rows` from its first row
/// on. `bounds` holds the groups' first rows and the number of rows.
#[cube]
pub(crate) fn piece_of_rows(
    bounds: &[u32],
    count: u32,
    piece: u32,
    #[comptime] rows: u32,
) -> Piece {
    let mut group = 0u32;
    let mut before = 0u32;
    let mut first = bounds[0];
    let mut end = bounds[1];
    while piece >= before + (end - first).div_ceil(rows) && group + 1u32 < count {
        before += (end - first).div_ceil(rows);
        group += 1u32;
        first = end;
        end = bounds[(group + 1u32) as usize];
    }
    Piece { group, first: first + (piece - before) * rows, end }
}
