//! Device code: the tile of a product that one unit holds in registers, fed from memory without
//! shared memory and without a barrier.
//!
//! A software renderer runs a load as a loop over the lanes of a vector, however many entries each
//! lane takes, and a barrier as a switch between coroutines, after which nothing is in a register any
//! more; arithmetic is what it does well. A unit therefore loads vectors of four entries of
//! [`EACH`] lines of both operands, for as many products as these make.
//!
//! # Rejected
//! Measured with Mesa's lavapipe (22.3, LLVM 15) on two busy cores, FP32 at 512^3:
//! - entries one by one: 3.8 GFLOP/s with 8x8 a unit and 6.3 with 16x16, against 11.6 of 8x8 by
//!   vectors;
//! - 8x16 by vectors: 7.2, and 1.0 s of compilation against 0.4.

use cubecl::prelude::*;

/// Rows and columns of a unit's tile.
pub(crate) const EACH: u32 = 8;

/// The sums of a tile, row by row.
#[derive(CubeType)]
pub(crate) struct Tile {
    pub(crate) sums: Array<f32>,
}

/// Where each of a tile's rows or columns begins in a buffer.
#[derive(CubeType)]
pub(crate) struct Lines {
    pub(crate) at: Array<u32>,
}

/// A number a row of a tile.
#[derive(CubeType)]
pub(crate) struct ByRow {
    pub(crate) of: Array<f32>,
}

/// A tile of zeros.
#[cube]
pub(crate) fn zero_tile() -> Tile {
    let mut sums = Array::<f32>::new(comptime!((EACH * EACH) as usize));
    #[unroll]
    for e in 0..(EACH * EACH) as usize {
        sums[e] = 0.0f32;
    }
    Tile { sums }
}

/// The same number for every row.
#[cube]
pub(crate) fn by_row(x: f32) -> ByRow {
    let mut of = Array::<f32>::new(EACH as usize);
    #[unroll]
    for i in 0..EACH as usize {
        of[i] = x;
    }
    ByRow { of }
}

/// The lines from `first` on, of `count` that begin at `base` and lie `step` apart; past the last
/// one the last one stands in.
#[cube]
pub(crate) fn lines(base: u32, first: u32, count: u32, step: u32) -> Lines {
    let mut at = Array::<u32>::new(EACH as usize);
    #[unroll]
    for i in 0..EACH {
        let line = first + i;
        at[i as usize] = base + select(line < count, line, count - 1u32) * step;
    }
    Lines { at }
}

/// How the entries of an operand lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Along {
    /// Depth after depth of a line.
    Depth,
    /// Line after line of a depth.
    Lines,
}

/// How a unit loads both operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Loads {
    pub(crate) a: Along,
    pub(crate) b: Along,
    /// Entries of a vector; it divides what lies together.
    pub(crate) width: u32,
}

impl Loads {
    /// Both operands depth after depth.
    pub(crate) const fn depths(width: u32) -> Self {
        Self { a: Along::Depth, b: Along::Depth, width }
    }

    /// Depths that are multiplied at once: those of a vector, where one has any.
    const fn step(self) -> u32 {
        match (self.a, self.b) {
            (Along::Lines, Along::Lines) => 1,
            _ => self.width,
        }
    }
}

/// Some depths of a tile's lines of one operand, line by line.
#[derive(CubeType)]
struct Panel {
    values: Array<f32>,
}

