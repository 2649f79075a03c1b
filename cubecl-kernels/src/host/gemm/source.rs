//! What a product reads: two operands, each a matrix of FP8 codes, or a strided matrix of numbers,
//! which are taken as they are or rounded on the way.

use crate::definition::{CODES_A_WORD, Fp8Format, OperandView};
use crate::host::simd::{LANES, plain_fp8, round_to_bf16};

/// What a product takes of each number of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The number as it is, which only FP32 words hold.
    Whole,
    /// The nearest BF16 number, ties to even.
    High,
    /// The BF16 number nearest to what [`Taken::High`] leaves; zero of what is not finite.
    Middle,
    /// The BF16 number nearest to what both leave, zero likewise.
    Low,
    /// All three, whose sum is the number (within 2^-24 of it): a product goes over pairs of them.
    /// FP32 words hold the number as it is.
    Thirds,
}

impl Taken {
    /// What is taken of both operands in the products that are added up, in this order: the
    /// smallest first.
    ///
    /// Of nine pairs of thirds three are under 2^-24 of the whole, and left out.
    pub(super) fn terms(self, words: bool) -> &'static [[Self; 2]] {
        use Taken::*;
        match self {
            Thirds if !words => &[
                [Low, High],
                [High, Low],
                [Middle, Middle],
                [Middle, High],
                [High, Middle],
                [High, High],
            ],
            Whole | Thirds => &[[Whole, Whole]],
            High => &[[High, High]],
            Middle => &[[Middle, Middle]],
            Low => &[[Low, Low]],
        }
    }

    /// Whether it is of what rounding leaves.
    #[inline(always)]
    pub(super) fn is_rest(self) -> bool {
        matches!(self, Self::Middle | Self::Low)
    }

    /// Takes of each number of `from` into `to`, which is as long.
    #[inline(always)]
    pub(super) fn of_all(self, from: &[f32], to: &mut [f32]) {
        let numbers = to.iter_mut().zip(from);
        match self {
            Self::Whole | Self::Thirds => to.copy_from_slice(from),
            Self::High => numbers.for_each(|(to, &x)| *to = round_to_bf16(x)),
            Self::Middle => numbers.for_each(|(to, &x)| *to = round_to_bf16(rest(x))),
            Self::Low => numbers.for_each(|(to, &x)| *to = round_to_bf16(rest(rest(x)))),
        }
    }
}

/// What rounding to BF16 leaves of a number: exact, and zero where BF16 is not finite.
#[inline(always)]
fn rest(x: f32) -> f32 {
    let high = round_to_bf16(x);
    if high.is_finite() { x - high } else { 0.0 }
}

/// A strided matrix of numbers.
#[derive(Clone, Copy)]
pub(crate) struct Floats<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
    pub(super) taken: Taken,
}

impl<'a> Floats<'a> {
    /// `rows` rows of `depth` entries each, one row every `row_stride`; products sum over `depth`.
    pub(crate) fn new(
        data: &'a [f32],
        rows: usize,
        depth: usize,
        row_stride: usize,
        taken: Taken,
    ) -> Self {
        let reach = if rows == 0 || depth == 0 { 0 } else { (rows - 1) * row_stride + depth };
        assert!(reach <= data.len(), "invariant: a view lies inside its slice");
        Self { data, rows, depth, row_stride, depth_stride: 1, taken }
    }

    /// The transpose, without a copy: products sum over what were rows.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.depth,
            depth: self.rows,
            row_stride: self.depth_stride,
            depth_stride: self.row_stride,
            ..self
        }
    }

    /// The same, of which a product takes something else.
    pub(super) fn taking(self, taken: Taken) -> Self {
        Self { taken, ..self }
    }

    /// Rows and entries of a row.
    pub(crate) fn dims(self) -> [usize; 2] {
        [self.rows, self.depth]
    }

    /// Where entry `entry` of row `row` is.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, entry: usize) -> *const f32 {
        self.data.as_ptr().wrapping_add(row * self.row_stride + entry * self.depth_stride)
    }
}

/// Either kind of operand.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// FP8 codes with scales.
    Codes(OperandView<'a>),
    /// Numbers.
    Floats(Floats<'a>),
}

impl Source<'_> {
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Codes(x) => x.rows,
            Self::Floats(x) => x.rows,
        }
    }

    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Codes(x) => x.depth,
            Self::Floats(x) => x.depth,
        }
    }
}

