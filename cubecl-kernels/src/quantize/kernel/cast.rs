//! One kernel for row tiles, column tiles, both, and blocks.

// A condition that is decided when the kernel is compiled stays outside one that a unit decides.
#![allow(clippy::collapsible_if)]

use super::amax::{cube_amax, line_amax, reduce_lines};
use super::form::{AmaxOf, CastForm, Entries, ScalesAs};
use super::{BLOCK, SIDE, WORDS};
use crate::device::codec::{encode_quad, reciprocal, scale_bits};
use crate::device::group_of_tile;
use crate::swiglu::kernel::gated;
use cubecl::prelude::*;

/// Entries of a unit along each side, which it holds in registers, and words of one line of them.
const EACH: u32 = 8;
const EACH_WORDS: u32 = EACH / 4;

/// Where a cast writes; a buffer that its form does not write is not touched.
#[derive(CubeType, CubeLaunch)]
pub(in crate::quantize) struct CastOutputs {
    /// `[rows, words(columns)]` of each expert.
    pub(in crate::quantize) row_codes: Box<[u32]>,
    /// Bits of the rows' scales `[rows, tiles(columns)]`, or of the blocks' with
    /// [`ScalesAs::Blocks`].
    pub(in crate::quantize) row_scales: Box<[u32]>,
    /// `[columns, column_words]` of each expert.
    pub(in crate::quantize) column_codes: Box<[u32]>,
    /// Bits of the columns' scales `[columns, column_tiles]`.
    pub(in crate::quantize) column_scales: Box<[u32]>,
}

/// The sizes of a cast: those of an expert's matrix, and of its transposed codes and scales.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(in crate::quantize) struct CastSizes {
    pub(in crate::quantize) rows: u32,
    pub(in crate::quantize) columns: u32,
    pub(in crate::quantize) group_count: u32,
    pub(in crate::quantize) column_words: u32,
    pub(in crate::quantize) column_tiles: u32,
}

/// The block that a cube casts, and the 8x8 entries of it that a unit has.
#[derive(CubeType, Clone, Copy)]
struct Place {
    expert: u32,
    /// Tiles of rows and of columns before this one.
    tile: u32,
    column_tile: u32,
    /// The unit's place in the block.
    unit_x: u32,
    unit_y: u32,
    /// The unit's first row and column, and where the group's rows end.
    row0: u32,
    column0: u32,
    row_end: u32,
    /// The block's first word in a row of transposed codes, and where the group's words end.
    first_word: u32,
    end_word: u32,
}

/// Which way a line of a unit's entries runs, and a tile of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Along {
    Row,
    Column,
}

/// Quantizes one 128x128 block a cube.
///
/// # Shapes
/// `x` `[experts * rows, columns]` in vectors of `N`, `1` or `4`, or `[rows, 2 columns]` with
/// [`Entries::Swiglu`], or any number of rows with [`Entries::Gathered`]; `groups` as in
/// [`group_of_tile`](crate::device::group_of_tile); `given` the bits of one number with
/// [`AmaxOf::Given`], or the number of each row of `x` with [`Entries::Gathered`] (a form has one of
/// the two, and a device may have no more buffers to bind). Every expert is a cube's `z`.
#[cube(launch_unchecked)]
pub(in crate::quantize) fn cast_blocks<F: Float, N: Size>(
    x: &[Vector<F, N>],
    groups: &[u32],
    given: &[u32],
    outputs: &mut CastOutputs,
    sizes: CastSizes,
    #[comptime] vector: u32,
    #[comptime] form: CastForm,
) {
    let place = locate(groups, &sizes, form.grouped);
    let bits = load_entries::<F, N>(x, given, &sizes, &place, vector, form);

    // The scale of each of the unit's rows and columns.
    let mut lines = Shared::<[u32]>::new_slice(comptime!((BLOCK * SIDE) as usize));
    let mut partial = Shared::<[u32]>::new_slice(comptime!((SIDE * SIDE) as usize));
    let mut row_scale = Array::<u32>::new(EACH as usize);
    let mut column_scale = Array::<u32>::new(EACH as usize);
    if comptime!(matches!(form.amax, AmaxOf::Tile)) {
        if comptime!(form.orientations.rows) {
            let (own, across) = (place.unit_y, place.unit_x);
            line_amaxes(&bits, own, across, &mut lines, form.unroll, Along::Row);
            reduce_lines(&lines, &mut partial);
            line_scales(&partial, own, &mut row_scale, form);
        }
        if comptime!(form.orientations.columns) {
            if comptime!(form.orientations.rows) {
                sync_cube();
            }
            let (own, across) = (place.unit_x, place.unit_y);
            line_amaxes(&bits, own, across, &mut lines, form.unroll, Along::Column);
            reduce_lines(&lines, &mut partial);
            line_scales(&partial, own, &mut column_scale, form);
        }
    } else {
        let block_amax = if comptime!(matches!(form.amax, AmaxOf::Given)) {
            given[0]
        } else {
            let own = largest_entry(&bits, form.unroll);
            cube_amax(&mut partial, own)
        };
        let scale = scale_bits(block_amax, form.format, form.scale, form.conversion);
        #[unroll(form.unroll)]
        for i in 0..EACH as usize {
            row_scale[i] = scale;
            column_scale[i] = scale;
        }
    }

    if comptime!(matches!(form.scales, ScalesAs::Blocks)) {
        if UNIT_POS == 0u32 {
            let block_row = place.expert * sizes.rows.div_ceil(BLOCK) + place.tile;
            let tiles = sizes.columns.div_ceil(BLOCK);
            outputs.row_scales[(block_row * tiles + place.column_tile) as usize] = row_scale[0];
        }
    }
    if comptime!(form.orientations.rows) {
        write_rows(&bits, &row_scale, &sizes, &place, outputs, form);
    }
    if comptime!(form.orientations.columns) {
        write_columns(&bits, &column_scale, &sizes, &place, outputs, form);
    }
}

