//! One head of one sequence: where its rows lie, its packed keys, and how its work is cut.

use std::mem::MaybeUninit;

use crate::definition::{AttentionOptions, AttentionShape, ProductFormat};
use crate::host::buffer::Buffer;
use crate::host::gemm::bf16_takes_words;
use crate::host::output::build;
use crate::host::product::View;
use crate::host::simd::{LANES, multiversion, round_to_bf16};

/// Query rows a block at most.
pub(super) const MAX_QUERY_BLOCK: usize = 128;
/// Keys a block; a multiple of [`LANES`].
pub(super) const KEY_BLOCK: usize = 256;
/// Floats from a row of a block's scores to the next: an odd number of lines, so that rows do not
/// fall on few sets of a cache.
pub(super) const SCORES_ROW: usize = KEY_BLOCK + LANES;
/// Tasks below which a head's query blocks are cut into groups as well.
const MIN_TASKS: usize = 8;

/// Runs `work` with parts of the thread's memory of these lengths, which hold anything.
pub(super) fn with_buffers<const N: usize, R>(
    lens: [usize; N],
    work: impl FnOnce([&mut [f32]; N]) -> R,
) -> R {
    let mut buffer = Buffer::take();
    let mut rest = buffer.room(lens.iter().sum());
    let parts = lens.map(|len| {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
        rest = behind;
        part
    });
    work(parts)
}

/// The inputs that forward and backward share.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub q: &'a [f32],
    pub kv: &'a [f32],
    pub k_rope: &'a [f32],
    pub shape: &'a AttentionShape,
    pub options: &'a AttentionOptions,
    /// What the products are made of.
    pub operands: Operands,
}

/// What products are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operands {
    /// FP32 numbers as they are.
    Words,
    /// FP32 numbers, each rounded to BF16 once: for BF16 products on a path that computes on words.
    Rounded,
    /// BF16 pairs.
    Pairs,
}

impl<'a> Inputs<'a> {
    /// The inputs, and what products of `options.format` are made of on this machine.
    pub(super) fn new(
        q: &'a [f32],
        kv: &'a [f32],
        k_rope: &'a [f32],
        shape: &'a AttentionShape,
        options: &'a AttentionOptions,
    ) -> Self {
        let operands = match options.format {
            ProductFormat::F32 | ProductFormat::Bf16x3 => Operands::Words,
            ProductFormat::Bf16 if bf16_takes_words() => Operands::Rounded,
            ProductFormat::Bf16 => Operands::Pairs,
        };
        Self { q, kv, k_rope, shape, options, operands }
    }

    /// Query rows a block. Products of pairs pack the keys once a block, so that theirs are larger.
    pub(super) fn query_block(&self) -> usize {
        match self.operands {
            Operands::Words | Operands::Rounded => 48,
            Operands::Pairs => MAX_QUERY_BLOCK,
        }
    }

    /// Keys that query row `i` sees.
    pub(super) fn visible(&self, i: usize) -> usize {
        self.shape.visible(i)
    }

    /// Where row `i` of head `h` of sequence `b` begins in `q`.
    pub(super) fn at_q(&self, b: usize, h: usize, i: usize) -> usize {
        ((b * self.shape.queries + i) * self.shape.heads + h) * self.shape.qk_dim()
    }

    /// Where key row `j` of head `h` of sequence `b` begins in `kv`.
    pub(super) fn at_kv(&self, b: usize, h: usize, j: usize) -> usize {
        ((b * self.shape.keys + j) * self.shape.heads + h) * self.shape.kv_dim()
    }

    /// Where row `i` of head `h` of sequence `b` begins in `out`.
    pub(super) fn at_out(&self, b: usize, h: usize, i: usize) -> usize {
        ((b * self.shape.queries + i) * self.shape.heads + h) * self.shape.v_dim
    }

