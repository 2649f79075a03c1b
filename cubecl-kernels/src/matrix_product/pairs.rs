//! Operands as the copy engine takes them: lines of pairs of BF16 along the depth, padded to 16 bytes.

use super::launch::Matrix;
use super::plan::QUAD;
use crate::device::matrix::MatrixUnit;
use crate::device::matrix::fragment::pair;
use crate::device::tile::Along;
use crate::device::{UNITS, allocate, argument, elementwise_cubes};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Words that a line is padded to a multiple of: 16 bytes.
const PADDED: usize = 4;
/// Lines and words of the tile that a cube turns.
const LINES: u32 = 32;
const WORDS: u32 = 32;
const DEPTHS: u32 = 2 * WORDS;
/// From one depth to the next in shared memory, so that neither reading nor writing meets itself in
/// a bank.
const STRIDE: u32 = LINES + 1;

/// Words of a line of so many depths.
pub(super) const fn line_words(depth: usize) -> usize {
    depth.div_ceil(2).next_multiple_of(PADDED)
}

/// The pairs of BF16 of an operand's lines, of all `groups` of it.
///
/// # Shapes
/// `[groups, lines, line_words(depth)]`, zero behind the depth
pub(super) fn pairs(client: &Client, x: &Matrix<'_>, groups: usize, unit: MatrixUnit) -> Handle {
    let words = line_words(x.depth);
    let (lines, total) = (groups * x.lines, groups * x.lines * words);
    let pairs = allocate(client, total, 4);
    let width = x.width() as usize;
    let sizes = SizesLaunch::new(
        x.lines as u32,
        x.depth as u32,
        words as u32,
        (x.base / width) as u32,
        (x.step / width) as u32,
        (x.lines * x.depth / width) as u32,
    );
    if total == 0 {
        return pairs;
    }
    // SAFETY: the caller has found `x` to hold its lines and depths of all groups, and `pairs` was
    // allocated for `total` words; units past the last line or depth load and write nothing.
    unsafe {
        match x.along {
            Along::Depth => pair_lines::launch_unchecked(
                client,
                elementwise_cubes(client, total / 2),
                CubeDim::new_1d(UNITS),
                width,
                argument(x.handle, x.count),
                argument(&pairs, total),
                sizes,
                lines as u32,
                width as u32,
                unit,
            ),
            Along::Lines => pair_depths::launch_unchecked(
                client,
                CubeCount::Static(
                    x.lines.div_ceil(LINES as usize) as u32,
                    words.div_ceil(WORDS as usize) as u32,
                    groups as u32,
                ),
                CubeDim::new_1d(UNITS),
                width,
                argument(x.handle, x.count),
                argument(&pairs, total),
                sizes,
                width as u32,
                unit,
            ),
        }
    }
    pairs
}

/// Sizes of an operand; where it begins and its rows as they lie are counted in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Sizes {
    lines: u32,
    depth: u32,
    words: u32,
    base: u32,
    step: u32,
    group: u32,
}

/// Four neighbours of a row as it lies, zero from `end` on.
#[cube]
fn quad<N: Size>(
    x: &[Vector<f32, N>],
    row: u32,
    first: u32,
    end: u32,
    #[comptime] width: u32,
) -> Array<f32> {
    let mut out = Array::<f32>::new(QUAD as usize);
    if comptime!(width == QUAD) {
        let mut vector = Vector::<f32, N>::zero();
        if first < end {
            vector = x[(row + first / QUAD) as usize];
        }
        #[unroll]
        for s in 0..QUAD as usize {
            out[s] = vector.extract(s);
        }
    } else {
        #[unroll]
        for s in 0..QUAD {
            let mut value = 0.0f32;
            if first + s < end {
                value = x[(row + first + s) as usize].extract(0usize);
            }
            out[s as usize] = value;
        }
    }
    out
}

/// Lines whose depths lie together: two words a unit.
///
/// # Shapes
/// `x` `total` lines by their step, `pairs` `[total, words]`
#[cube(launch_unchecked)]
fn pair_lines<N: Size>(
    x: &[Vector<f32, N>],
    pairs: &mut [u32],
    sizes: Sizes,
    total: u32,
    #[comptime] width: u32,
    #[comptime] unit: MatrixUnit,
) {
    let place = ABSOLUTE_POS as u32;
    let line = place / (sizes.words / 2u32);
    if line < total {
        let word = place % (sizes.words / 2u32) * 2u32;
        let row = sizes.base + line * sizes.step;
        let values = quad::<N>(x, row, 2u32 * word, sizes.depth, width);
        let at = line * sizes.words + word;
        pairs[at as usize] = pair(values[0], values[1], unit);
        pairs[(at + 1u32) as usize] = pair(values[2], values[3], unit);
    }
}

