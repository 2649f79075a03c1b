//! Attention over cached latents in absorbed form: what `kv_b` would expand them to is multiplied
//! into the queries and out of the mixes instead (2.1.1).

use std::ops::Range;

use super::few_rows;
use super::head::{columns_row, transpose};
use crate::definition::{AttentionShape, ProductFormat};
use crate::host::gemm::{MAX_ROWS, Mat, MatMut, gemm, rows_nt};
use crate::host::output::{Parts, as_uninit, build};
use crate::host::parallel::{Threads, chunk, for_each};
use crate::host::product::{View, product, product_add};
use crate::host::simd::{LANES, exp, lane_sum, max, multiversion};

/// Query rows of a head that a task computes at most.
const QUERIES_A_TASK: usize = 12;
/// Heads of a task, between these: so many that latents are read few times, so few that there are
/// tasks for the cores.
const HEADS_A_TASK: (usize, usize) = (4, 16);
/// Tasks that there should be of the heads alone.
const MIN_TASKS: usize = 8;
/// Keys a block: their latents stay in the cache for all rows of a task.
const KEY_BLOCK: usize = 256;

/// The inputs, as [`absorbed_attention`](super::absorbed_attention) has them.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub q: &'a [f32],
    pub latents: &'a [f32],
    pub k_rope: &'a [f32],
    pub kv_b: &'a [f32],
    pub shape: &'a AttentionShape,
    pub rank: usize,
    pub scale: f32,
}

/// `[b, t, h, dv]`.
pub(super) fn forward(inputs: &Inputs<'_>) -> Vec<f32> {
    let AttentionShape { batch, queries, heads, v_dim, .. } = *inputs.shape;
    let heads_a_task = heads.div_ceil(MIN_TASKS).clamp(HEADS_A_TASK.0, HEADS_A_TASK.1);
    let (query_parts, head_parts) =
        (queries.div_ceil(QUERIES_A_TASK), heads.div_ceil(heads_a_task));
    let columns = (queries > MAX_ROWS).then(|| Columns::new(inputs));
    // SAFETY: the tasks cover every sequence, query row and head, and each writes all of its rows.
    unsafe {
        build(batch * queries * heads * v_dim, |out| {
            let out = Parts::new(out);
            for_each(batch * query_parts * head_parts, inputs.work(), |task| {
                let (task, heads) =
                    (task / head_parts, chunk(task % head_parts, heads_a_task, heads));
                let queries = chunk(task % query_parts, QUERIES_A_TASK, queries);
                attend(inputs, columns.as_ref(), task / query_parts, queries, heads, &out);
            });
        })
    }
}

/// Latents and rotated keys as columns, for many query rows: `[batch, rank + dr, stride]`.
struct Columns {
    data: Vec<f32>,
    stride: usize,
    depth: usize,
}

impl Columns {
    fn new(inputs: &Inputs<'_>) -> Self {
        let AttentionShape { batch, keys, rope_dim, .. } = *inputs.shape;
        let (rank, stride) = (inputs.rank, columns_row(keys));
        let depth = rank + rope_dim;
        let mut data = vec![0.0; batch * depth * stride];
        for (b, data) in data.chunks_exact_mut((depth * stride).max(1)).enumerate() {
            let (latents, rope) = data.split_at_mut(rank * stride);
            transpose(&inputs.latents[b * keys * rank..], rank, keys, rank, latents, stride);
            let k_rope = &inputs.k_rope[b * keys * rope_dim..];
            transpose(k_rope, rope_dim, keys, rope_dim, rope, stride);
        }
        Self { data, stride, depth }
    }

    /// Those of one sequence from a key on, `[rank + dr, count]`.
    fn from(&self, b: usize, key: usize, count: usize) -> Mat<'_> {
        Mat::new(&self.data[b * self.depth * self.stride + key..], self.depth, count, self.stride)
    }
}

