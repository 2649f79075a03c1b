//! Products of numbers, summed in FP32: of numbers as they are (FP32), rounded to BF16 (what the
//! recipe leaves in BF16, head and attention, and a step without FP8), or as three BF16 parts.

use std::mem::MaybeUninit;

use super::output::Output;
use super::packed::PackedRight;
use super::route::Route;
use super::source::{Floats, Group, Source, Taken};
use super::task::{product, product_of_packed};
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

/// A right operand of several products, packed once for all of them.
pub(crate) struct Prepared<'a> {
    operand: Floats<'a>,
    packed: Option<PackedRight>,
}

impl<'a> Prepared<'a> {
    /// Packs `b` for `products` products with so many rows; for one, or none, it is left to it.
    pub(crate) fn new(b: Floats<'a>, rows: usize, products: usize) -> Self {
        let source = Source::Floats(b);
        let path = route_of(&source).path(rows);
        let packed = (products > 1).then(|| PackedRight::new(path, &source));
        Self { operand: b, packed }
    }

    /// What its products take of each number.
    pub(crate) fn taken(&self) -> Taken {
        self.operand.taken
    }

    /// `out = a b^T` on the pool, with the bits of [`gemm_nt`].
    pub(crate) fn gemm_nt(&self, out: &mut [MaybeUninit<f32>], row_stride: usize, a: Floats<'_>) {
        let group = group(a, self.operand, 0);
        let (route, out) = (route_of(&group.left), Output::new(out, row_stride));
        product_of_packed(route, group, self.packed.as_ref(), &out, Threads::Pool);
    }
}

/// Writes every `a b^T` into `out` from its place on, on the pool; each has `columns` columns.
pub(crate) fn grouped_gemm_nt<'a>(
    out: &mut [MaybeUninit<f32>],
    columns: usize,
    products: impl Iterator<Item = (Floats<'a>, Floats<'a>, usize)>,
) {
    let groups: Vec<_> = products.map(|(a, b, start)| group(a, b, start)).collect();
    product(
        route_of_all(&groups).for_any_rows(),
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
    product(route_of_all(groups), groups, Accumulation::Promoted, out, threads);
}

/// The paths of numbers of which so much is taken.
fn route_of(operand: &Source<'_>) -> Route {
    match operand {
        Source::Floats(Floats { taken: Taken::Whole, .. }) => Route::words(),
        Source::Floats(Floats { taken: Taken::Thirds, .. }) => Route::thirds(),
        _ => Route::current(),
    }
}

/// Those of products that take the same.
fn route_of_all(groups: &[Group<'_>]) -> Route {
    groups.first().map_or_else(Route::current, |group| route_of(&group.left))
}
