//! Products of numbers, summed in FP32: of numbers as they are (FP32), rounded to BF16 (what the
//! recipe leaves in BF16, head and attention, and a step without FP8), or as three BF16 parts.

use std::mem::MaybeUninit;

use super::output::Output;
use super::route::Route;
use super::source::{Floats, Group, Source, Taken};
use super::task::product;
use crate::definition::Accumulation;
use crate::host::parallel::Threads;

/// `out = factor a b^T`, every element written, rows of `out` `row_stride` apart; the factor is one
/// but for numbers that are taken whole.
///
/// Of whole numbers each element is its sums over runs of the depth, in their order, added up: it
/// depends on its row and column alone, not on the rest of the product.
pub(crate) fn gemm_nt(
    out: &mut [MaybeUninit<f32>],
    row_stride: usize,
    factor: f32,
    a: Floats<'_>,
    b: Floats<'_>,
    threads: Threads,
) {
    run(&[group(a, b, 0)], &Output::new(out, row_stride).times(factor), threads);
}

/// `out += factor a b^T`, as [`gemm_nt`].
pub(crate) fn gemm_nt_add(
    out: &mut [f32],
    row_stride: usize,
    factor: f32,
    a: Floats<'_>,
    b: Floats<'_>,
    threads: Threads,
) {
    run(&[group(a, b, 0)], &Output::accumulate(out, row_stride).times(factor), threads);
}

/// Writes every `a b^T` into `out` from its place on, on the pool; each has `columns` columns.
pub(crate) fn grouped_gemm_nt<'a>(
    out: &mut [MaybeUninit<f32>],
    columns: usize,
    products: impl Iterator<Item = (Floats<'a>, Floats<'a>, usize)>,
) {
    let groups: Vec<_> = products.map(|(a, b, start)| group(a, b, start)).collect();
    product(
        route_of(&groups).for_any_rows(),
        &groups,
        Accumulation::Promoted,
        &Output::new(out, columns),
        Threads::Pool,
    );
}

/// Whether products of many rows in BF16 are computed on FP32 words: there it pays to round an
/// operand once, where several products read it, and to multiply it as FP32.
pub(crate) fn bf16_takes_words() -> bool {
    Route::current().path(usize::MAX).has_words()
}

fn group<'a>(a: Floats<'a>, b: Floats<'a>, start: usize) -> Group<'a> {
    Group { left: Source::Floats(a), right: Source::Floats(b), start }
}

fn run(groups: &[Group<'_>], out: &Output<'_>, threads: Threads) {
    product(route_of(groups), groups, Accumulation::Promoted, out, threads);
}

/// The paths of numbers of which so much is taken.
fn route_of(groups: &[Group<'_>]) -> Route {
    let taken = groups.iter().find_map(|group| match group.left {
        Source::Floats(x) => Some(x.taken),
        Source::Codes(_) => None,
    });
    match taken {
        Some(Taken::Whole) => Route::words(),
        Some(Taken::Thirds) => Route::thirds(),
        _ => Route::current(),
    }
}
