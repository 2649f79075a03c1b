//! What a cast to FP8 did to its values: how many it clipped, how many it made zero, and its scales.

use super::fp8::{Fp8Format, TILE};

impl Fp8Format {
    /// The magnitude, in steps of 1, above which a value is clipped: half a step beyond the largest
    /// finite value, 464 or 61440. What lies below is rounded to the largest.
    pub const fn clipping_limit(self) -> f32 {
        match self {
            Self::E4M3 => 464.0,
            Self::E5M2 => 61440.0,
        }
    }

    /// The magnitude up to which a value becomes zero: half of the smallest one, 2^-10 or 2^-17.
    pub const fn zero_limit(self) -> f32 {
        match self {
            Self::E4M3 => 1.0 / 1024.0,
            Self::E5M2 => 1.0 / 131_072.0,
        }
    }
}

/// Which values share a row of scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CastLayout {
    /// 1x128 tiles: a row of scales for each row.
    Tiles,
    /// 128x128 blocks of matrices of so many rows each: a row of scales for up to 128 rows.
    Blocks {
        /// Rows of a matrix; a block never has rows of two.
        outputs: usize,
    },
}

impl CastLayout {
    /// The row of scales that a row of values has.
    pub const fn scale_row(self, row: usize) -> usize {
        match self {
            Self::Tiles => row,
            Self::Blocks { outputs } => {
                row / outputs * outputs.div_ceil(TILE) + row % outputs / TILE
            }
        }
    }
}

/// What casts did. A value `x` whose tile has the scale `s` is **saturated** where it is infinite or
/// `|x| > s * clipping_limit`: its code is the largest one by clipping and not by rounding. It is
/// **underflowed** where it is not zero and `|x| <= s * zero_limit`: its code is zero. NaN is
/// neither.
///
/// A scale that is made of the largest magnitude of its own tile, as all of them are here, clips
/// nothing but infinities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CastCounts {
    /// Values that were cast.
    pub values: u64,
    /// Those that were saturated.
    pub saturated: u64,
    /// Those that were underflowed.
    pub underflowed: u64,
    /// The smallest scale; infinite where there was none.
    pub scale_min: f32,
    /// The largest scale; 0 where there was none.
    pub scale_max: f32,
}

impl Default for CastCounts {
    fn default() -> Self {
        Self { values: 0, saturated: 0, underflowed: 0, scale_min: f32::INFINITY, scale_max: 0.0 }
    }
}

impl CastCounts {
    /// Adds what other casts did, in whatever order: the sums are of whole numbers.
    pub fn absorb(&mut self, other: &Self) {
        self.values += other.values;
        self.saturated += other.saturated;
        self.underflowed += other.underflowed;
        self.scale_min = self.scale_min.min(other.scale_min);
        self.scale_max = self.scale_max.max(other.scale_max);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fp8Format, decode_fp8, encode_fp8};
    use super::*;

    /// The limits are those of the codes themselves.
    #[test]
    fn limits_are_where_codes_change() {
        for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
            let magnitude = |x: f32| decode_fp8(encode_fp8(x, format), format);
            let zero = format.zero_limit();
            assert_eq!(magnitude(zero), 0.0);
            assert!(magnitude(zero.next_up()) > 0.0);
            let (max, limit) = (format.max(), format.clipping_limit());
            let below = decode_fp8(encode_fp8(max, format) - 1, format);
            assert_eq!(limit, max + (max - below) / 2.0);
            assert_eq!(magnitude(limit), max);
        }
    }

    #[test]
    fn rows_of_blocks_end_with_their_matrix() {
        let blocks = CastLayout::Blocks { outputs: 130 };
        let rows = [0, 127, 128, 129, 130, 257, 258, 260].map(|row| blocks.scale_row(row));
        assert_eq!(rows, [0, 0, 1, 1, 2, 2, 3, 4]);
        assert_eq!(CastLayout::Tiles.scale_row(7), 7);
    }

    #[test]
    fn counts_add_up_in_any_order() {
        let some = |values, scale| CastCounts {
            values,
            saturated: 1,
            underflowed: 2,
            scale_min: scale,
            scale_max: 2.0 * scale,
        };
        let parts = [some(10, 0.5), CastCounts::default(), some(20, 0.25)];
        let sum = |parts: &[CastCounts]| {
            let mut sum = CastCounts::default();
            parts.iter().for_each(|part| sum.absorb(part));
            sum
        };
        let expected = CastCounts {
            values: 30,
            saturated: 2,
            underflowed: 4,
            scale_min: 0.25,
            scale_max: 1.0,
        };
        assert_eq!(sum(&parts), expected);
        assert_eq!(sum(&[parts[2], parts[0], parts[1]]), expected);
    }
}