/// Some query rows of some heads of one sequence. Their rows lie head after head.
fn attend(
    inputs: &Inputs<'_>,
    columns: Option<&Columns>,
    b: usize,
    queries: Range<usize>,
    heads: Range<usize>,
    out: &Parts<'_>,
) {
    let (shape, rank, count) = (inputs.shape, inputs.rank, queries.len());
    let (rope_dim, rows) = (shape.rope_dim, heads.len() * count);
    let (q_latent, q_rope) = inputs.absorbed_queries(b, queries.clone(), heads.clone());
    let seen: Vec<usize> =
        heads.clone().flat_map(|_| queries.clone()).map(|i| shape.visible(i)).collect();
    let keys = shape.visible(queries.end - 1);
    let mut state = vec![Running { largest: f32::NEG_INFINITY, sum: 0.0 }; rows];
    let mut mix = vec![0.0; rows * rank];
    if let Some(columns) = columns {
        let q = joined(&q_latent, &q_rope, rows);
        let mut scores = vec![0.0; rows * KEY_BLOCK.min(keys.next_multiple_of(LANES))];
        for first in (0..keys).step_by(KEY_BLOCK) {
            let width = KEY_BLOCK.min(keys - first);
            // What lies past the width is masked.
            let padded = width.next_multiple_of(LANES);
            let scores = &mut scores[..rows * padded];
            let target = MatMut::contiguous(as_uninit(scores), rows, padded);
            let q = Mat::new(&q, rows, columns.depth, columns.depth);
            gemm(target, 1.0, q, columns.from(b, first, padded), Threads::One);
            softmax(scores, &[], &mut state, &seen, first, &mut mix);
            let latents = &inputs.latents[(b * shape.keys + first) * rank..][..width * rank];
            let (scores, latents) =
                (View::strided(scores, rows, width, padded), View::new(latents, width, rank));
            product_add(&mut mix, scores, latents, ProductFormat::F32, Threads::One);
        }
    } else {
        let width = KEY_BLOCK.min(keys);
        let (mut scores, mut of_rope) = (vec![0.0; rows * width], vec![0.0; rows * width]);
        for first in (0..keys).step_by(KEY_BLOCK) {
            let width = KEY_BLOCK.min(keys - first);
            let (scores, of_rope) = (&mut scores[..rows * width], &mut of_rope[..rows * width]);
            let at = b * shape.keys + first;
            let latents = &inputs.latents[at * rank..][..width * rank];
            let k_rope = &inputs.k_rope[at * rope_dim..][..width * rope_dim];
            product_nt(&q_latent, latents, rows, rank, width, scores);
            product_nt(&q_rope, k_rope, rows, rope_dim, width, of_rope);
            softmax(scores, of_rope, &mut state, &seen, first, &mut mix);
            few_rows::add_nn(scores, latents, rows, width, rank, &mut mix);
        }
    }
    normalize(&mut mix, &state);
    let mut values = vec![0.0; count * shape.v_dim];
    for (part, h) in heads.enumerate() {
        let mix = &mix[part * count * rank..][..count * rank];
        product_nt(mix, inputs.value_weights(h), count, rank, shape.v_dim, &mut values);
        for (i, values) in queries.clone().zip(values.chunks(shape.v_dim.max(1))) {
            let at = ((b * shape.queries + i) * shape.heads + h) * shape.v_dim;
            // SAFETY: a query row of a head belongs to one task.
            unsafe { out.part(at, values.len()).write_copy_of_slice(values) };
        }
    }
}

impl<'a> Inputs<'a> {
    /// The rows of `kv_b` that make a head's keys, `[dn, rank]`.
    fn key_weights(&self, h: usize) -> &'a [f32] {
        &self.kv_b[h * self.shape.kv_dim() * self.rank..][..self.shape.nope_dim * self.rank]
    }

    /// The rows of `kv_b` that make a head's values, `[dv, rank]`.
    fn value_weights(&self, h: usize) -> &'a [f32] {
        let first = h * self.shape.kv_dim() + self.shape.nope_dim;
        &self.kv_b[first * self.rank..][..self.shape.v_dim * self.rank]
    }

    /// `scale q_nope kv_b` and `scale q_rope`, head after head: `[heads, queries, rank]` and
    /// `[heads, queries, dr]`.
    fn absorbed_queries(
        &self,
        b: usize,
        queries: Range<usize>,
        heads: Range<usize>,
    ) -> (Vec<f32>, Vec<f32>) {
        let (shape, rank, count) = (self.shape, self.rank, queries.len());
        let rows = heads.len() * count;
        let mut latent = vec![0.0; rows * rank];
        let mut rope = Vec::with_capacity(rows * shape.rope_dim);
        let mut nope = Vec::with_capacity(count * shape.nope_dim);
        for (part, h) in heads.enumerate() {
            nope.clear();
            for i in queries.clone() {
                let at = ((b * shape.queries + i) * shape.heads + h) * shape.qk_dim();
                let scaled = self.q[at..][..shape.qk_dim()].iter().map(|x| x * self.scale);
                nope.extend(scaled.clone().take(shape.nope_dim));
                rope.extend(scaled.skip(shape.nope_dim));
            }
            let latent = &mut latent[part * count * rank..][..count * rank];
            few_rows::add_nn(&nope, self.key_weights(h), count, shape.nope_dim, rank, latent);
        }
        (latent, rope)
    }

    /// Scalar operations in all.
    fn work(&self) -> usize {
        let AttentionShape { batch, queries, keys, heads, rope_dim, .. } = *self.shape;
        let of_keys = keys.saturating_mul(2 * self.rank + rope_dim);
        let of_weights = self.shape.kv_dim().saturating_mul(self.rank);
        (batch * queries * heads).saturating_mul(of_keys.saturating_add(of_weights))
    }
}

