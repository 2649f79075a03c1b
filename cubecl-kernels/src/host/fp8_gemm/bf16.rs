//! Products of numbers rounded to BF16, summed in FP32: what the recipe leaves in BF16 (head,
//! attention), and a step without FP8.

use std::mem::MaybeUninit;

use super::output::Output;
use super::route::Route;
use super::source::{Floats, Group, Source};
use super::task::product;
use crate::definition::Accumulation;
use crate::host::gemm_view::Threads;

/// `out = a b^T`, every element written, rows of `out` `row_stride` apart.
pub(crate) fn bf16_gemm(
    out: &mut [MaybeUninit<f32>],
    row_stride: usize,
    a: Floats<'_>,
    b: Floats<'_>,
    threads: Threads,
) {
    run(&[group(a, b, 0)], &Output::new(out, row_stride), threads);
}

/// `out += a b^T`, rows of `out` `row_stride` apart.
pub(crate) fn bf16_gemm_add(
    out: &mut [f32],
    row_stride: usize,
    a: Floats<'_>,
    b: Floats<'_>,
    threads: Threads,
) {
    run(&[group(a, b, 0)], &Output::accumulate(out, row_stride), threads);
}

/// Writes every pair's `a b^T` one after another into `out`, on the pool; each has `columns`
/// columns.
pub(crate) fn bf16_grouped_gemm<'a>(
    out: &mut [MaybeUninit<f32>],
    columns: usize,
    pairs: impl Iterator<Item = (Floats<'a>, Floats<'a>)>,
) {
    let mut start = 0;
    let groups: Vec<_> = pairs
        .map(|(a, b)| {
            let group = group(a, b, start);
            start += a.rows * columns;
            group
        })
        .collect();
    run(&groups, &Output::new(out, columns), Threads::Pool);
}

fn group<'a>(a: Floats<'a>, b: Floats<'a>, start: usize) -> Group<'a> {
    Group { left: Source::Floats(a), right: Source::Floats(b), start }
}

fn run(groups: &[Group<'_>], out: &Output<'_>, threads: Threads) {
    product(Route::current(), groups, Accumulation::Promoted, out, threads);
}
