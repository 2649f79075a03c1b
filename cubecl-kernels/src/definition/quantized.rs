//! Quantized matrices, as they lie in memory; [`super::fp8`] says in which order.

/// Codes and scales of a matrix in row tiles (1x128), or of a transposed matrix (128x1).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quantized {
    /// FP8 codes, four a word: `[rows, words(cols)]`, or `[cols, total words]` in the layout of
    /// [`GroupedColumns`](super::GroupedColumns).
    pub codes: Vec<u32>,
    /// Multipliers that dequantize: `[rows, tiles(cols)]`, or `[cols, total tiles]`.
    pub scales: Vec<f32>,
}

/// Codes of weights `[experts, n, k]` in 128x128 blocks, in both orientations, and the scales that
/// they share.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuantizedBlocks {
    /// FP8 codes, `[experts, n, words(k)]`: for Fprop, which sums over `k`.
    pub codes: Vec<u32>,
    /// FP8 codes of the transposed matrices, `[experts, k, words(n)]`: for Dgrad, which sums over
    /// `n`.
    pub transposed: Vec<u32>,
    /// Multipliers that dequantize, `[experts, tiles(n), tiles(k)]`.
    pub scales: Vec<f32>,
}

/// A matrix in E5M6 with row tiles (1x128): the input of the linear after attention (3.3.3).
///
/// The report names the format; the layout is that of DeepSeek's published kernels (TileKernels,
/// 2026). 12-bit codes follow each other without gaps: code `i` of a row is bits `12 i .. 12 i + 12`
/// of the row's words, counted from the *highest* bit of the first, so that 8 codes fill 3 words. A
/// row is padded with zero bits to whole words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct E5m6 {
    /// Codes, `[rows, e5m6_words(cols)]`.
    pub codes: Vec<u32>,
    /// Multipliers that dequantize, `[rows, tiles(cols)]`.
    pub scales: Vec<f32>,
}

/// Bits of an E5M6 code.
pub const E5M6_BITS: usize = 12;

/// The largest E5M6 value.
pub const E5M6_MAX: f32 = 65024.0;

/// Words of a row of `columns` E5M6 codes: 3 for 8 codes.
///
/// ```
/// # use cubecl_kernels::definition::e5m6_words;
/// assert_eq!(e5m6_words(16), 6);
/// ```
pub const fn e5m6_words(columns: usize) -> usize {
    // By eights, so that no length overflows.
    columns / 8 * 3 + (columns % 8 * E5M6_BITS).div_ceil(32)
}

#[cfg(test)]
mod tests {
    use super::e5m6_words;

    #[test]
    fn eight_e5m6_codes_fill_three_words() {
        let words: Vec<usize> = (0..10).map(e5m6_words).collect();
        assert_eq!(words, [0, 1, 1, 2, 2, 2, 3, 3, 3, 4]);
    }
}
