//! What an FP8 tensor is: formats, scales, tiles and the layout of its codes in memory (3.3).
//!
//! A quantized matrix is `codes` and `scales`. **Codes** are rows of 32-bit words of four 8-bit
//! codes, the first in the lowest byte; a row is padded with zero codes to whole words. **Scales**
//! are FP32 multipliers that dequantize: `x = scale * decode(code)`.
//!
//! Tiles always run along the *contiguous* dimension, which is the dimension that a product sums
//! over. What is tiled along the other one (128x1, for Wgrad) is stored transposed, as the row
//! tiles of the transposed matrix.

use super::{KernelError, check_offsets};

/// Entries that share a scale along the summed dimension, and the length of a partial sum that is
/// promoted to FP32 (3.3.2).
pub const TILE: usize = 128;

/// The smallest magnitude that a scale is computed from: a tile of zeros has scale
/// `AMAX_FLOOR / max`, not 0.
pub const AMAX_FLOOR: f32 = 1e-4;

/// Codes in one word.
pub const CODES_A_WORD: usize = 4;

/// An 8-bit floating point format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Fp8Format {
    /// 4 exponent bits of bias 7, 3 mantissa bits; no infinities, NaN at 0x7F and 0xFF. What the
    /// report uses everywhere.
    #[default]
    E4M3,
    /// 5 exponent bits of bias 15, 2 mantissa bits; infinities and NaN as in IEEE 754.
    E5M2,
}

impl Fp8Format {
    /// The largest finite value: 448 or 57344.
    pub const fn max(self) -> f32 {
        match self {
            Self::E4M3 => 448.0,
            Self::E5M2 => 57344.0,
        }
    }
}

/// How a scale is rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ScaleFormat {
    /// `max(amax, AMAX_FLOOR) / max`, any FP32.
    #[default]
    F32,
    /// The power of two at or above that (UE8M0).
    PowerOfTwo,
}

/// What shares a scale. The layout of the scales is that of the tensor's tiling whatever this says:
/// a coarser scale is repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// 128 entries along the summed dimension for activations, 128x128 for weights: the report's
    /// recipe.
    #[default]
    Tile,
    /// 128x128 blocks for activations too: what made training diverge for activation gradients
    /// (B.2).
    Block,
    /// One scale a tensor.
    Tensor,
}

/// The settings of a quantization.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct QuantizeOptions {
    /// The format of the codes.
    pub format: Fp8Format,
    /// The format of the scales.
    pub scale: ScaleFormat,
    /// What shares a scale.
    pub granularity: Granularity,
}

/// How a product sums along K.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accumulation {
    /// Partial sums of [`TILE`] in FP32, scaled and added into FP32 (3.3.2): the recipe. (Host
    /// products in FP32 arithmetic scale their factors instead: the same sums but for rounding.)
    Promoted,
    /// An accumulator of so many bits, as in a tensor core, emulated; slow, for studies.
    ///
    /// It takes 32 products at once. Let `2^e` be the largest power of two in any of them or in the
    /// running sum, and the quantum `q = 2^(e - bits + 1)` (`e` at least `bits - 127`, which keeps
    /// `q` normal): each product and the running sum are truncated toward zero to a multiple of
    /// `q`, then added in order, the sum first, in FP32 (exact up to 18 bits). If one of them is
    /// not finite, the sum becomes NaN.
    Emulated {
        /// Bits of significand kept, 2..=24; about 14 on Hopper.
        bits: u32,
        /// Whether partial sums of [`TILE`] are scaled and added into FP32. Without it one
        /// accumulator takes all of K: products are multiplied by the ratio of their tile's scale
        /// to the first tile's, and the sum by the latter at the end.
        promote: bool,
    },
}

/// Words of a row of `columns` codes.
///
/// ```
/// # use cubecl_kernels::definition::words;
/// assert_eq!(words(130), 33);
/// ```
pub const fn words(columns: usize) -> usize {
    columns.div_ceil(CODES_A_WORD)
}

/// Tiles of a row of `columns` entries.
///
/// ```
/// # use cubecl_kernels::definition::tiles;
/// assert_eq!(tiles(130), 2);
/// ```
pub const fn tiles(columns: usize) -> usize {
    columns.div_ceil(TILE)
}

