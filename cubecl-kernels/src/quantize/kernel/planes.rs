//! Casts of rows and of columns with a scale a tile by planes of eight units, for a software
//! renderer: a load costs by the number there, two numbers of a word as much as one; a barrier and
//! an array with indices that vary cost more than that; arithmetic costs next to nothing (as
//! [`plane_tile`](crate::device::plane_tile) says). So all of a row's tile is in the registers of one
//! plane, and columns, which would not fit, are loaded again.
//!
//! Planes must be of [`LANES`] units, which all take part.

// A condition that is decided when the kernel is compiled stays outside one that a unit decides.
#![allow(clippy::collapsible_if)]

use super::form::{CastForm, Entries};
use super::{BLOCK, WORDS};
use crate::device::codec::{encode_quad, reciprocal, scale_bits};
use crate::device::group_of_tile;
use crate::device::plane_tile::{LANES, at_most, unpack};
use crate::swiglu::kernel::gated;
use cubecl::prelude::*;

/// Entries of a row's tile that a unit has, which lie side by side.
pub(in crate::quantize) const ROW_EACH: u32 = BLOCK / LANES;
/// Rows that a plane casts, one after the other.
pub(in crate::quantize) const ROWS: u32 = 16;
/// Columns of a unit, and the rows of one word of its codes.
const QUAD: u32 = 4;
/// Columns of a plane.
pub(in crate::quantize) const COLUMNS: u32 = QUAD * LANES;

/// The sizes of what is cast.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(in crate::quantize) struct PlaneSizes {
    pub(in crate::quantize) rows: u32,
    pub(in crate::quantize) columns: u32,
    pub(in crate::quantize) group_count: u32,
    /// Words and scales of a row of transposed codes.
    pub(in crate::quantize) column_words: u32,
    pub(in crate::quantize) column_tiles: u32,
}

/// Bits of four entries from `column` on of a row: of row `row` of `x`, or of SwiGLU's.
#[cube]
fn load_quad<N: Size>(
    x: &[Vector<u64, N>],
    row: u32,
    column: u32,
    columns: u32,
    #[comptime] entries: Entries,
) -> Array<u32> {
    let mut bits = Array::<u32>::new(comptime!(QUAD as usize));
    if comptime!(matches!(entries, Entries::Swiglu)) {
        let at = (2u32 * row * columns + column) / QUAD;
        let gates = x[at as usize];
        let ups = x[(at + columns / QUAD) as usize];
        #[unroll]
        for w in 0..2usize {
            let (gate, next_gate) = unpack(gates.extract(w));
            let (up, next_up) = unpack(ups.extract(w));
            bits[comptime!(2 * w)] = u32::reinterpret(gated(gate, up));
            bits[comptime!(2 * w + 1)] = u32::reinterpret(gated(next_gate, next_up));
        }
    } else {
        let loaded = x[((row * columns + column) / QUAD) as usize];
        #[unroll]
        for w in 0..2usize {
            let (first, second) = unpack(loaded.extract(w));
            bits[comptime!(2 * w)] = u32::reinterpret(first);
            bits[comptime!(2 * w + 1)] = u32::reinterpret(second);
        }
    }
    bits
}

#[cube]
fn larger(x: u32, y: u32) -> u32 {
    select(x > y, x, y)
}