/// The rows of both side by side.
fn joined(latent: &[f32], rope: &[f32], rows: usize) -> Vec<f32> {
    let (rank, rope_dim) = (latent.len() / rows, rope.len() / rows);
    let mut q = Vec::with_capacity(latent.len() + rope.len());
    for row in 0..rows {
        q.extend_from_slice(&latent[row * rank..][..rank]);
        q.extend_from_slice(&rope[row * rope_dim..][..rope_dim]);
    }
    q
}

/// `y = x w^T`: x `[rows, k]`, w `[n, k]`.
fn product_nt(x: &[f32], w: &[f32], rows: usize, k: usize, n: usize, y: &mut [f32]) {
    if (1..=MAX_ROWS).contains(&rows) {
        rows_nt(x, w, rows, k, n, y);
    } else {
        let (x, w) = (View::new(x, rows, k), View::new(w, n, k).t());
        product(as_uninit(y), x, w, ProductFormat::F32, Threads::One);
    }
}

/// The softmax of one row so far.
#[derive(Clone, Copy)]
struct Running {
    largest: f32,
    sum: f32,
}

multiversion! {
    /// Scores, plus those of the rotated parts where these are apart, become
    /// `exp(score - largest so far)`, zero where masked; `mix` and the sums are brought to the same
    /// largest. The block begins at key `first`.
    fn softmax(
        scores: &mut [f32],
        of_rope: &[f32],
        state: &mut [Running],
        seen: &[usize],
        first: usize,
        mix: &mut [f32],
    ) {
        let (width, rank) = (scores.len() / state.len(), mix.len() / state.len());
        for (r, state) in state.iter_mut().enumerate() {
            let seen = seen[r].saturating_sub(first).min(width);
            let (row, masked) = scores[r * width..][..width].split_at_mut(seen);
            masked.fill(0.0);
            if row.is_empty() {
                continue;
            }
            if !of_rope.is_empty() {
                for (score, &rope) in row.iter_mut().zip(&of_rope[r * width..]) {
                    *score += rope;
                }
            }
            let largest = max(row).max(state.largest);
            if first > 0 {
                let shrunk = exp::<S>(state.largest - largest);
                state.sum *= shrunk;
                mix[r * rank..][..rank].iter_mut().for_each(|x| *x *= shrunk);
            }
            state.largest = largest;
            let mut sums = [0.0; LANES];
            let (chunks, tail) = row.as_chunks_mut::<LANES>();
            for chunk in chunks {
                for l in 0..LANES {
                    chunk[l] = exp::<S>(chunk[l] - largest);
                    sums[l] += chunk[l];
                }
            }
            for (x, sum) in tail.iter_mut().zip(&mut sums) {
                *x = exp::<S>(*x - largest);
                *sum += *x;
            }
            state.sum += lane_sum(sums);
        }
    }
}

/// Divides each row by its sum.
fn normalize(mix: &mut [f32], state: &[Running]) {
    let rank = mix.len() / state.len().max(1);
    for (mix, state) in mix.chunks_mut(rank.max(1)).zip(state) {
        let inverse = 1.0 / state.sum;
        mix.iter_mut().for_each(|x| *x *= inverse);
    }
}
