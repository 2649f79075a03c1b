//! Device code: the tile of a product that the units of one plane share, on a software renderer
//! whose planes are of eight units.
//!
//! There a load goes through memory for each unit and each entry by itself, and by far most of a
//! product's time, while arithmetic and handing a number of one unit to the others cost next to
//! nothing. So the plane's tile is as large as compiling it allows, each number of it is loaded by
//! one unit alone, and two by two: as one integer of 64 bits. The rows are handed around, the
//! columns are dealt out to the units.
//!
//! Planes must be of [`LANES`] units, which all take part: whoever launches asks for
//! [`has_plane_tiles`].
//!
//! # Rejected
//! Measured with Mesa's lavapipe (22.3) on two busy cores of a Zen 3, GFLOP/s of a core at 512^3,
//! and seconds to compile (a unit's tile of 8x8: 0.95 and 0.4):
//! - numbers in vectors of four FP32: 64 rows 4.0, 32 rows 2.9, against 5.8 to 6.4 of 64 rows in
//!   pairs;
//! - 32 rows: 4.4 and 0.9; 48 rows: 5.2 and 1.9, against 2.3; eight columns a unit: 8.1, and 6.5 to
//!   compile;
//! - reading shared memory instead: the same loop over units.

use super::tile::{Along, Lines};
use cubecl::features::TypeUsage;
use cubecl::prelude::*;

/// Units of a plane.
pub(crate) const LANES: u32 = 8;
/// Numbers of a word.
pub(crate) const PAIR: u32 = 2;

/// Rows of the tile, and columns of a unit.
const ROWS: u32 = 64;
const EACH: u32 = 4;

/// Whether a client's device is a software renderer with planes of [`LANES`] units and words of 64
/// bits.
pub(crate) fn has_plane_tiles(client: &Client) -> bool {
    let hardware = &client.properties().hardware;
    let planes = [hardware.plane_size_min, hardware.plane_size_max] == [LANES; 2];
    planes && u64::supported_uses(client).contains(TypeUsage::Buffer)
}

/// The tile of a plane, and how its operands lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PlaneTile {
    /// Rows, which the units share: a multiple of [`LANES`].
    pub(crate) rows: u32,
    /// Columns of a unit: a multiple of [`PAIR`].
    pub(crate) each: u32,
    pub(crate) a: Along,
    pub(crate) b: Along,
}

impl PlaneTile {
    /// The tile for operands that lie so.
    pub(crate) const fn new(a: Along, b: Along) -> Self {
        Self { rows: ROWS, each: EACH, a, b }
    }

    /// The tile of `rows` rows whose operands lie depth after depth.
    pub(crate) const fn of_depths(rows: u32) -> Self {
        Self { rows, each: EACH, a: Along::Depth, b: Along::Depth }
    }

    /// Whether a result of so many rows and columns does not leave most of its tiles empty, given
    /// that they are several times as fast as those of a unit.
    pub(crate) fn suits(rows: usize, columns: usize) -> bool {
        let covered = |down: usize, across: usize| {
            rows.next_multiple_of(down).saturating_mul(columns.next_multiple_of(across))
        };
        let unit = super::tile::EACH as usize;
        covered(ROWS as usize, (EACH * LANES) as usize) <= 4 * covered(unit, unit)
    }

    /// Columns of the plane.
    pub(crate) const fn columns(self) -> u32 {
        self.each * LANES
    }

    /// Words that a unit loads of the rows of two depths.
    const fn loads(self) -> usize {
        (self.rows / LANES) as usize
    }

    /// Words along the rows.
    const fn pairs(self) -> u32 {
        self.rows / PAIR
    }
}

/// Numbers that a unit has.
#[derive(CubeType)]
pub(crate) struct Entries {
    pub(crate) of: Array<f32>,
}

/// The two numbers of a word.
#[cube]
pub(crate) fn unpack(word: u64) -> (f32, f32) {
    (f32::reinterpret(u32::cast_from(word)), f32::reinterpret(u32::cast_from(word >> 32u64)))
}