/// Quantizes 16 rows of a tile of columns a plane.
///
/// # Shapes
/// `x` `[rows, columns]`, or `[rows, 2 columns]` with [`Entries::Swiglu`], or any number of rows
/// with [`Entries::Gathered`] and `numbers` those of the rows that are cast; `codes` in vectors of
/// four words `[rows, columns / 16]`, `scales` `[rows, tiles(columns)]`. `columns` is a multiple of
/// [`ROW_EACH`].
#[cube(launch_unchecked)]
pub(in crate::quantize) fn cast_rows_planes<N: Size, W: Size>(
    x: &[Vector<u64, N>],
    numbers: &[u32],
    codes: &mut [Vector<u32, W>],
    scales: &mut [u32],
    sizes: PlaneSizes,
    #[comptime] form: CastForm,
) {
    let columns = sizes.columns;
    let tiles = columns.div_ceil(BLOCK);
    let plane = ABSOLUTE_POS as u32 / LANES;
    let tile = plane % tiles;
    let first = plane / tiles * ROWS;
    let column = tile * BLOCK + UNIT_POS_PLANE * ROW_EACH;
    let inside = column < columns;
    // A unit behind the last column loads the first ones, and counts for nothing.
    let from = select(inside, column, 0u32);
    for r in 0..ROWS {
        let row = first + r;
        if row < sizes.rows {
            let mut source = row;
            if comptime!(matches!(form.entries, Entries::Gathered)) {
                source = numbers[row as usize];
            }
            let mut bits = Array::<u32>::new(comptime!(ROW_EACH as usize));
            let mut largest = 0u32;
            #[unroll]
            for q in 0..comptime!(ROW_EACH / QUAD) {
                let quad = load_quad::<N>(x, source, from + q * QUAD, columns, form.entries);
                #[unroll]
                for i in 0..QUAD {
                    let entry = quad[i as usize];
                    bits[comptime!((q * QUAD + i) as usize)] = entry;
                    largest = larger(entry & 0x7FFF_FFFFu32, largest);
                }
            }
            let mut amax = select(inside, largest, 0u32);
            #[unroll]
            for step in 0..3u32 {
                let other = plane_shuffle(amax, UNIT_POS_PLANE ^ comptime!(1u32 << step));
                amax = larger(other, amax);
            }
            let scale = scale_bits(amax, form.format, form.scale, form.conversion);
            let inverse = reciprocal(scale, form.conversion);
            let mut words = Vector::<u32, W>::zero();
            #[unroll]
            for w in 0..comptime!(ROW_EACH / QUAD) {
                let word = encode_quad(
                    bits[comptime!((w * QUAD) as usize)],
                    bits[comptime!((w * QUAD + 1) as usize)],
                    bits[comptime!((w * QUAD + 2) as usize)],
                    bits[comptime!((w * QUAD + 3) as usize)],
                    scale,
                    inverse,
                    form.format,
                    form.scale,
                    form.conversion,
                );
                words.insert(comptime!(w as usize), word);
            }
            if inside {
                codes[((row * columns + column) / ROW_EACH) as usize] = words;
            }
            if UNIT_POS_PLANE == 0u32 {
                scales[(row * tiles + tile) as usize] = scale;
            }
        }
    }
}