    /// `rows` query rows from `i`, `[rows, dn + dr]`.
    pub(super) fn queries(&self, b: usize, h: usize, i: usize, rows: usize) -> View<'a> {
        let width = self.shape.qk_dim();
        View::strided(&self.q[self.at_q(b, h, i)..], rows, width, self.shape.heads * width)
    }

    /// `rows` value rows from `j`, `[rows, dv]`.
    pub(super) fn values(&self, b: usize, h: usize, j: usize, rows: usize) -> View<'a> {
        let stride = self.shape.heads * self.shape.kv_dim();
        View::strided(
            &self.kv[self.at_kv(b, h, j) + self.shape.nope_dim..],
            rows,
            self.shape.v_dim,
            stride,
        )
    }

    /// `rows` rows of an array laid out as `out`, from row `i`, `[rows, dv]`.
    pub(super) fn out_rows(
        &self,
        array: &'a [f32],
        b: usize,
        h: usize,
        i: usize,
        rows: usize,
    ) -> View<'a> {
        let width = self.shape.v_dim;
        View::strided(&array[self.at_out(b, h, i)..], rows, width, self.shape.heads * width)
    }

    /// The two parts of key row `j`.
    pub(super) fn key(&self, b: usize, h: usize, j: usize) -> (&'a [f32], &'a [f32]) {
        let (at, rope) = (self.at_kv(b, h, j), self.shape.rope_dim);
        (
            &self.kv[at..][..self.shape.nope_dim],
            &self.k_rope[(b * self.shape.keys + j) * rope..][..rope],
        )
    }

    /// The first `count` keys as columns: `[dn + dr, columns_row(count)]`, zero from `count` on.
    pub(super) fn keys_transposed(&self, b: usize, h: usize, count: usize) -> Vec<f32> {
        let AttentionShape { nope_dim, rope_dim, .. } = *self.shape;
        let stride = columns_row(count);
        let mut packed = vec![0.0; self.shape.qk_dim() * stride];
        let (nope, rope) = packed.split_at_mut(nope_dim * stride);
        let row = self.shape.heads * self.shape.kv_dim();
        transpose(&self.kv[self.at_kv(b, h, 0)..], row, count, nope_dim, nope, stride);
        let k_rope = &self.k_rope[b * self.shape.keys * rope_dim..];
        transpose(k_rope, rope_dim, count, rope_dim, rope, stride);
        packed
    }

    /// The first `count` values as columns: `[dv, columns_row(count)]`, zero from `count` on.
    pub(super) fn values_transposed(&self, b: usize, h: usize, count: usize) -> Vec<f32> {
        let (v_dim, stride) = (self.shape.v_dim, columns_row(count));
        let mut packed = vec![0.0; v_dim * stride];
        let from = self.at_kv(b, h, 0) + self.shape.nope_dim;
        let row = self.shape.heads * self.shape.kv_dim();
        transpose(&self.kv[from..], row, count, v_dim, &mut packed, stride);
        packed
    }

    /// The first `count` values as rows, `[count, dv]`.
    pub(super) fn values_joined(&self, b: usize, h: usize, count: usize) -> Vec<f32> {
        let mut packed = Vec::with_capacity(count * self.shape.v_dim);
        for j in 0..count {
            let from = self.at_kv(b, h, j) + self.shape.nope_dim;
            packed.extend_from_slice(&self.kv[from..][..self.shape.v_dim]);
        }
        packed
    }

    /// The first `count` keys as rows, `[count, dn + dr]`, times `factor`.
    pub(super) fn keys_joined(&self, b: usize, h: usize, count: usize, factor: f32) -> Vec<f32> {
        let AttentionShape { nope_dim, rope_dim, .. } = *self.shape;
        let kv = &self.kv[self.at_kv(b, h, 0)..];
        let k_rope = &self.k_rope[b * self.shape.keys * rope_dim..];
        let row = self.shape.heads * self.shape.kv_dim();
        // SAFETY: all of each key is written.
        unsafe {
            build(count * (nope_dim + rope_dim), |packed| {
                join_keys([kv, k_rope], [nope_dim, rope_dim], row, factor, packed);
            })
        }
    }

    /// How many groups the query blocks of each head are cut into, and the rows of a group: by
    /// shape alone.
    pub(super) fn groups(&self) -> (usize, usize) {
        let block = self.query_block();
        let blocks = self.shape.queries.div_ceil(block);
        let heads = (self.shape.batch * self.shape.heads).max(1);
        let wanted = if heads >= MIN_TASKS { 1 } else { MIN_TASKS.div_ceil(heads).min(blocks) };
        let blocks_a_group = blocks.div_ceil(wanted.max(1));
        (blocks.div_ceil(blocks_a_group.max(1)), blocks_a_group * block)
    }

    /// Scalar operations of one product of all scores.
    pub(super) fn work(&self) -> usize {
        let pairs = self.shape.queries.saturating_mul(self.shape.keys);
        pairs.saturating_mul(
            self.shape.batch * self.shape.heads * (self.shape.qk_dim() + self.shape.v_dim),
        )
    }
}