#[cube]
fn locate(groups: &[u32], sizes: &CastSizes, #[comptime] grouped: bool) -> Place {
    let tile = CUBE_POS_X;
    let column_tile = CUBE_POS_Y;
    let unit_x = UNIT_POS % SIDE;
    let unit_y = UNIT_POS / SIDE;
    let mut first_row = 0u32;
    let mut row_end = sizes.rows;
    let mut tile_in_group = tile;
    let mut first_word = 0u32;
    let mut end_word = sizes.column_words;
    if comptime!(grouped) {
        let group = group_of_tile(groups, sizes.group_count, tile);
        let stride = sizes.group_count + 1u32;
        first_row = groups[group as usize];
        row_end = groups[(group + 1u32) as usize];
        tile_in_group = tile - groups[(2u32 * stride + group) as usize];
        first_word = groups[(stride + group) as usize];
        end_word = groups[(stride + group + 1u32) as usize];
    }
    Place {
        expert: CUBE_POS_Z,
        tile,
        column_tile,
        unit_x,
        unit_y,
        row0: first_row + tile_in_group * BLOCK + unit_y * EACH,
        column0: column_tile * BLOCK + unit_x * EACH,
        row_end,
        first_word: first_word + tile_in_group * WORDS,
        end_word,
    }
}

/// The unit's 8x8 entries as bits of FP32, row by row; what lies outside is zero, and a zero
/// changes no largest magnitude.
#[cube]
fn load_entries<F: Float, N: Size>(
    x: &[Vector<F, N>],
    given: &[u32],
    sizes: &CastSizes,
    place: &Place,
    #[comptime] vector: u32,
    #[comptime] form: CastForm,
) -> Array<u32> {
    let mut bits = Array::<u32>::new(comptime!((EACH * EACH) as usize));
    #[unroll(form.unroll)]
    for r in 0..EACH {
        let row = place.row0 + r;
        let mut gathered = 0u32;
        if comptime!(matches!(form.entries, Entries::Gathered)) {
            if row < place.row_end {
                gathered = given[row as usize];
            }
        }
        #[unroll(form.unroll)]
        for v in 0..EACH / vector {
            let column = place.column0 + v * vector;
            let mut loaded = Vector::<F, N>::zero();
            let mut up = Vector::<F, N>::zero();
            if row < place.row_end && column < sizes.columns {
                // Not before the condition: registers would be spilled.
                let row = place.expert * sizes.rows + row;
                if comptime!(matches!(form.entries, Entries::Given)) {
                    loaded = x[((row * sizes.columns + column) / vector) as usize];
                } else if comptime!(matches!(form.entries, Entries::Gathered)) {
                    loaded = x[((gathered * sizes.columns + column) / vector) as usize];
                } else {
                    let gate = (2u32 * row * sizes.columns + column) / vector;
                    loaded = x[gate as usize];
                    up = x[(gate + sizes.columns / vector) as usize];
                }
            }
            #[unroll]
            for i in 0..vector {
                let mut entry = f32::cast_from(loaded.extract(i as usize));
                if comptime!(matches!(form.entries, Entries::Swiglu)) {
                    entry = gated(entry, f32::cast_from(up.extract(i as usize)));
                }
                bits[(r * EACH + v * vector + i) as usize] = u32::reinterpret(entry);
            }
        }
    }
    bits
}

/// Where entry `i` of a line lies among the unit's.
#[cube]
fn entry(line: u32, i: u32, #[comptime] along: Along) -> usize {
    if comptime!(matches!(along, Along::Row)) {
        (line * EACH + i) as usize
    } else {
        (i * EACH + line) as usize
    }
}

/// Bits of the largest magnitude that the unit has of each of its rows or columns: lines from
/// `8 own` on of the block's 128. It is number `across` of the 16 units that share them.
#[cube]
fn line_amaxes(
    bits: &Array<u32>,
    own: u32,
    across: u32,
    lines: &mut Shared<[u32]>,
    #[comptime] unroll: bool,
    #[comptime] along: Along,
) {
    #[unroll(unroll)]
    for line in 0..EACH {
        let mut largest = 0u32;
        #[unroll(unroll)]
        for i in 0..EACH {
            let magnitude = bits[entry(line, i, along)] & 0x7FFF_FFFFu32;
            largest = select(magnitude > largest, magnitude, largest);
        }
        lines[((own * EACH + line) * SIDE + across) as usize] = largest;
    }
}