/// Where the rows of each group (expert) lie once the matrix is transposed and tiled along them:
/// every group starts a new word and a new tile, so that no word and no scale is shared between
/// groups.
///
/// ```
/// use cubecl_kernels::definition::GroupedColumns;
///
/// // Three groups, of 5, 0 and 129 rows.
/// let layout = GroupedColumns::new("example", &[0, 5, 5, 134], 134)?;
/// assert_eq!(layout.words, [0, 2, 2, 35]);
/// assert_eq!(layout.tiles, [0, 1, 1, 3]);
/// # Ok::<(), cubecl_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupedColumns {
    /// First word of each group in a row of transposed codes, and the total; `groups + 1`.
    pub words: Vec<usize>,
    /// First tile of each group in a row of transposed scales, and the total; `groups + 1`.
    pub tiles: Vec<usize>,
}

impl GroupedColumns {
    /// The layout of groups of rows `offsets[g]..offsets[g + 1]`.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where `offsets` do not rise from 0 to `rows`.
    pub fn new(op: &'static str, offsets: &[usize], rows: usize) -> Result<Self, KernelError> {
        check_offsets(op, offsets, rows)?;
        let sums = |size: fn(usize) -> usize| {
            let mut sum = 0;
            std::iter::once(0)
                .chain(offsets.windows(2).map(|bounds| {
                    sum += size(bounds[1] - bounds[0]);
                    sum
                }))
                .collect()
        };
        Ok(Self { words: sums(words), tiles: sums(tiles) })
    }

    /// The most words that a row of transposed codes has, however `rows` rows fall into `groups`
    /// groups: its length where nobody on the host knows the groups.
    pub const fn most_words(rows: usize, groups: usize) -> usize {
        most_pieces(rows, groups, CODES_A_WORD)
    }

    /// The most tiles that a row of transposed scales has; see [`GroupedColumns::most_words`].
    pub const fn most_tiles(rows: usize, groups: usize) -> usize {
        most_pieces(rows, groups, TILE)
    }
}

/// The most pieces of `piece` rows that groups are cut into, each from its first row on: all groups
/// with rows, of which there are as many as rows at most, leave a piece with one row.
pub(crate) const fn most_pieces(rows: usize, groups: usize, piece: usize) -> usize {
    let groups = if groups < rows { groups } else { rows };
    (rows + groups * (piece - 1)) / piece
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_groups_have_more_words_or_tiles_than_the_most() {
        for (rows, groups) in [(0, 3), (1, 1), (5, 2), (7, 9), (300, 4), (257, 2)] {
            // Every group but the last has one row more than whole words and tiles, or none.
            let mut largest = (0, 0);
            for size in [0, 1, 5, 129] {
                let offsets: Vec<usize> = (0..groups)
                    .map(|g| (g * size).min(rows))
                    .chain(std::iter::once(rows))
                    .collect();
                let layout = GroupedColumns::new("op", &offsets, rows).unwrap();
                largest.0 = largest.0.max(layout.words[groups]);
                largest.1 = largest.1.max(layout.tiles[groups]);
            }
            let most = [GroupedColumns::most_words, GroupedColumns::most_tiles]
                .map(|most| most(rows, groups));
            assert!(largest.0 <= most[0] && largest.1 <= most[1], "{rows} {groups}");
        }
        assert_eq!(GroupedColumns::most_words(6, 3), 3); // 4, 1 and 1
        assert_eq!(GroupedColumns::most_words(2, 9), 2);
        assert_eq!(GroupedColumns::most_tiles(130, 3), 3); // 128, 1 and 1
        assert_eq!((GroupedColumns::most_words(0, 4), GroupedColumns::most_tiles(0, 0)), (0, 0));
    }

    #[test]
    fn groups_share_neither_words_nor_tiles() {
        let layout = GroupedColumns::new("op", &[0, 5, 5, 134], 134).unwrap();
        assert_eq!((layout.words, layout.tiles), (vec![0, 2, 2, 35], vec![0, 1, 1, 3]));
        for (offsets, rows) in
            [(&[][..], 0), (&[0, 3][..], 4), (&[1, 4][..], 4), (&[0, 3, 2, 4][..], 4)]
        {
            assert!(GroupedColumns::new("op", offsets, rows).is_err(), "{offsets:?}");
        }
    }
}
