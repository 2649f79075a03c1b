//! Device code: rows of the same token as lists, and sums along them.
//!
//! # Rejected
//! - Atomic additions into the table: their order, and so the result, would be chance.
//! - A cube a row of the table, looking for its token among all rows: a table of 129,280 rows reads
//!   the tokens as often.
//! - Sorting the tokens: counts and offsets of as many groups as the vocabulary has rows.

use cubecl::prelude::*;

/// No row.
pub(crate) const NONE: u32 = u32::MAX;
/// Entries of a unit.
pub(crate) const QUAD: u32 = 4;

/// For each row the next one with the same token, or [`NONE`], and whether it is the first with it;
/// a row a unit.
///
/// # Shapes
/// `tokens`, `next`, `first`: `[rows]`.
#[cube(launch_unchecked)]
pub(crate) fn link_rows(tokens: &[u32], next: &mut [u32], first: &mut [u32], rows: u32) {
    let row = ABSOLUTE_POS as u32;
    if row < rows {
        let token = tokens[row as usize];
        let mut is_first = 1u32;
        let mut before = row;
        while before > 0u32 {
            before -= 1u32;
            if tokens[before as usize] == token {
                is_first = 0u32;
                before = 0u32;
            }
        }
        let mut following = NONE.runtime();
        let mut other = row + 1u32;
        while other < rows {
            if tokens[other as usize] == token {
                following = other;
                other = rows;
            }
            other += 1u32;
        }
        next[row as usize] = following;
        first[row as usize] = is_first;
    }
}

/// Zeros, an entry a unit.
#[cube(launch_unchecked)]
pub(crate) fn clear(x: &mut [f32], total: u32) {
    let place = ABSOLUTE_POS as u32;
    if place < total {
        x[place as usize] = 0.0f32;
    }
}

/// Sums along each list of rows into the table, a quad of a list a unit. Tokens outside the table
/// are passed over.
///
/// # Shapes
/// `dy` `[rows, width]`, `tokens`, `next` and `first` as [`link_rows`] has them; `dtable`
/// `[vocab, width]`; `total` quads.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn sum_lists(
    dy: &[f32],
    tokens: &[u32],
    next: &[u32],
    first: &[u32],
    dtable: &mut [f32],
    total: u32,
    width: u32,
    vocab: u32,
) {
    let place = ABSOLUTE_POS as u32;
    if place < total {
        let quads = width.div_ceil(QUAD);
        let row = place / quads;
        let column = place % quads * QUAD;
        let token = tokens[row as usize];
        if first[row as usize] == 1u32 && token < vocab {
            let mut sum = Array::<f32>::new(QUAD as usize);
            #[unroll]
            for i in 0..QUAD as usize {
                sum[i] = 0.0f32;
            }
            let mut term = row;
            while term != NONE {
                #[unroll]
                for i in 0..QUAD {
                    if column + i < width {
                        sum[i as usize] += dy[(term * width + column + i) as usize];
                    }
                }
                term = next[term as usize];
            }
            #[unroll]
            for i in 0..QUAD {
                if column + i < width {
                    dtable[(token * width + column + i) as usize] = sum[i as usize];
                }
            }
        }
    }
}