/// Bits of the scales of the unit's lines, which are those from `8 own` on.
#[cube]
fn line_scales(
    halves: &Shared<[u32]>,
    own: u32,
    scales: &mut Array<u32>,
    #[comptime] form: CastForm,
) {
    #[unroll(form.unroll)]
    for line in 0..EACH {
        let amax = line_amax(halves, own * EACH + line);
        scales[line as usize] = scale_bits(amax, form.format, form.scale, form.conversion);
    }
}

/// Bits of the largest magnitude of the unit's entries.
#[cube]
fn largest_entry(bits: &Array<u32>, #[comptime] unroll: bool) -> u32 {
    let mut largest = 0u32;
    #[unroll(unroll)]
    for i in 0..(EACH * EACH) as usize {
        let magnitude = bits[i] & 0x7FFF_FFFFu32;
        largest = select(magnitude > largest, magnitude, largest);
    }
    largest
}

/// Word `w` of a line's codes, by its scale and the inverse. A padding code, from place `end` on, is
/// 0, also where the tile's scale is NaN and would make it one.
#[cube]
#[allow(clippy::too_many_arguments)]
fn pack_codes(
    bits: &Array<u32>,
    scale: u32,
    inverse: u32,
    line: u32,
    w: u32,
    first: u32,
    end: u32,
    #[comptime] form: CastForm,
    #[comptime] along: Along,
) -> u32 {
    let place = w * 4u32;
    let word = encode_quad(
        bits[entry(line, place, along)],
        bits[entry(line, place + 1u32, along)],
        bits[entry(line, place + 2u32, along)],
        bits[entry(line, place + 3u32, along)],
        scale,
        inverse,
        form.format,
        form.scale,
        form.conversion,
    );
    // Codes of this word that are no padding.
    let left = select(first + place < end, end - first - place, 0u32);
    let mask = select(left < 4u32, (1u32 << (8u32 * left)) - 1u32, 0xFFFF_FFFFu32);
    word & mask
}

/// Writes the codes of the unit's rows, and with [`ScalesAs::Tiles`] their scales.
#[cube]
fn write_rows(
    bits: &Array<u32>,
    scales: &Array<u32>,
    sizes: &CastSizes,
    place: &Place,
    outputs: &mut CastOutputs,
    #[comptime] form: CastForm,
) {
    let (column0, columns) = (place.column0, sizes.columns);
    let words = columns.div_ceil(4u32);
    let tiles = columns.div_ceil(BLOCK);
    #[unroll(form.unroll)]
    for r in 0..EACH {
        let row = place.row0 + r;
        if row < place.row_end {
            let scale = scales[r as usize];
            let inverse = reciprocal(scale, form.conversion);
            #[unroll(form.unroll)]
            for w in 0..EACH_WORDS {
                let word =
                    pack_codes(bits, scale, inverse, r, w, column0, columns, form, Along::Row);
                if column0 + w * 4u32 < columns {
                    let start = (place.expert * sizes.rows + row) * words;
                    outputs.row_codes[(start + column0 / 4u32 + w) as usize] = word;
                }
            }
            if comptime!(matches!(form.scales, ScalesAs::Tiles)) {
                if place.unit_x == 0u32 {
                    let index = row * tiles + place.column_tile;
                    outputs.row_scales[index as usize] = scale;
                }
            }
        }
    }
}

/// Writes the codes of the unit's columns, transposed, and with [`ScalesAs::Tiles`] their scales.
#[cube]
fn write_columns(
    bits: &Array<u32>,
    scales: &Array<u32>,
    sizes: &CastSizes,
    place: &Place,
    outputs: &mut CastOutputs,
    #[comptime] form: CastForm,
) {
    let (row0, row_end) = (place.row0, place.row_end);
    #[unroll(form.unroll)]
    for c in 0..EACH {
        let column = place.column0 + c;
        if column < sizes.columns {
            let scale = scales[c as usize];
            let inverse = reciprocal(scale, form.conversion);
            #[unroll(form.unroll)]
            for w in 0..EACH_WORDS {
                let word =
                    pack_codes(bits, scale, inverse, c, w, row0, row_end, form, Along::Column);
                let index = place.first_word + place.unit_y * EACH_WORDS + w;
                if index < place.end_word {
                    let start = (place.expert * sizes.columns + column) * sizes.column_words;
                    outputs.column_codes[(start + index) as usize] = word;
                }
            }
            if comptime!(matches!(form.scales, ScalesAs::Tiles)) {
                if place.unit_y == 0u32 {
                    let index = column * sizes.column_tiles + place.tile;
                    outputs.column_scales[index as usize] = scale;
                }
            }
        }
    }
}