/// Depths whose lines lie together, turned through shared memory: a tile of [`LINES`] by [`WORDS`] a
/// cube.
///
/// # Shapes
/// `x` `[groups, depth, lines]` by its step, `pairs` `[groups, lines, words]`
#[cube(launch_unchecked)]
fn pair_depths<N: Size>(
    x: &[Vector<f32, N>],
    pairs: &mut [u32],
    sizes: Sizes,
    #[comptime] width: u32,
    #[comptime] unit: MatrixUnit,
) {
    let (line0, word0) = (CUBE_POS_X * LINES, CUBE_POS_Y * WORDS);
    let group = CUBE_POS_Z;
    let mut tile = Shared::<[f32]>::new_slice(comptime!((DEPTHS * STRIDE) as usize));
    #[unroll]
    for i in 0..DEPTHS * LINES / QUAD / UNITS {
        let item = i * UNITS + UNIT_POS;
        let (depth, line) = (item / (LINES / QUAD), item % (LINES / QUAD) * QUAD);
        let at = 2u32 * word0 + depth;
        // Nothing of a row behind the depth.
        let end = select(at < sizes.depth, sizes.lines, 0u32);
        let row = sizes.base + group * sizes.group + at * sizes.step;
        let values = quad::<N>(x, row, line0 + line, end, width);
        #[unroll]
        for s in 0..QUAD {
            tile[(depth * STRIDE + line + s) as usize] = values[s as usize];
        }
    }
    sync_cube();
    #[unroll]
    for i in 0..LINES * WORDS / UNITS {
        let item = i * UNITS + UNIT_POS;
        let (line, word) = (item / WORDS, item % WORDS);
        if line0 + line < sizes.lines && word0 + word < sizes.words {
            let low = tile[(2u32 * word * STRIDE + line) as usize];
            let high = tile[((2u32 * word + 1u32) * STRIDE + line) as usize];
            let row = group * sizes.lines + line0 + line;
            pairs[(row * sizes.words + word0 + word) as usize] = pair(low, high, unit);
        }
    }
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;
    use half::bf16;

    /// Whole vectors and single numbers, ragged tiles, several groups, a part of a buffer.
    #[test]
    fn lines_of_pairs_are_the_rounded_numbers_whichever_way_they_lay() {
        let client = cubecl::Device::default().client();
        for (lines, depth, groups, skipped) in
            [(1, 1, 1, 0), (36, 68, 3, 0), (33, 67, 2, 0), (40, 132, 1, 8), (31, 9, 1, 3)]
        {
            for along in [Along::Depth, Along::Lines] {
                let step = if along == Along::Depth { depth } else { lines };
                let base = skipped * step;
                let count = base + groups * lines * depth;
                let x: Vec<f32> = (0..count).map(|i| (i * 37 % 1009) as f32 / 7.0).collect();
                let on_x = client.create_from_slice(f32::as_bytes(&x));
                let matrix = Matrix { handle: &on_x, count, base, lines, depth, step, along };
                let actual = pairs(&client, &matrix, groups, MatrixUnit::Emulated);
                let words = line_words(depth);
                let bytes = client.read_one(actual).unwrap();
                let name = format!("{lines} {depth} {groups} {along:?}");
                for (place, &word) in
                    u32::from_bytes(&bytes)[..groups * lines * words].iter().enumerate()
                {
                    let (line, word_of) = (place / words, place % words);
                    let entry = |depth_of: usize| {
                        let (group, line) = (line / lines, line % lines);
                        let at = match along {
                            Along::Depth => line * depth + depth_of,
                            Along::Lines => depth_of * lines + line,
                        };
                        let inside = depth_of < depth;
                        let value = if inside { x[base + group * lines * depth + at] } else { 0.0 };
                        u32::from(bf16::from_f32(value).to_bits())
                    };
                    let expected = entry(2 * word_of) | entry(2 * word_of + 1) << 16;
                    assert_eq!(word, expected, "{name}: line {line}, word {word_of}");
                }
            }
        }
    }
}