/// Floats from one row to the next where `count` rows are kept as columns: an odd number of lines,
/// so that rows do not fall on few sets of a cache.
pub(super) fn columns_row(count: usize) -> usize {
    count.div_ceil(LANES) / 2 * 2 * LANES + LANES
}

multiversion! {
    /// Puts the two parts of each key side by side, times `factor`: of the first there is one every
    /// `row`, of the second one after another.
    fn join_keys(
        parts: [&[f32]; 2],
        widths: [usize; 2],
        row: usize,
        factor: f32,
        packed: &mut [MaybeUninit<f32>],
    ) {
        for (j, key) in packed.chunks_exact_mut((widths[0] + widths[1]).max(1)).enumerate() {
            let (nope, rope) = key.split_at_mut(widths[0]);
            for (to, &x) in nope.iter_mut().zip(&parts[0][j * row..][..widths[0]]) {
                to.write(x * factor);
            }
            for (to, &x) in rope.iter_mut().zip(&parts[1][j * widths[1]..][..widths[1]]) {
                to.write(x * factor);
            }
        }
    }
}

multiversion! {
    /// Rounds `factor` times each number to BF16.
    pub(super) fn round_all(x: &mut [f32], factor: f32) {
        for x in x.iter_mut() {
            *x = round_to_bf16(*x * factor);
        }
    }
}

multiversion! {
    /// `rows` rows of `width` elements, one every `row_stride`, become the columns of `packed`, a
    /// row of which begins every `stride`. A line is written at a time: a column at a time would
    /// fall on few cache sets.
    pub(super) fn transpose(
        data: &[f32],
        row_stride: usize,
        rows: usize,
        width: usize,
        packed: &mut [f32],
        stride: usize,
    ) {
        let whole = width / LANES * LANES;
        for first in (0..rows).step_by(LANES) {
            let live = LANES.min(rows - first);
            // Past the end the last row stands in; its lanes are not stored.
            let rows: [&[f32]; LANES] =
                std::array::from_fn(|l| &data[(first + l.min(live - 1)) * row_stride..][..width]);
            let mut done = 0;
            if live == LANES {
                while done < whole {
                    let to = &mut packed[done * stride + first..][..(LANES - 1) * stride + LANES];
                    let from = &data[first * row_stride + done..];
                    // SAFETY: sixteen numbers of each of the rows, which have as many and lie one
                    // every `row_stride`; `to` has room for sixteen of sixteen.
                    unsafe { S::transpose(from.as_ptr(), row_stride, to.as_mut_ptr(), stride) };
                    done += LANES;
                }
            }
            for d in done..width {
                let line: [f32; LANES] = std::array::from_fn(|l| rows[l][d]);
                let packed = &mut packed[d * stride + first..][..LANES];
                packed[..live].copy_from_slice(&line[..live]);
            }
        }
    }
}
