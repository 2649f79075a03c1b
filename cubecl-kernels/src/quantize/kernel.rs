//! Device code of the casts: one kernel for row tiles, column tiles, both, and blocks, and the
//! largest magnitude of a tensor.

// A condition that is decided when the kernel is compiled stays outside one that a unit decides.
#![allow(clippy::collapsible_if)]

use crate::definition::{Fp8Format, ScaleFormat, TILE};
use crate::device::codec::{decode, encode, scale_bits};
use cubecl::prelude::*;

/// Units of a cube along each side of a 128x128 block; each holds 8x8 entries in registers.
pub(crate) const SIDE: u32 = 16;
const EACH: u32 = 8;
const BLOCK: u32 = TILE as u32;
/// Words of a full tile, and of one unit's 8 entries.
const WORDS: u32 = BLOCK / 4;
const EACH_WORDS: u32 = EACH / 4;

/// Which orientations a launch writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Orientations {
    pub(crate) rows: bool,
    pub(crate) columns: bool,
}

/// Where a tile's largest magnitude comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AmaxOf {
    /// The tile itself.
    Tile,
    /// The 128x128 block it lies in.
    Block,
    /// A number computed before, for the whole tensor.
    Given,
}

/// Where scales go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ScalesAs {
    /// A scale a row and tile of each orientation written.
    Tiles,
    /// One a block.
    Blocks,
}

/// What a cast computes and writes, fixed when the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CastForm {
    pub(crate) format: Fp8Format,
    pub(crate) scale: ScaleFormat,
    pub(crate) amax: AmaxOf,
    pub(crate) scales: ScalesAs,
    pub(crate) orientations: Orientations,
    /// Whether a unit's entries have constant indices and so live in registers; otherwise the
    /// kernel is a tenth of the size.
    pub(crate) unroll: bool,
}

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

