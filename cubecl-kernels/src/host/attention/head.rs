//! One head of one sequence: where its rows lie, its packed keys, and how its work is cut.

use crate::definition::{AttentionOptions, AttentionShape, ProductFormat};
use crate::host::product::View;
use crate::host::simd::{LANES, multiversion};

/// Query rows a block at most.
pub(super) const MAX_QUERY_BLOCK: usize = 128;
/// Keys a block; a multiple of [`LANES`].
pub(super) const KEY_BLOCK: usize = 256;
/// Tasks below which a head's query blocks are cut into groups as well.
const MIN_TASKS: usize = 8;

/// The inputs that forward and backward share.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub q: &'a [f32],
    pub kv: &'a [f32],
    pub k_rope: &'a [f32],
    pub shape: &'a AttentionShape,
    pub options: &'a AttentionOptions,
}

impl<'a> Inputs<'a> {
    /// Query rows a block. BF16 products pack the keys once a block, so that theirs are larger.
    pub(super) fn query_block(&self) -> usize {
        match self.options.format {
            ProductFormat::F32 | ProductFormat::Bf16x3 => 48,
            ProductFormat::Bf16 => MAX_QUERY_BLOCK,
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

    /// The first `count` keys as columns: `[dn + dr, stride]`, zero from `count` on; and the
    /// stride.
    pub(super) fn keys_transposed(&self, b: usize, h: usize, count: usize) -> (Vec<f32>, usize) {
        let AttentionShape { nope_dim, rope_dim, .. } = *self.shape;
        let stride = count.next_multiple_of(LANES);
        let mut packed = vec![0.0; self.shape.qk_dim() * stride];
        let (nope, rope) = packed.split_at_mut(nope_dim * stride);
        transpose(
            &self.kv[self.at_kv(b, h, 0)..],
            self.shape.heads * self.shape.kv_dim(),
            count,
            nope_dim,
            nope,
        );
        transpose(&self.k_rope[b * self.shape.keys * rope_dim..], rope_dim, count, rope_dim, rope);
        (packed, stride)
    }

    /// The first `count` values as columns: `[dv, stride]`, zero from `count` on, with the stride
    /// of the keys.
    pub(super) fn values_transposed(&self, b: usize, h: usize, count: usize) -> Vec<f32> {
        let stride = count.next_multiple_of(LANES);
        let mut packed = vec![0.0; self.shape.v_dim * stride];
        let from = self.at_kv(b, h, 0) + self.shape.nope_dim;
        transpose(
            &self.kv[from..],
            self.shape.heads * self.shape.kv_dim(),
            count,
            self.shape.v_dim,
            &mut packed,
        );
        packed
    }

    /// The first `count` keys as rows, `[count, dn + dr]`, times `factor`.
    pub(super) fn keys_joined(&self, b: usize, h: usize, count: usize, factor: f32) -> Vec<f32> {
        let mut packed = Vec::with_capacity(count * self.shape.qk_dim());
        for j in 0..count {
            let (nope, rope) = self.key(b, h, j);
            packed.extend(nope.iter().chain(rope).map(|x| x * factor));
        }
        packed
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

multiversion! {
    /// `rows` rows of `width` elements, one every `row_stride`, become the columns of `packed`,
    /// whose rows hold `rows` rounded up to [`LANES`]. A line is written at a time: a column at a
    /// time would fall on few cache sets.
    fn transpose(data: &[f32], row_stride: usize, rows: usize, width: usize, packed: &mut [f32]) {
        let stride = rows.next_multiple_of(LANES);
        for first in (0..rows).step_by(LANES) {
            let live = LANES.min(rows - first);
            // Past the end the last row stands in; its lanes are not stored.
            let rows: [&[f32]; LANES] =
                std::array::from_fn(|l| &data[(first + l.min(live - 1)) * row_stride..][..width]);
            for d in 0..width {
                let line: [f32; LANES] = std::array::from_fn(|l| rows[l][d]);
                let packed = &mut packed[d * stride + first..][..LANES];
                if live == LANES {
                    packed.copy_from_slice(&line);
                } else {
                    packed[..live].copy_from_slice(&line[..live]);
                }
            }
        }
    }
}