#[cube]
pub(crate) fn pack(low: f32, high: f32) -> u64 {
    (u64::cast_from(u32::reinterpret(high)) << 32u64) | u64::cast_from(u32::reinterpret(low))
}

/// Sums of zero, of a unit: row by row, its columns.
#[cube]
pub(crate) fn zero_sums(#[comptime] tile: PlaneTile) -> Entries {
    let mut of = Array::<f32>::new(comptime!((tile.rows * tile.each) as usize));
    #[unroll]
    for e in 0..comptime!((tile.rows * tile.each) as usize) {
        of[e] = 0.0f32;
    }
    Entries { of }
}

/// Where a unit finds what it loads of the rows from `first` on, of `end` that begin at `base` and
/// lie `step` words apart; past the last one the last one stands in.
#[cube]
pub(crate) fn row_lines(
    base: u32,
    first: u32,
    end: u32,
    step: u32,
    #[comptime] tile: PlaneTile,
) -> Lines {
    let mut at = Array::<u32>::new(comptime!(tile.loads()));
    #[unroll]
    for t in 0..comptime!(tile.loads() as u32) {
        let entry = t * LANES + UNIT_POS_PLANE;
        at[t as usize] = if comptime!(tile.a == Along::Depth) {
            base + at_most(first + entry, end - 1u32) * step
        } else {
            base + at_most(first / PAIR + entry % comptime!(tile.pairs()), end / PAIR - 1u32)
        };
    }
    Lines { at }
}

/// A unit's first column of its pair number `q`, of those from `first` on.
#[cube]
pub(crate) fn column_of(first: u32, q: u32) -> u32 {
    first + (q * LANES + UNIT_POS_PLANE) * PAIR
}

/// Where a unit finds its columns of those from `first` on, as [`row_lines`] has the rows.
#[cube]
pub(crate) fn column_lines(
    base: u32,
    first: u32,
    end: u32,
    step: u32,
    #[comptime] tile: PlaneTile,
) -> Lines {
    let mut at = Array::<u32>::new(comptime!(tile.each as usize));
    #[unroll]
    for q in 0..comptime!(tile.each / PAIR) {
        let column = column_of(first, q);
        if comptime!(tile.b == Along::Depth) {
            #[unroll]
            for j in 0..PAIR {
                let line = at_most(column + j, end - 1u32);
                at[comptime!((q * PAIR + j) as usize)] = base + line * step;
            }
        } else {
            at[q as usize] = base + at_most(column / PAIR, end / PAIR - 1u32);
        }
    }
    Lines { at }
}

#[cube]
pub(crate) fn at_most(x: u32, most: u32) -> u32 {
    select(x < most, x, most)
}

/// What a unit loads of the rows at depths `2 l` and `2 l + 1`: zero from `depth` on.
#[cube]
fn rows_part(
    x: &[u64],
    lines: &Lines,
    l: u32,
    depth: u32,
    apart: u32,
    #[comptime] tile: PlaneTile,
) -> Entries {
    let mut of = Array::<f32>::new(comptime!(tile.loads() * PAIR as usize));
    #[unroll]
    for t in 0..comptime!(tile.loads()) {
        let first = comptime!(t * PAIR as usize);
        if comptime!(tile.a == Along::Depth) {
            let (low, high) = unpack(x[(lines.at[t] + l) as usize]);
            of[first] = low;
            of[comptime!(first + 1)] = high;
        } else {
            let entry = comptime!(t as u32 * LANES) + UNIT_POS_PLANE;
            let at = l * PAIR + entry / comptime!(tile.pairs());
            let (low, high) = unpack(x[(lines.at[t] + at_most(at, depth - 1u32) * apart) as usize]);
            of[first] = select(at < depth, low, 0.0f32);
            of[comptime!(first + 1)] = select(at < depth, high, 0.0f32);
        }
    }
    Entries { of }
}

