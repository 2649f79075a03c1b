//! Rows on the wire between ranks: one run of words a row, whatever it holds (3.2.2, 3.3.3).

use super::{KernelError, TILE, check_length, element_count, tiles, words};

/// What rows travel in.
///
/// A row is a whole number of 32-bit words, so that a parcel is one matrix of words on any device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum WireFormat {
    /// A value a word.
    #[default]
    F32,
    /// Two values a word, the first in the low half; an odd row is padded with a zero. Rounded to
    /// nearest, ties to even; NaN stays NaN.
    Bf16,
    /// E4M3 in 1x128 tiles with power-of-two scales: the words of the codes (four each), then those
    /// of the scales, four biased exponents (UE8M0: the scale is `2^(byte - 127)`) a word, padded
    /// with zeros.
    Fp8,
}

impl WireFormat {
    /// Words of a row of `width` values.
    ///
    /// ```
    /// use cubecl_kernels::definition::WireFormat;
    ///
    /// let words = [WireFormat::F32, WireFormat::Bf16, WireFormat::Fp8].map(|f| f.row_words(130));
    /// assert_eq!(words, [130, 65, 34]);
    /// ```
    pub const fn row_words(self, width: usize) -> usize {
        match self {
            Self::F32 => width,
            Self::Bf16 => width.div_ceil(2),
            Self::Fp8 => words(width) + words(tiles(width)),
        }
    }

    /// Bytes of a row of `width` values.
    pub const fn row_bytes(self, width: usize) -> usize {
        4 * self.row_words(width)
    }

    /// Checks that `wire` is `rows` rows of `width` values.
    ///
    /// # Errors
    /// [`KernelError::Length`] naming `wire`, [`KernelError::Overflow`] naming it or the values
    /// that it stands for.
    pub(crate) fn check(
        self,
        op: &'static str,
        wire: &[u32],
        rows: usize,
        width: usize,
    ) -> Result<(), KernelError> {
        element_count(op, "values", &[rows, width])?;
        check_length(op, "wire", wire.len(), &[rows, self.row_words(width)])
    }
}

/// The power-of-two scale whose biased exponent is `byte`.
///
/// A cast gives `2^-22 ..= 2^127`: no exponent of it is 0 or 255.
pub(crate) fn scale_from_exponent(byte: u8) -> f32 {
    f32::from_bits(u32::from(byte) << 23)
}

/// The byte of a row's FP8 scale words that holds the scale of tile `tile`.
pub(crate) fn scale_byte(row: &[u32], width: usize, tile: usize) -> u8 {
    debug_assert!(tile * TILE < width.max(1));
    (row[words(width) + tile / 4] >> (8 * (tile % 4))) as u8
}

/// Which rows each result is the sum of, in the order in which they are added.
///
/// One structure serves every sum of an exchange: the combine over a token's experts, the partial
/// sums of a node, and the gradient of a gather, which adds what every copy of a row got.
///
/// ```
/// use cubecl_kernels::definition::RowSums;
///
/// // Result 0 is row 2, result 1 is row 3 plus row 0.
/// let sums = RowSums::of_slots(&[2, RowSums::NONE, 3, 0], 2, 2, 4)?;
/// assert_eq!(sums.starts(), [0, 1, 3]);
/// assert_eq!(sums.rows(), [2, 3, 0]);
/// # Ok::<(), cubecl_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowSums {
    starts: Vec<u32>,
    rows: Vec<u32>,
    bound: usize,
}

impl RowSums {
    /// The marker of a slot that names no row.
    pub const NONE: u32 = u32::MAX;