/// Quantizes one 128x128 block a cube.
///
/// # Shapes
/// `x` `[experts * rows, columns]` in vectors of `N`, `1` or `4`; `groups` as in [`group_of_tile`];
/// row codes `[rows, words(columns)]`, row scales `[rows, tiles(columns)]`; column codes
/// `[columns, column_words]`, column scales `[columns, column_tiles]`; with [`ScalesAs::Blocks`]
/// one scale a block in `row_scales`. Every expert repeats that, and is a cube's `z`.
#[cube(launch_unchecked)]
pub(crate) fn cast_blocks<F: Float, N: Size>(
    x: &[Vector<F, N>],
    groups: &[u32],
    amax: &[u32],
    row_codes: &mut [u32],
    row_scales: &mut [u32],
    column_codes: &mut [u32],
    column_scales: &mut [u32],
    rows: u32,
    columns: u32,
    group_count: u32,
    column_words: u32,
    column_tiles: u32,
    #[comptime] vector: u32,
    #[comptime] form: CastForm,
) {
    let tile = CUBE_POS_X;
    let column_tile = CUBE_POS_Y;
    let expert = CUBE_POS_Z;
    let group = group_of_tile(groups, group_count, tile);
    let stride = group_count + 1u32;
    let tile_in_group = tile - groups[(2u32 * stride + group) as usize];
    let row_start = groups[group as usize] + tile_in_group * BLOCK;
    let row_end = groups[(group + 1u32) as usize];
    let first_word = groups[(stride + group) as usize] + tile_in_group * WORDS;
    let group_words = groups[(stride + group + 1u32) as usize];

    let unit_x = UNIT_POS % SIDE;
    let unit_y = UNIT_POS / SIDE;
    let column0 = column_tile * BLOCK + unit_x * EACH;
    let row0 = row_start + unit_y * EACH;

    // 8x8 entries as bits; what lies outside is zero, and a zero changes no largest magnitude.
    let mut bits = Array::<u32>::new(64usize);
    #[unroll(form.unroll)]
    for r in 0..EACH {
        let row = row0 + r;
        #[unroll(form.unroll)]
        for v in 0..EACH / vector {
            let column = column0 + v * vector;
            let mut loaded = Vector::<F, N>::zero();
            if row < row_end && column < columns {
                loaded = x[(((expert * rows + row) * columns + column) / vector) as usize];
            }
            #[unroll]
            for i in 0..vector {
                bits[(r * EACH + v * vector + i) as usize] =
                    u32::reinterpret(f32::cast_from(loaded.extract(i as usize)));
            }
        }
    }

    let mut shared = Shared::<[u32]>::new_slice(comptime!((BLOCK * SIDE) as usize));
    let mut partial = Shared::<[u32]>::new_slice(comptime!((SIDE * SIDE) as usize));
    let words = columns.div_ceil(4u32);
    let tiles = columns.div_ceil(BLOCK);
    let mut row_scale = Array::<u32>::new(EACH as usize);
    let mut column_scale = Array::<u32>::new(EACH as usize);

    if comptime!(matches!(form.amax, AmaxOf::Tile)) {
        if comptime!(form.orientations.rows) {
            #[unroll(form.unroll)]
            for r in 0..EACH {
                let mut largest = 0u32;
                #[unroll(form.unroll)]
                for c in 0..EACH {
                    let magnitude = bits[(r * EACH + c) as usize] & 0x7FFF_FFFFu32;
                    largest = select(magnitude > largest, magnitude, largest);
                }
                shared[((unit_y * EACH + r) * SIDE + unit_x) as usize] = largest;
            }
            reduce_lines(&shared, &mut partial);
            #[unroll(form.unroll)]
            for r in 0..EACH {
                row_scale[r as usize] =
                    scale_bits(line_amax(&partial, unit_y * EACH + r), form.format, form.scale);
            }
        }
        if comptime!(form.orientations.columns) {
            if comptime!(form.orientations.rows) {
                sync_cube();
            }
            #[unroll(form.unroll)]
            for c in 0..EACH {
                let mut largest = 0u32;
                #[unroll(form.unroll)]
                for r in 0..EACH {
                    let magnitude = bits[(r * EACH + c) as usize] & 0x7FFF_FFFFu32;
                    largest = select(magnitude > largest, magnitude, largest);
                }
                shared[((unit_x * EACH + c) * SIDE + unit_y) as usize] = largest;
            }
            reduce_lines(&shared, &mut partial);
            #[unroll(form.unroll)]
            for c in 0..EACH {
                column_scale[c as usize] =
                    scale_bits(line_amax(&partial, unit_x * EACH + c), form.format, form.scale);
            }
        }
    } else {
        let block_amax = if comptime!(matches!(form.amax, AmaxOf::Given)) {
            amax[0]
        } else {
            let mut largest = 0u32;
            #[unroll(form.unroll)]
            for i in 0..64usize {
                let magnitude = bits[i] & 0x7FFF_FFFFu32;
                largest = select(magnitude > largest, magnitude, largest);
            }
            cube_amax(&mut partial, largest)
        };
        let scale = scale_bits(block_amax, form.format, form.scale);
        #[unroll(form.unroll)]
        for i in 0..EACH as usize {
            row_scale[i] = scale;
            column_scale[i] = scale;
        }
    }

    if comptime!(matches!(form.scales, ScalesAs::Blocks)) {
        if UNIT_POS == 0u32 {
            row_scales[((expert * rows.div_ceil(BLOCK) + tile) * tiles + column_tile) as usize] =
                row_scale[0];
        }
    }

    if comptime!(form.orientations.rows) {
        #[unroll(form.unroll)]
        for r in 0..EACH {
            let row = row0 + r;
            if row < row_end {
                #[unroll(form.unroll)]
                for w in 0..EACH_WORDS {
                    let mut word = 0u32;
                    #[unroll]
                    for i in 0..4u32 {
                        let code = encode(
                            bits[(r * EACH + w * 4u32 + i) as usize],
                            row_scale[r as usize],
                            form.format,
                        );
                        // A padding code is 0, also where the tile's scale is NaN and would make it
                        // one.
                        word |= select(column0 + w * 4u32 + i < columns, code, 0u32) << (8u32 * i);
                    }
                    if column0 + w * 4u32 < columns {
                        row_codes[((expert * rows + row) * words + column0 / 4u32 + w) as usize] =
                            word;
                    }
                }
                if comptime!(matches!(form.scales, ScalesAs::Tiles)) {
                    if unit_x == 0u32 {
                        row_scales[(row * tiles + column_tile) as usize] = row_scale[r as usize];
                    }
                }
            }
        }
    }

    if comptime!(form.orientations.columns) {
        #[unroll(form.unroll)]
        for c in 0..EACH {
            let column = column0 + c;
            if column < columns {
                #[unroll(form.unroll)]
                for w in 0..EACH_WORDS {
                    let mut word = 0u32;
                    #[unroll]
                    for i in 0..4u32 {
                        let code = encode(
                            bits[((w * 4u32 + i) * EACH + c) as usize],
                            column_scale[c as usize],
                            form.format,
                        );
                        word |= select(row0 + w * 4u32 + i < row_end, code, 0u32) << (8u32 * i);
                    }
                    let index = first_word + unit_y * EACH_WORDS + w;
                    if index < group_words {
                        column_codes
                            [((expert * columns + column) * column_words + index) as usize] = word;
                    }
                }
                if comptime!(matches!(form.scales, ScalesAs::Tiles)) {
                    if unit_y == 0u32 {
                        column_scales[(column * column_tiles + tile) as usize] =
                            column_scale[c as usize];
                    }
                }
            }
        }
    }
}