/// Row `i` at depth `2 l + s`, for every unit.
#[cube]
fn row_entry(
    part: &Entries,
    #[comptime] i: u32,
    #[comptime] s: u32,
    #[comptime] tile: PlaneTile,
) -> f32 {
    // The number's word among those of the plane, and its place in it.
    let word = comptime!(if tile.a == Along::Depth { i } else { s * tile.pairs() + i / PAIR });
    let place = comptime!(if tile.a == Along::Depth { s } else { i % PAIR });
    let own = part.of[comptime!((word / LANES * PAIR + place) as usize)];
    plane_broadcast(own, comptime!(word % LANES))
}

/// A unit's columns at depths `2 l` and `2 l + 1`, column by column; from `depth` on numbers that
/// are multiplied by zero.
#[cube]
fn columns_part(
    x: &[u64],
    lines: &Lines,
    l: u32,
    depth: u32,
    apart: u32,
    #[comptime] tile: PlaneTile,
) -> Entries {
    let mut of = Array::<f32>::new(comptime!((tile.each * PAIR) as usize));
    if comptime!(tile.b == Along::Depth) {
        #[unroll]
        for j in 0..comptime!(tile.each as usize) {
            let (low, high) = unpack(x[(lines.at[j] + l) as usize]);
            of[comptime!(j * PAIR as usize)] = low;
            of[comptime!(j * PAIR as usize + 1)] = high;
        }
    } else {
        #[unroll]
        for s in 0..PAIR {
            let at = at_most(l * PAIR + s, depth - 1u32) * apart;
            #[unroll]
            for q in 0..comptime!(tile.each / PAIR) {
                let (low, high) = unpack(x[(lines.at[q as usize] + at) as usize]);
                of[comptime!((q * PAIR * PAIR + s) as usize)] = low;
                of[comptime!(((q * PAIR + 1) * PAIR + s) as usize)] = high;
            }
        }
    }
    Entries { of }
}

/// `sums[i, j] += sum over l of a[i, l] b[j, l]`, in the order of `l`, over `depth` entries of each
/// line. What lies between two depths of [`Along::Lines`] is counted in words. The depth is a
/// multiple of [`PAIR`] where an operand lies [`Along::Depth`].
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn add_plane_dots(
    a: &[u64],
    a_lines: &Lines,
    a_apart: u32,
    b: &[u64],
    b_lines: &Lines,
    b_apart: u32,
    depth: u32,
    sums: &mut Entries,
    #[comptime] tile: PlaneTile,
) {
    for l in 0..depth.div_ceil(PAIR) {
        let left = rows_part(a, a_lines, l, depth, a_apart, tile);
        let right = columns_part(b, b_lines, l, depth, b_apart, tile);
        #[unroll]
        for i in 0..comptime!(tile.rows) {
            let first = row_entry(&left, i, 0u32, tile);
            let second = row_entry(&left, i, 1u32, tile);
            #[unroll]
            for j in 0..comptime!(tile.each) {
                let e = comptime!((i * tile.each + j) as usize);
                let at = comptime!((j * PAIR) as usize);
                let sum = fma(first, right.of[at], sums.of[e]);
                sums.of[e] = fma(second, right.of[comptime!(at + 1)], sum);
            }
        }
    }
}

/// Row `i` of the sums as a unit writes it: its columns of those from `first` on that lie before
/// `end`, added to what is there where `added`. `at` is where the row begins in `c`, in words.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn write_row(
    sums: &Entries,
    c: &mut [u64],
    at: u32,
    first: u32,
    end: u32,
    #[comptime] i: u32,
    #[comptime] added: bool,
    #[comptime] tile: PlaneTile,
) {
    #[unroll]
    for q in 0..comptime!(tile.each / PAIR) {
        let column = column_of(first, q);
        if column < end {
            let place = (at + column / PAIR) as usize;
            let e = comptime!((i * tile.each + q * PAIR) as usize);
            let mut low = sums.of[e];
            let mut high = sums.of[comptime!(e + 1)];
            if comptime!(added) {
                let (low_before, high_before) = unpack(c[place]);
                low += low_before;
                high += high_before;
            }
            c[place] = pack(low, high);
        }
    }
}
