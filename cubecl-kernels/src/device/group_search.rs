//! Which group a tile belongs to, in device code.

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