/// Reduces the 16 entries of each of 128 lines to two, between two barriers.
#[cube]
fn reduce_lines(lines: &Shared<[u32]>, halves: &mut Shared<[u32]>) {
    sync_cube();
    let mut largest = 0u32;
    #[unroll]
    for i in 0..SIDE / 2u32 {
        let entry = lines[(UNIT_POS * (SIDE / 2u32) + i) as usize];
        largest = select(entry > largest, entry, largest);
    }
    halves[UNIT_POS as usize] = largest;
    sync_cube();
}

#[cube]
fn line_amax(halves: &Shared<[u32]>, line: u32) -> u32 {
    let first = halves[(2u32 * line) as usize];
    let second = halves[(2u32 * line + 1u32) as usize];
    select(first > second, first, second)
}

/// The largest of one number a unit, in every unit of a cube of 256.
#[cube]
fn cube_amax(partial: &mut Shared<[u32]>, own: u32) -> u32 {
    partial[UNIT_POS as usize] = own;
    sync_cube();
    if UNIT_POS < SIDE {
        let mut largest = 0u32;
        #[unroll]
        for i in 0..SIDE {
            let entry = partial[(i * SIDE + UNIT_POS) as usize];
            largest = select(entry > largest, entry, largest);
        }
        // Only this unit reads or writes column `UNIT_POS`.
        partial[UNIT_POS as usize] = largest;
    }
    sync_cube();
    let mut largest = 0u32;
    #[unroll]
    for i in 0..SIDE {
        let entry = partial[i as usize];
        largest = select(entry > largest, entry, largest);
    }
    largest
}

/// Bits of the largest magnitude of what each cube strides over, one a cube. NaN is the largest of
/// all.
#[cube(launch_unchecked)]
pub(crate) fn largest_magnitude<F: Float>(x: &[F], largest_bits: &mut [u32], length: u32) {
    let mut partial = Shared::<[u32]>::new_slice(comptime!((SIDE * SIDE) as usize));
    let mut largest = 0u32;
    let mut index = CUBE_POS_X * SIDE * SIDE + UNIT_POS;
    while index < length {
        let magnitude = u32::reinterpret(f32::cast_from(x[index as usize])) & 0x7FFF_FFFFu32;
        largest = select(magnitude > largest, magnitude, largest);
        index += CUBE_COUNT_X * SIDE * SIDE;
    }
    let whole = cube_amax(&mut partial, largest);
    if UNIT_POS == 0u32 {
        largest_bits[CUBE_POS_X as usize] = whole;
    }
}

/// Bits of the largest of what [`largest_magnitude`] left, one number a cube there; launched with
/// one cube.
#[cube(launch_unchecked)]
pub(crate) fn largest_of_partials(partials: &[u32], largest_bits: &mut [u32], length: u32) {
    let mut partial = Shared::<[u32]>::new_slice(comptime!((SIDE * SIDE) as usize));
    let mut largest = 0u32;
    let mut index = UNIT_POS;
    while index < length {
        let magnitude = partials[index as usize];
        largest = select(magnitude > largest, magnitude, largest);
        index += SIDE * SIDE;
    }
    let whole = cube_amax(&mut partial, largest);
    if UNIT_POS == 0u32 {
        largest_bits[0] = whole;
    }
}

/// `y = scale * decode(code)`, one word a unit: `y[row, column]`, where scale
/// `[row / rows_a_scale, column / 128]` of an expert.
#[cube(launch_unchecked)]
pub(crate) fn dequantize_words(
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
pub(crate) fn dequantize_transposed(
    codes: &[u32],
    scales: &[f32],
    groups: &[u32],
    y: &mut [f32],
    columns: u32,
    group_count: u32,
    column_words: u32,
    column_tiles: u32,
    #[comptime] format: Fp8Format,
) {
    let index = ABSOLUTE_POS as u32;
    if index < columns * column_words {
        // Columns run fastest, so that neighbours write neighbours.
        let column = index % columns;
        let word_index = index / columns;
        let stride = group_count + 1u32;
        let mut group = 0u32;
        while groups[(stride + group + 1u32) as usize] <= word_index {
            group += 1u32;
        }
        let word_in_group = word_index - groups[(stride + group) as usize];
        let row = groups[group as usize] + word_in_group * 4u32;
        let tile = groups[(2u32 * stride + group) as usize] + word_in_group / WORDS;
        let scale = scales[(column * column_tiles + tile) as usize];
        let word = codes[(column * column_words + word_index) as usize];
        #[unroll]
        for i in 0..4u32 {
            if row + i < groups[(group + 1u32) as usize] {
                y[((row + i) * columns + column) as usize] =
                    scale * decode(word >> (8u32 * i), format);
            }
        }
    }
}
