//! Device code that copies rows of codes so that they begin and end where tiles do.

use super::problem::TILE_WORDS;
use crate::device::group_of_tile;
use cubecl::prelude::*;

/// Copies rows of `words` words, each group's (or all of them, where there are none) from the first
/// word of its own first tile on, with zeros up to the end of its last tile; a word a unit.
///
/// # Shapes
/// `codes` `[rows, words]` -> `padded` `[rows, 32 tiles]`, `total` words; `groups` as
/// [`locate`](super::problem::locate) has them of [`Grouping::Depth`](super::problem::Grouping).
#[cube(launch_unchecked)]
pub(in crate::gemm) fn pad_rows(
    codes: &[u32],
    groups: &[u32],
    padded: &mut [u32],
    total: u32,
    words: u32,
    tiles: u32,
    group_count: u32,
    #[comptime] grouped: bool,
) {
    let place = ABSOLUTE_POS as u32;
    if place < total {
        let row = place / (tiles * TILE_WORDS);
        let word = place % (tiles * TILE_WORDS);
        let mut source = word;
        let mut end = words;
        if comptime!(grouped) {
            let group = group_of_tile(groups, group_count, word / TILE_WORDS);
            let stride = group_count + 1u32;
            source = groups[(stride + group) as usize]
                + (word - groups[(2u32 * stride + group) as usize] * TILE_WORDS);
            end = groups[(stride + group + 1u32) as usize];
        }
        let mut value = 0u32;
        if source < end {
            value = codes[(row * words + source) as usize];
        }
        padded[place as usize] = value;
    }
}