/// Depths `step l` and following of an operand's lines; vectors along the lines lie `apart`.
#[cube]
fn panel<N: Size>(
    x: &[Vector<f32, N>],
    lines: &Lines,
    l: u32,
    apart: u32,
    #[comptime] along: Along,
    #[comptime] loads: Loads,
) -> Panel {
    let step = comptime!(loads.step() as usize);
    let width = comptime!(loads.width as usize);
    let mut values = Array::<f32>::new(comptime!(EACH as usize * step));
    if comptime!(along == Along::Depth) {
        #[unroll]
        for i in 0..EACH as usize {
            let vector = x[(lines.at[i] + l) as usize];
            #[unroll]
            for s in 0..step {
                values[comptime!(i * step + s)] = vector.extract(s);
            }
        }
    } else {
        #[unroll]
        for s in 0..step {
            let depth = (l * comptime!(step as u32) + comptime!(s as u32)) * apart;
            #[unroll]
            for q in 0..comptime!(EACH as usize / width) {
                let vector = x[(lines.at[q] + depth) as usize];
                #[unroll]
                for t in 0..width {
                    values[comptime!((q * width + t) * step + s)] = vector.extract(t);
                }
            }
        }
    }
    Panel { values }
}

/// `sums[i, j] += sum over l of a[i, l] b[j, l]`, in the order of `l`, over `depth` entries of each
/// line. Lines and what lies between two depths of [`Along::Lines`] are counted in vectors.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn add_dots<N: Size>(
    a: &[Vector<f32, N>],
    a_lines: &Lines,
    a_apart: u32,
    b: &[Vector<f32, N>],
    b_lines: &Lines,
    b_apart: u32,
    depth: u32,
    tile: &mut Tile,
    #[comptime] loads: Loads,
) {
    let step = comptime!(loads.step() as usize);
    for l in 0..depth / comptime!(step as u32) {
        let left = panel(a, a_lines, l, a_apart, comptime!(loads.a), loads);
        let right = panel(b, b_lines, l, b_apart, comptime!(loads.b), loads);
        #[unroll]
        for s in 0..step {
            #[unroll]
            for j in 0..EACH as usize {
                let factor = right.values[comptime!(j * step + s)];
                #[unroll]
                for i in 0..EACH as usize {
                    let e = comptime!(i * EACH as usize + j);
                    tile.sums[e] = fma(left.values[comptime!(i * step + s)], factor, tile.sums[e]);
                }
            }
        }
    }
}

/// The lines that lie `offset` vectors further on.
#[cube]
pub(crate) fn moved(lines: &Lines, offset: u32) -> Lines {
    let mut at = Array::<u32>::new(EACH as usize);
    #[unroll]
    for i in 0..EACH as usize {
        at[i] = lines.at[i] + offset;
    }
    Lines { at }
}

/// `out[i, d] = out[i, d] keep[i] + sum over j of tile[i, j] b[j, d]` for `vectors` of each of the
/// tile's first `count` rows; `fresh` takes the first summand for zero.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn mix_into<N: Size>(
    tile: &Tile,
    keep: &ByRow,
    b: &[Vector<f32, N>],
    b_lines: &Lines,
    out: &mut [Vector<f32, N>],
    out_lines: &Lines,
    vectors: u32,
    count: u32,
    fresh: bool,
    #[comptime] width: u32,
) {
    let width = comptime!(width as usize);
    for d in 0..vectors {
        let mut right = Array::<f32>::new(comptime!(EACH as usize * width));
        #[unroll]
        for j in 0..EACH as usize {
            let vector = b[(b_lines.at[j] + d) as usize];
            #[unroll]
            for s in 0..width {
                right[comptime!(j * width + s)] = vector.extract(s);
            }
        }
        #[unroll]
        for i in 0..EACH {
            if i < count {
                let place = (out_lines.at[i as usize] + d) as usize;
                let before = out[place];
                let mut result = Vector::<f32, N>::zero();
                #[unroll]
                for s in 0..width {
                    let mut sum = select(fresh, 0.0f32, before.extract(s) * keep.of[i as usize]);
                    #[unroll]
                    for j in 0..EACH as usize {
                        let e = comptime!((i * EACH) as usize + j);
                        sum = fma(tile.sums[e], right[comptime!(j * width + s)], sum);
                    }
                    result.insert(s, sum);
                }
                out[place] = result;
            }
        }
    }
}
