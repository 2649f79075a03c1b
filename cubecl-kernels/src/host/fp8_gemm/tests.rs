//! The FP8 and BF16 products against the reference, on every path that this machine has.

mod bf16;
mod edges;
mod emulated;
mod quantized;

use super::output::build_f32;
use super::path::GemmPath;
use super::source::{Group, Source};
use super::task::product;
use crate::definition::{Accumulation, Fp8Format, OperandView};
use crate::host::gemm_view::Threads;
use crate::reference;
use crate::test_inputs::{assert_close, random};
use quantized::{Blocks, Rows};

const PROMOTED: Accumulation = Accumulation::Promoted;

/// The product on one path.
fn on(path: GemmPath, left: OperandView<'_>, right: OperandView<'_>) -> Vec<f32> {
    let (m, n) = (left.rows, right.rows);
    let group = Group { left: Source::Codes(left), right: Source::Codes(right), start: 0 };
    // SAFETY: a product writes all of its result.
    unsafe { build_f32(m * n, n, |c| product(path, &[group], PROMOTED, c, Threads::Pool)) }
}

/// Fprop (or Dgrad) and Wgrad of random matrices on every path, through the public functions and by
/// accumulation.
fn check(m: usize, n: usize, k: usize, format: Fp8Format) {
    let (a, b) = (Rows::random(1, m, k, format), Blocks::random(2, n, k, format));
    let columns = Rows::random(3, n, k, format);
    let expected = reference::fp8_gemm_nt(&a.view(), &b.view(), 0);
    let expected_wgrad = reference::fp8_wgrad_nt(&a.view(), &columns.view());
    for path in GemmPath::available() {
        let left = OperandView::rows_of(&a.view(), 0, m);
        assert_close(
            &format!("{path:?} {m} {n} {k}"),
            &on(path, left, OperandView::expert_of(&b.view(), 0)),
            &expected,
            1e-5,
        );
        let right = OperandView::rows_of(&columns.view(), 0, n);
        assert_close(
            &format!("{path:?} wgrad {m} {n} {k}"),
            &on(path, left, right),
            &expected_wgrad,
            1e-5,
        );
    }
    let c = super::fp8_gemm_nt(&a.view(), &b.view(), PROMOTED).unwrap();
    assert_close("c", &c, &expected, 1e-5);
    let narrow = super::fp8_gemm_nt_bf16(&a.view(), &b.view(), PROMOTED).unwrap();
    assert!(
        narrow.iter().zip(&c).all(|(&narrow, &c)| narrow == half::bf16::from_f32(c)),
        "BF16 is the rounded FP32 result"
    );
    let start = random(4, m * n);
    let mut sum = start.clone();
    super::fp8_gemm_nt_accumulate(&a.view(), &b.view(), PROMOTED, &mut sum).unwrap();
    let with_start = |c: &[f64]| {
        c.iter().zip(&start).map(|(&c, &start)| c + f64::from(start)).collect::<Vec<_>>()
    };
    assert_close("c += ", &sum, &with_start(&expected), 1e-5);
    let mut sum = start.clone();
    super::fp8_wgrad_nt_accumulate(&a.view(), &columns.view(), PROMOTED, &mut sum).unwrap();
    assert_close("dw +=", &sum, &with_start(&expected_wgrad), 1e-5);
}
