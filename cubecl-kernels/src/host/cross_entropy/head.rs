//! The output head's weight, rounded and packed once for all chunks of rows.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use crate::definition::ProductFormat;
use crate::host::gemm::{Prepared, bf16_takes_words};
use crate::host::product::{View, prepared, product_of, rounded_to_bf16};

/// Logits of a chunk, about: 4 MiB stay in a last-level cache.
const CHUNK_LOGITS: usize = 1 << 20;

/// Rows up to which the weight is rounded where it is read: it is read once or twice.
const FEW_ROWS: usize = 64;

/// The head's weight as its products read it.
pub(super) struct HeadWeight<'a> {
    w: Cow<'a, [f32]>,
    /// The format of the three products' operands.
    pub(super) format: ProductFormat,
    /// Whether operands are rounded to BF16 before, to be multiplied as FP32.
    pub(super) rounded: bool,
}

impl<'a> HeadWeight<'a> {
    /// Rounds the weight, which is read for every chunk of `rows`, and the rows `x`, where BF16
    /// products are computed on FP32 words.
    pub(super) fn new(
        w: &'a [f32],
        format: ProductFormat,
        x: &mut Cow<'_, [f32]>,
        rows: usize,
    ) -> Self {
        let rounded = format == ProductFormat::Bf16 && rows > FEW_ROWS && bf16_takes_words();
        if !rounded {
            return Self { w: w.into(), format, rounded };
        }
        *x = rounded_to_bf16(x).into();
        Self { w: rounded_to_bf16(w).into(), format: ProductFormat::F32, rounded }
    }
}

/// The output head: the weight is packed once for all chunks of rows.
pub(super) struct Head<'a> {
    pub(super) weight: &'a HeadWeight<'a>,
    of_logits: Prepared<'a>,
    rows: usize,
    inputs: usize,
    vocab: usize,
}

impl<'a> Head<'a> {
    /// For so many rows.
    pub(super) fn new(
        weight: &'a HeadWeight<'a>,
        rows: usize,
        [inputs, vocab]: [usize; 2],
    ) -> Self {
        let view = View::new(&weight.w, vocab, inputs);
        let of_logits = prepare(view.t(), weight.format, rows, vocab);
        Self { weight, of_logits, rows, inputs, vocab }
    }

    /// The weight for the product that gives `dx`.
    pub(super) fn for_dx(&self) -> Prepared<'a> {
        let view = View::new(&self.weight.w, self.vocab, self.inputs);
        prepare(view, self.weight.format, self.rows, self.vocab)
    }

    pub(super) fn logits(&self, x: &[f32], rows: usize, out: &mut [MaybeUninit<f32>]) {
        product_of(out, self.vocab, View::new(x, rows, self.inputs), &self.of_logits);
    }
}

/// Packs a right operand for the chunks of `rows`.
fn prepare(operand: View<'_>, format: ProductFormat, rows: usize, vocab: usize) -> Prepared<'_> {
    let chunk_rows = chunk_rows(vocab);
    prepared(operand, format, chunk_rows.min(rows), rows.div_ceil(chunk_rows))
}

/// Rows of a chunk: by the vocabulary alone.
pub(super) fn chunk_rows(vocab: usize) -> usize {
    (CHUNK_LOGITS / vocab.max(1)).clamp(64, 1024).next_multiple_of(16)
}