    /// Result `t` is the sum of the rows `inverse[t * slots..]` names, slot by slot; a slot of
    /// [`RowSums::NONE`] adds nothing.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `inverse` is not `[results, slots]`, [`KernelError::Index`]
    /// where it names a row that is not below `rows`.
    pub fn of_slots(
        inverse: &[u32],
        results: usize,
        slots: usize,
        rows: usize,
    ) -> Result<Self, KernelError> {
        const OP: &str = "row_sums";
        check_length(OP, "inverse", inverse.len(), &[results, slots])?;
        check_counts(OP, results, inverse.len())?;
        let mut sums = Self {
            starts: Vec::with_capacity(results + 1),
            rows: Vec::with_capacity(inverse.len()),
            bound: rows,
        };
        sums.starts.push(0);
        for t in 0..results {
            for (position, &row) in (t * slots..).zip(&inverse[t * slots..(t + 1) * slots]) {
                if row == Self::NONE {
                    continue;
                }
                check_index(OP, "inverse", position, row, rows)?;
                sums.rows.push(row);
            }
            sums.starts.push(sums.rows.len() as u32);
        }
        Ok(sums)
    }

    /// The gradient of the gather `out[i] = x[index[i]]`: result `r` is the sum of all rows `i`
    /// with `index[i] == r`, ascending.
    ///
    /// # Errors
    /// [`KernelError::Index`] where `index` names a result that is not below `results`.
    pub fn of_gather(index: &[u32], results: usize) -> Result<Self, KernelError> {
        const OP: &str = "row_sums";
        check_counts(OP, results, index.len())?;
        let mut starts = vec![0u32; results + 1];
        for (position, &result) in index.iter().enumerate() {
            check_index(OP, "index", position, result, results)?;
            starts[result as usize + 1] += 1;
        }
        for r in 0..results {
            starts[r + 1] += starts[r];
        }
        let mut next = starts.clone();
        let mut rows = vec![0; index.len()];
        for (i, &result) in index.iter().enumerate() {
            rows[next[result as usize] as usize] = i as u32;
            next[result as usize] += 1;
        }
        Ok(Self { starts, rows, bound: index.len() })
    }

    /// Sums by what [`RowSums::starts`], [`RowSums::rows`] and [`RowSums::bound`] say of them.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `starts` does not end at the number of `rows`,
    /// [`KernelError::Index`] where the first is not 0, one is after the next, or a row is not
    /// below `bound`.
    pub fn from_parts(starts: Vec<u32>, rows: Vec<u32>, bound: usize) -> Result<Self, KernelError> {
        const OP: &str = "row_sums";
        check_counts(OP, starts.len(), rows.len())?;
        check_length(OP, "rows", rows.len(), &[starts.last().map_or(0, |&end| end as usize)])?;
        check_index(OP, "starts", 0, starts.first().copied().unwrap_or(Self::NONE), 1)?;
        for (position, ends) in starts.windows(2).enumerate() {
            check_index(OP, "starts", position, ends[0], ends[1] as usize + 1)?;
        }
        for (position, &row) in rows.iter().enumerate() {
            check_index(OP, "rows", position, row, bound)?;
        }
        Ok(Self { starts, rows, bound })
    }

    /// Number of results.
    pub fn results(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Terms of all sums together. A weighted sum has as many weights, result by result.
    pub fn terms(&self) -> usize {
        self.rows.len()
    }

    /// Rows that are there to be added; some may be in no sum and some in several.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// First term of each result, and the number of terms.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// The row of each term.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The terms of a result.
    pub fn terms_of(&self, result: usize) -> std::ops::Range<usize> {
        self.starts[result] as usize..self.starts[result + 1] as usize
    }

    /// For each row the terms that name it, ascending, and the result of every term: what the
    /// gradient of a sum goes by.
    pub fn transposed(&self) -> TransposedSums {
        let by_row = Self::of_gather(&self.rows, self.bound)
            .expect("invariant: every row of a sum is below the bound");
        let mut result_of_term = vec![0; self.rows.len()];
        for t in 0..self.results() {
            result_of_term[self.terms_of(t)].fill(t as u32);
        }
        TransposedSums { terms: by_row, result_of_term }
    }
}

/// [`RowSums`] the other way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransposedSums {
    /// For each row the terms that name it.
    pub terms: RowSums,
    /// The result that each term belongs to.
    pub result_of_term: Vec<u32>,
}