/// Where the code of an entry is; `entry` is a multiple of four.
#[inline(always)]
pub(super) fn code_at(x: &OperandView<'_>, row: usize, entry: usize) -> *const u8 {
    x.codes.as_ptr().wrapping_add(row * x.row_words + entry / CODES_A_WORD).cast()
}

/// Where an operand's rows lie whose entries follow each other.
pub(super) struct InOrder {
    /// The entry that was asked for.
    pub(super) first: *const u8,
    /// Bytes from one row to the next.
    pub(super) row_bytes: usize,
    /// Bytes of an entry.
    pub(super) entry_bytes: usize,
}

impl<'a> Source<'a> {
    /// Where this entry is, and the rows from it on; nothing where entries of a row do not follow
    /// each other. `entry` is a multiple of 4.
    #[inline(always)]
    pub(super) fn in_order(&self, row: usize, entry: usize) -> Option<InOrder> {
        match self {
            Self::Codes(x) => {
                let first = code_at(x, row, entry);
                let row_bytes = x.row_words * size_of::<u32>();
                Some(InOrder { first, row_bytes, entry_bytes: 1 })
            }
            Self::Floats(x) if x.depth_stride == 1 => {
                let row_bytes = x.row_stride * size_of::<f32>();
                let first = x.at(row, entry).cast();
                Some(InOrder { first, row_bytes, entry_bytes: size_of::<f32>() })
            }
            Self::Floats(_) => None,
        }
    }

    /// What is taken of both operands, product by product ([`Taken::terms`]); of codes it means
    /// nothing.
    pub(super) fn terms(&self, words: bool) -> &'static [[Taken; 2]] {
        match self {
            Source::Codes(_) => &[[Taken::Whole; 2]],
            Source::Floats(x) => x.taken.terms(words),
        }
    }

    /// The same, of whose numbers a product takes something else.
    pub(super) fn taking(self, taken: Taken) -> Self {
        match self {
            Self::Codes(_) => self,
            Self::Floats(x) => Self::Floats(x.taking(taken)),
        }
    }
}

/// One product among those of a call: `left right^T`.
pub(super) struct Group<'a> {
    pub(super) left: Source<'a>,
    pub(super) right: Source<'a>,
    /// First element of its result, whose rows are as far apart as the output's.
    pub(super) start: usize,
}

/// Writes sixteen values of a row from entry `first` on, without their scale; zero from the `len`-th
/// on.
///
/// `first` must be a multiple of 4.
#[inline(always)]
pub(super) fn write_values(
    x: &Source<'_>,
    row: usize,
    first: usize,
    len: usize,
    to: &mut [f32; LANES],
) {
    // The common case apart in each form, for its loops have a fixed length: what follows is as
    // slow as all the rest together.
    match x {
        Source::Codes(x) => {
            let words = &x.codes[row * x.row_words + first / CODES_A_WORD..];
            match words.first_chunk::<{ LANES / CODES_A_WORD }>() {
                Some(words) if len >= LANES => decode_words(words, x.format, to),
                _ => {
                    let len = len.min(LANES);
                    let mut whole = [0; LANES / CODES_A_WORD];
                    let words = &words[..len.div_ceil(CODES_A_WORD)];
                    whole[..words.len()].copy_from_slice(words);
                    decode_words(&whole, x.format, to);
                    to[len..].fill(0.0);
                }
            }
        }
        Source::Floats(x) if x.depth_stride == 1 => {
            let row = &x.data[row * x.row_stride + first..];
            match row.first_chunk::<LANES>() {
                Some(row) if len >= LANES => x.taken.of_all(row, to),
                _ => {
                    let len = len.min(LANES);
                    x.taken.of_all(&row[..len], &mut to[..len]);
                    to[len..].fill(0.0);
                }
            }
        }
        Source::Floats(x) => {
            let mut numbers = [0.0; LANES];
            for (i, number) in numbers[..len.min(LANES)].iter_mut().enumerate() {
                *number = x.data[row * x.row_stride + (first + i) * x.depth_stride];
            }
            x.taken.of_all(&numbers, to);
        }
    }
}

/// The values of the sixteen codes of four words.
#[inline(always)]
fn decode_words(words: &[u32; LANES / CODES_A_WORD], format: Fp8Format, values: &mut [f32; LANES]) {
    let mut codes = [0; LANES];
    for (codes, word) in codes.as_chunks_mut().0.iter_mut().zip(words) {
        *codes = word.to_le_bytes();
    }
    *values = plain_fp8(&codes, format);
}
