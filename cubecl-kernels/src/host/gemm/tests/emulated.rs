//! The emulated accumulator: the reference's bits, and what few bits cost.

use super::PROMOTED;
use super::quantized::{Blocks, Rows};
use crate::definition::{Accumulation, Fp8Format};
use crate::host::gemm::*;
use crate::reference;
use crate::test_inputs::random;

fn same(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(a == e || (a.is_nan() && e.is_nan()), "{what} [{i}]: {a:e} against {e:e}");
    }
}

fn check(m: usize, n: usize, k: usize, bits: u32, format: Fp8Format) {
    let (a, b) = (Rows::random(1, m, k, format), Blocks::random(2, n, k, format));
    let columns = Rows::random(3, n, k, format);
    for promote in [true, false] {
        let accumulation = Accumulation::Emulated { bits, promote };
        let what = format!("{m} {n} {k} {bits} {promote}");
        let expected = reference::fp8_gemm_nt_emulated(&a.view(), &b.view(), 0, bits, promote);
        same(&fp8_gemm_nt(&a.view(), &b.view(), accumulation).unwrap(), &expected, &what);
        let narrow = fp8_gemm_nt_bf16(&a.view(), &b.view(), accumulation).unwrap();
        assert!(
            narrow.iter().zip(&expected).all(|(&narrow, &c)| narrow == half::bf16::from_f32(c))
        );
        let expected = reference::fp8_wgrad_nt_emulated(&a.view(), &columns.view(), bits, promote);
        same(&fp8_wgrad_nt(&a.view(), &columns.view(), accumulation).unwrap(), &expected, &what);
        let mut sum = vec![1.0; m * n];
        fp8_wgrad_nt_accumulate(&a.view(), &columns.view(), accumulation, &mut sum).unwrap();
        same(&sum, &expected.iter().map(|c| 1.0 + c).collect::<Vec<_>>(), &what);
    }
}

#[test]
fn bits_are_those_of_the_reference() {
    for (m, n, k) in [(0, 3, 5), (3, 4, 0), (1, 1, 1), (3, 17, 40), (5, 40, 128), (7, 33, 300)] {
        for bits in [2, 8, 14, 24] {
            check(m, n, k, bits, Fp8Format::E4M3);
            check(m, n, k, bits, Fp8Format::E5M2);
        }
    }
}

proptest::proptest! {
    #[test]
    fn random_sizes(m in 0usize..8, n in 0usize..40, k in 0usize..400, bits in 2u32..=24) {
        check(m, n, k, bits, Fp8Format::E4M3);
    }
}

#[test]
fn scales_that_are_not_finite_or_zero() {
    let (m, n, k) = (6, 20, 260);
    for (tile, scale) in
        [(0, f32::NAN), (1, f32::INFINITY), (0, 0.0), (2, 0.0), (0, 1e-38), (2, 3e38)]
    {
        let (mut a, b) =
            (Rows::random(1, m, k, Fp8Format::E4M3), Blocks::random(2, n, k, Fp8Format::E4M3));
        a.scales[2 * 3 + tile] = scale;
        a.codes[4 * 65 + 3] = 0x7F;
        for promote in [true, false] {
            let c = fp8_gemm_nt(&a.view(), &b.view(), Accumulation::Emulated { bits: 14, promote })
                .unwrap();
            same(
                &c,
                &reference::fp8_gemm_nt_emulated(&a.view(), &b.view(), 0, 14, promote),
                &format!("{tile} {scale} {promote}"),
            );
            assert!(c[4 * n..5 * n].iter().all(|c| c.is_nan()));
        }
    }
}

/// Normal values from sums of uniform ones.
fn normal(seed: u64, len: usize) -> Vec<f32> {
    random(seed, len * 12).chunks_exact(12).map(|x| x.iter().sum::<f32>() * 0.5).collect()
}

/// What is lost at K = 4096 (3.3.2 reports nearly 2% for an accumulator of about 14 bits).
#[test]
fn without_promotion_few_bits_lose_what_promotion_keeps() {
    let (m, n, k) = (24, 48, 4096);
    for positive in [false, true] {
        let sign = |x: f32| if positive { x.abs() } else { x };
        // Seeds far apart: nearby ones give the same values, shifted.
        let [x, w] = [(1, m), (1 << 40, n)]
            .map(|(seed, rows)| normal(seed, rows * k).into_iter().map(sign).collect::<Vec<_>>());
        let (a, b) = (Rows::new(&x, m, k, Fp8Format::E4M3), Blocks::new(&w, n, k, Fp8Format::E4M3));
        let exact = reference::fp8_gemm_nt(&a.view(), &b.view(), 0);
        let largest = exact.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        // Relative to the largest result: of normal values some sums are nearly zero.
        let worst = |accumulation| {
            let c = fp8_gemm_nt(&a.view(), &b.view(), accumulation).unwrap();
            c.iter()
                .zip(&exact)
                .map(|(&c, &exact)| (f64::from(c) - exact).abs() / largest)
                .fold(0.0, f64::max)
        };
        let fp32 = worst(PROMOTED);
        let promoted = worst(Accumulation::Emulated { bits: 14, promote: true });
        let unpromoted = worst(Accumulation::Emulated { bits: 14, promote: false });
        println!(
            "positive {positive}: FP32 {fp32:.1e}, 14 bits promoted {promoted:.1e}, not promoted \
             {unpromoted:.1e}"
        );
        assert!(fp32 < 1e-5 && promoted < 5e-3, "{fp32} {promoted}");
        assert!(unpromoted > 10.0 * promoted, "{unpromoted} {promoted}");
    }
}