/// Quantizes a tile of rows of 32 columns a plane, four columns a unit, transposed: the entries are
/// loaded once for the scales and once for the codes.
///
/// # Shapes
/// `x` and `numbers` as [`cast_rows_planes`] has them, `groups` as in
/// [`group_of_tile`](crate::device::group_of_tile); `codes` `[columns, column_words]`, `scales`
/// `[columns, column_tiles]`. `columns` is a multiple of four.
#[cube(launch_unchecked)]
pub(in crate::quantize) fn cast_columns_planes<N: Size>(
    x: &[Vector<u64, N>],
    numbers: &[u32],
    groups: &[u32],
    codes: &mut [u32],
    scales: &mut [u32],
    sizes: PlaneSizes,
    #[comptime] form: CastForm,
) {
    let strips = sizes.columns.div_ceil(COLUMNS);
    let plane = ABSOLUTE_POS as u32 / LANES;
    let tile = plane / strips;
    let column = plane % strips * COLUMNS + UNIT_POS_PLANE * QUAD;
    let inside = column < sizes.columns;
    let from = select(inside, column, 0u32);
    if tile < sizes.column_tiles {
        // Rows and words of the group from this tile on; behind the last tile there are none.
        let mut first_row = tile * BLOCK;
        let mut end_row = sizes.rows;
        let mut first_word = tile * WORDS;
        if comptime!(form.grouped) {
            let group = group_of_tile(groups, sizes.group_count, tile);
            let stride = sizes.group_count + 1u32;
            let tile_in_group = tile - groups[(2u32 * stride + group) as usize];
            first_row = groups[group as usize] + tile_in_group * BLOCK;
            end_row = groups[(group + 1u32) as usize];
            first_word = groups[(stride + group) as usize] + tile_in_group * WORDS;
        }
        let rows = at_most(select(first_row < end_row, end_row - first_row, 0u32), BLOCK);
        let words = rows.div_ceil(QUAD);

        let mut amaxes = Array::<u32>::new(comptime!(QUAD as usize));
        #[unroll]
        for i in 0..comptime!(QUAD as usize) {
            amaxes[i] = 0u32;
        }
        for w in 0..words {
            // Past the last row the last one stands in.
            let tall = load_rows::<N>(x, numbers, first_row, rows, w, from, sizes.columns, form);
            #[unroll]
            for e in 0..comptime!(QUAD * QUAD) {
                let magnitude = tall[e as usize] & 0x7FFF_FFFFu32;
                let i = comptime!((e % QUAD) as usize);
                amaxes[i] = larger(magnitude, amaxes[i]);
            }
        }
        let mut divisors = Array::<u32>::new(comptime!(QUAD as usize));
        let mut inverses = Array::<u32>::new(comptime!(QUAD as usize));
        #[unroll]
        for i in 0..comptime!(QUAD as usize) {
            divisors[i] = scale_bits(amaxes[i], form.format, form.scale, form.conversion);
            inverses[i] = reciprocal(divisors[i], form.conversion);
            if inside {
                let line = column + comptime!(i as u32);
                scales[(line * sizes.column_tiles + tile) as usize] = divisors[i];
            }
        }
        for w in 0..words {
            let tall = load_rows::<N>(x, numbers, first_row, rows, w, from, sizes.columns, form);
            // A padding code is 0, also where the scale is NaN and would make it one.
            let left = rows - w * QUAD;
            let mask = select(left < QUAD, (1u32 << (8u32 * (left % QUAD))) - 1u32, 0xFFFF_FFFFu32);
            #[unroll]
            for i in 0..comptime!(QUAD as usize) {
                let word = encode_quad(
                    tall[i],
                    tall[comptime!(i + 4)],
                    tall[comptime!(i + 8)],
                    tall[comptime!(i + 12)],
                    divisors[i],
                    inverses[i],
                    form.format,
                    form.scale,
                    form.conversion,
                );
                if inside {
                    let line = column + comptime!(i as u32);
                    let at = line * sizes.column_words + first_word + w;
                    codes[at as usize] = word & mask;
                }
            }
        }
    }
}

/// Bits of four rows of a unit's four columns: those of word `w` of the `rows` from `first` on.
#[cube]
#[allow(clippy::too_many_arguments)]
fn load_rows<N: Size>(
    x: &[Vector<u64, N>],
    numbers: &[u32],
    first: u32,
    rows: u32,
    w: u32,
    column: u32,
    columns: u32,
    #[comptime] form: CastForm,
) -> Array<u32> {
    let mut bits = Array::<u32>::new(comptime!((QUAD * QUAD) as usize));
    let mut number = 0u32;
    if comptime!(matches!(form.entries, Entries::Gathered)) {
        // Every unit has the number of one of the rows.
        let own = first + at_most(w * QUAD + UNIT_POS_PLANE % QUAD, rows - 1u32);
        number = numbers[own as usize];
    }
    #[unroll]
    for j in 0..QUAD {
        let mut row = first + at_most(w * QUAD + j, rows - 1u32);
        if comptime!(matches!(form.entries, Entries::Gathered)) {
            row = plane_broadcast(number, j);
        }
        let quad = load_quad::<N>(x, row, column, columns, form.entries);
        #[unroll]
        for i in 0..QUAD {
            bits[comptime!((j * QUAD + i) as usize)] = quad[i as usize];
        }
    }
    bits
}
