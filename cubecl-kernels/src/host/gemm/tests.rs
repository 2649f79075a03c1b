//! The FP8 and BF16 products against the reference, on every path that this machine has.

mod bf16;
mod decode_words;
mod edges;
mod emulated;
mod f32;
mod packed;
mod quantized;
mod thirds;
mod tiles;
mod words;

use super::output::{Output, build_bf16, build_f32};
use super::path::GemmPath;
use super::route::Route;
use super::source::{Group, Source};
use super::task::product;
use crate::definition::{Accumulation, Fp8Format, OperandView};
use crate::host::parallel::Threads;
use crate::reference;
use crate::test_inputs::{assert_close, random};
use quantized::{Blocks, Rows};

const PROMOTED: Accumulation = Accumulation::Promoted;

/// The product on one path.
fn on(path: GemmPath, left: OperandView<'_>, right: OperandView<'_>) -> Vec<f32> {
    let (m, n) = (left.rows, right.rows);
    // SAFETY: a product writes all of its result.
    unsafe { build_f32(m * n, n, |c| into(path, left, right, c)) }
}

/// Writes the product on one path.
fn into(path: GemmPath, left: OperandView<'_>, right: OperandView<'_>, out: &Output<'_>) {
    let group = Group { left: Source::Codes(left), right: Source::Codes(right), start: 0 };
    product(Route::only(path), &[group], PROMOTED, out, Threads::Pool);
}

/// Fprop (or Dgrad) and Wgrad of random matrices on every path: written, added, and in BF16.
fn check(m: usize, n: usize, k: usize, format: Fp8Format) {
    let (a, b) = (Rows::random(1, m, k, format), Blocks::random(2, n, k, format));
    let columns = Rows::random(3, n, k, format);
    let start = random(4, m * n);
    let left = OperandView::rows_of(&a.view(), 0, m);
    let block = OperandView::expert_of(&b.view(), 0);
    let row = OperandView::rows_of(&columns.view(), 0, n);
    for (what, right, expected) in [
        ("y", block, reference::fp8_gemm_nt(&a.view(), &b.view(), 0)),
        ("dw", row, reference::fp8_wgrad_nt(&a.view(), &columns.view())),
    ] {
        let with_start: Vec<f64> =
            expected.iter().zip(&start).map(|(&c, &start)| c + f64::from(start)).collect();
        for path in GemmPath::available() {
            let name = format!("{path} {what} {m} {n} {k}");
            let c = on(path, left, right);
            assert_close(&name, &c, &expected, 1e-5);
            let mut sum = start.clone();
            into(path, left, right, &Output::accumulate(&mut sum, n));
            assert_close(&format!("{name} added"), &sum, &with_start, 1e-5);
            // SAFETY: a product writes all of its result.
            let narrow = unsafe { build_bf16(m * n, n, |c| into(path, left, right, c)) };
            assert!(
                narrow.iter().zip(&c).all(|(&narrow, &c)| narrow == half::bf16::from_f32(c)),
                "{name}: BF16 is the rounded FP32 result"
            );
        }
    }
    let c = super::fp8_gemm_nt(&a.view(), &b.view(), PROMOTED).unwrap();
    let narrow = super::fp8_gemm_nt_bf16(&a.view(), &b.view(), PROMOTED).unwrap();
    assert!(narrow.iter().zip(&c).all(|(&narrow, &c)| narrow == half::bf16::from_f32(c)));
    let (mut sum, mut gradient) = (start.clone(), start);
    super::fp8_gemm_nt_accumulate(&a.view(), &b.view(), PROMOTED, &mut sum).unwrap();
    super::fp8_wgrad_nt_accumulate(&a.view(), &columns.view(), PROMOTED, &mut gradient).unwrap();
    let path = Route::current().path(m);
    for (what, right, public) in [("y", block, sum), ("dw", row, gradient)] {
        let mut sum = random(4, m * n);
        into(path, left, right, &Output::accumulate(&mut sum, n));
        assert!(public == sum, "the public {what} on {path} is that of the path");
    }
}
