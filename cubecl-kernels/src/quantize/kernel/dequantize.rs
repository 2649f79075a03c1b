//! Values from codes, of rows and blocks and of the transposed layout of columns.

use super::{BLOCK, WORDS};
use crate::definition::Fp8Format;
use crate::device::codec::decode;
use cubecl::prelude::*;

/// `y = scale * decode(code)`, one word a unit: `y[row, column]`, where scale
/// `[row / rows_a_scale, column / 128]` of an expert.
#[cube(launch_unchecked)]
pub(in crate::quantize) fn dequantize_words(
    codes: &[u32],
    scales: &[f32],
    y: &mut [f32],
    total_words: u32,
    rows: u32,
    columns: u32,
    rows_a_scale: u32,
    #[comptime] format: Fp8Format,
) {
    let index = ABSOLUTE_POS as u32;
    if index < total_words {
        let words = columns.div_ceil(4u32);
        let tiles = columns.div_ceil(BLOCK);
        let row = index / words;
        let column = (index % words) * 4u32;
        let expert = row / rows;
        let scale_row = expert * rows.div_ceil(rows_a_scale) + (row % rows) / rows_a_scale;
        let scale = scales[(scale_row * tiles + column / BLOCK) as usize];
        let word = codes[index as usize];
        #[unroll]
        for i in 0..4u32 {
            if column + i < columns {
                y[(row * columns + column + i) as usize] =
                    scale * decode(word >> (8u32 * i), format);
            }
        }
    }
}

/// `y[row, column] = scale * decode(code)` from transposed codes in the grouped layout, a column's
/// word a unit.
#[cube(launch_unchecked)]
pub(in crate::quantize) fn dequantize_transposed(
    codes: &[u32],
    scales: &[f32],
    groups: &[u32],
    y: &mut [f32],
    columns: u32,
    group_count: u32,
    column_words: u32,
    column_tiles: u32,
    rows: u32,
    #[comptime] format: Fp8Format,
    #[comptime] grouped: bool,
) {
    let index = ABSOLUTE_POS as u32;
    if index < columns * column_words {
        // Columns run fastest, so that neighbours write neighbours.
        let column = index % columns;
        let word_index = index / columns;
        let mut word_in_group = word_index;
        let mut first_row = 0u32;
        let mut end_row = rows;
        let mut first_tile = 0u32;
        if comptime!(grouped) {
            let stride = group_count + 1u32;
            let mut group = 0u32;
            while group + 1u32 < group_count
                && groups[(stride + group + 1u32) as usize] <= word_index
            {
                group += 1u32;
            }
            word_in_group = word_index - groups[(stride + group) as usize];
            first_row = groups[group as usize];
            end_row = groups[(group + 1u32) as usize];
            first_tile = groups[(2u32 * stride + group) as usize];
        }
        let row = first_row + word_in_group * 4u32;
        // A word behind the last group's, where a row has more than the groups need, has no row.
        let tile = first_tile + word_in_group / WORDS;
        let tile = select(tile < column_tiles, tile, 0u32);
        let scale = scales[(column * column_tiles + tile) as usize];
        let word = codes[(column * column_words + word_index) as usize];
        #[unroll]
        for i in 0..4u32 {
            if row + i < end_row {
                y[((row + i) * columns + column) as usize] =
                    scale * decode(word >> (8u32 * i), format);
            }
        }
    }
}