/// Refuses counts that 32 bits do not hold, [`RowSums::NONE`] included.
fn check_counts(op: &'static str, results: usize, terms: usize) -> Result<(), KernelError> {
    if results.max(terms) < RowSums::NONE as usize {
        return Ok(());
    }
    Err(KernelError::Overflow { op, argument: "rows", shape: vec![results, terms] })
}

pub(crate) fn check_index(
    op: &'static str,
    argument: &'static str,
    position: usize,
    index: u32,
    bound: usize,
) -> Result<(), KernelError> {
    if (index as usize) < bound {
        return Ok(());
    }
    Err(KernelError::Index { op, argument, position, value: index.into(), bound })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_whole_words() {
        let of =
            |format: WireFormat| [0, 1, 33, 128, 130, 7168].map(|width| format.row_words(width));
        assert_eq!(of(WireFormat::F32), [0, 1, 33, 128, 130, 7168]);
        assert_eq!(of(WireFormat::Bf16), [0, 1, 17, 64, 65, 3584]);
        assert_eq!(of(WireFormat::Fp8), [0, 2, 10, 33, 34, 1806]);
    }

    #[test]
    fn sums_of_slots_skip_what_is_not_there_and_keep_the_order() {
        let none = RowSums::NONE;
        let sums = RowSums::of_slots(&[2, none, none, none, 3, 0], 3, 2, 4).unwrap();
        assert_eq!(
            (sums.starts(), sums.rows(), sums.results(), sums.bound()),
            (&[0, 1, 1, 3][..], &[2, 3, 0][..], 3, 4)
        );
        let TransposedSums { terms, result_of_term } = sums.transposed();
        assert_eq!((terms.starts(), terms.rows()), (&[0, 1, 1, 2, 3][..], &[2, 0, 1][..]));
        assert_eq!(result_of_term, [0, 2, 2]);
    }

    #[test]
    fn the_sums_of_a_gather_are_the_copies_of_each_row() {
        let sums = RowSums::of_gather(&[1, 3, 1, 0], 5).unwrap();
        assert_eq!((sums.starts(), sums.rows()), (&[0, 1, 3, 3, 4, 4][..], &[3, 0, 2, 1][..]));
        assert_eq!(RowSums::of_gather(&[], 0).unwrap().results(), 0);
    }

    #[test]
    fn parts_make_the_sums_they_are_of() {
        let sums = RowSums::of_slots(&[2, RowSums::NONE, 3, 0], 2, 2, 4).unwrap();
        let again = |starts: &[u32], rows: &[u32], bound| {
            RowSums::from_parts(starts.to_vec(), rows.to_vec(), bound)
        };
        assert_eq!(again(sums.starts(), sums.rows(), sums.bound()).unwrap(), sums);
        for (starts, rows, bound, part) in [
            (&[0, 1, 3][..], &[2, 3][..], 4, "rows"),
            (&[0, 2, 1, 2], &[2, 3], 4, "starts[1]"),
            (&[1, 2], &[2, 3], 4, "starts[0]"),
            (&[], &[], 4, "starts[0]"),
            (&[0, 2], &[2, 4], 4, "rows[1]"),
        ] {
            let error = again(starts, rows, bound).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn bad_indices_are_named() {
        let error = RowSums::of_gather(&[1, 5], 5).unwrap_err().to_string();
        assert_eq!(error, "row_sums: `index[1]` is 5, it must lie in 0..5");
        let error = RowSums::of_slots(&[0, 4], 2, 1, 4).unwrap_err().to_string();
        assert_eq!(error, "row_sums: `inverse[1]` is 4, it must lie in 0..4");
        assert!(matches!(
            RowSums::of_slots(&[0], 1, 2, 4),
            Err(KernelError::Length { argument: "inverse", expected: 2, .. })
        ));
    }
}
