//! Products of numbers rounded to BF16.

use super::PROMOTED;
use crate::host::GroupedShape;
use crate::host::fp8_gemm::bf16::{bf16_gemm, bf16_gemm_add};
use crate::host::fp8_gemm::output::build_f32;
use crate::host::fp8_gemm::source::{Floats, Source};
use crate::host::fp8_gemm::task::{Group, product};
use crate::host::fp8_gemm::*;
use crate::host::gemm_view::Threads;
use crate::host::output::as_uninit;
use crate::reference;
use crate::test_inputs::{assert_close, assert_thread_independent, random};

/// What the operands are after rounding, in f64.
fn rounded(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| half::bf16::from_f32(x).to_f64()).collect()
}

fn check(rows: usize, inputs: usize, outputs: usize) {
    let (x, w, dy) =
        (random(1, rows * inputs), random(2, outputs * inputs), random(3, rows * outputs));
    let (x64, w64, dy64) = (rounded(&x), rounded(&w), rounded(&dy));
    let y = reference::linear(&x64, &w64, rows, inputs, outputs);
    let dx = reference::linear_input_gradient(&dy64, &w64, rows, inputs, outputs);
    let dw = reference::linear_weight_gradient(&dy64, &x64, rows, inputs, outputs);
    let name = |what| format!("{what} {rows} {inputs} {outputs}");
    assert_close(&name("y"), &bf16_linear(&x, &w, rows, inputs, outputs).unwrap(), &y, 1e-5);
    assert_close(
        &name("dx"),
        &bf16_linear_input_gradient(&dy, &w, rows, inputs, outputs).unwrap(),
        &dx,
        1e-5,
    );
    assert_close(
        &name("dw"),
        &bf16_linear_weight_gradient(&dy, &x, rows, inputs, outputs).unwrap(),
        &dw,
        1e-5,
    );
    let mut sum = vec![1.0; rows * outputs];
    bf16_linear_accumulate(&x, &w, &mut sum, rows, inputs, outputs).unwrap();
    assert_close(&name("y + 1"), &sum, &y.iter().map(|y| y + 1.0).collect::<Vec<_>>(), 1e-5);
    let (xf, wf, dyf) = (
        Floats::new(&x, rows, inputs, inputs),
        Floats::new(&w, outputs, inputs, inputs),
        Floats::new(&dy, rows, outputs, outputs),
    );
    for path in GemmPath::available() {
        for (what, left, right, expected) in
            [("y", xf, wf, &y), ("dx", dyf, wf.t(), &dx), ("dw", dyf.t(), xf.t(), &dw)]
        {
            let n = right.rows;
            let group =
                Group { left: Source::Floats(left), right: Source::Floats(right), start: 0 };
            // SAFETY: a product writes all of its result.
            let c = unsafe {
                build_f32(left.rows * n, n, |c| product(path, &[group], PROMOTED, c, Threads::Pool))
            };
            assert_close(&format!("{path:?} {}", name(what)), &c, expected, 1e-5);
        }
    }
}

#[test]
fn ragged_sizes() {
    for rows in [0, 1, 2, 5, 17, 130, 600] {
        for (inputs, outputs) in
            [(1, 1), (0, 3), (3, 0), (7, 129), (64, 257), (256, 96), (131, 4), (300, 33)]
        {
            check(rows, inputs, outputs);
        }
    }
}

proptest::proptest! {
    #[test]
    fn random_sizes(rows in 0usize..50, inputs in 0usize..300, outputs in 0usize..140) {
        check(rows, inputs, outputs);
    }
}

#[test]
fn views_into_larger_matrices() {
    // The middle of rows of 50, into the middle of rows of 40.
    let (x, w) = (random(1, 20 * 50), random(2, 30 * 50));
    let inner = |x: &[f32], rows: usize| {
        (0..rows).flat_map(|r| x[r * 50 + 5..][..33].to_vec()).collect::<Vec<f32>>()
    };
    let expected =
        reference::linear(&rounded(&inner(&x, 20)), &rounded(&inner(&w, 30)), 20, 33, 30);
    let (a, b) = (Floats::new(&x[5..], 20, 33, 50), Floats::new(&w[5..], 30, 33, 50));
    let mut out = vec![7.0f32; 20 * 40];
    for turn in 1..=2 {
        if turn == 1 {
            bf16_gemm(as_uninit(&mut out[3..]), 40, a, b, Threads::One);
        } else {
            bf16_gemm_add(&mut out[3..], 40, a, b, Threads::One);
        }
        let got: Vec<f32> = (0..20).flat_map(|r| out[r * 40 + 3..][..30].to_vec()).collect();
        assert_close(
            "view",
            &got,
            &expected.iter().map(|y| f64::from(turn) * y).collect::<Vec<_>>(),
            1e-5,
        );
        let outside =
            (0..20).flat_map(|r| [&out[r * 40..][..3], &out[r * 40 + 33..][..7]].concat());
        assert!(outside.into_iter().all(|x| x == 7.0), "only the view is written");
    }
}

#[test]
fn groups() {
    for counts in [&[][..], &[0], &[3, 0, 40], &[600, 1], &[5; 30]] {
        let offsets: Vec<usize> = (0..=counts.len()).map(|e| counts[..e].iter().sum()).collect();
        let (rows, experts, inputs, outputs) = (offsets[counts.len()], counts.len(), 70, 45);
        let shape = GroupedShape { rows, experts, inputs, outputs };
        let (x, w, dy) = (
            random(1, rows * inputs),
            random(2, experts * inputs * outputs),
            random(3, rows * outputs),
        );
        let (y, dx, dw) = reference::grouped_linear(
            &rounded(&x),
            &rounded(&w),
            &rounded(&dy),
            &offsets,
            inputs,
            outputs,
        );
        assert_close("y", &bf16_grouped_linear(&x, &w, &offsets, &shape).unwrap(), &y, 1e-5);
        assert_close(
            "dx",
            &bf16_grouped_linear_input_gradient(&dy, &w, &offsets, &shape).unwrap(),
            &dx,
            1e-5,
        );
        assert_close(
            "dw",
            &bf16_grouped_linear_weight_gradient(&dy, &x, &offsets, &shape).unwrap(),
            &dw,
            1e-5,
        );
        assert!(bf16_grouped_linear(&x, &w, &[1], &shape).is_err());
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for rows in [3, 700] {
        let (x, w, dy) = (random(1, rows * 256), random(2, 1031 * 256), random(3, rows * 1031));
        assert_thread_independent("bf16_linear", || {
            vec![
                bf16_linear(&x, &w, rows, 256, 1031).unwrap(),
                bf16_linear_input_gradient(&dy, &w, rows, 256, 1031).unwrap(),
                bf16_linear_weight_gradient(&dy, &x, rows, 256, 1031).unwrap(),
            ]
        });
    }
}

#[test]
fn nan_and_infinity_pass_through() {
    let (mut x, w) = (random(1, 40 * 64), vec![1.0; 50 * 64]);
    (x[5 * 64 + 7], x[6 * 64 + 8]) = (f32::NAN, f32::NEG_INFINITY);
    let y = bf16_linear(&x, &w, 40, 64, 50).unwrap();
    for (i, y) in y.iter().enumerate() {
        match i / 50 {
            5 => assert!(y.is_nan()),
            6 => assert_eq!(*y, f32::NEG_INFINITY),
            _ => assert!(y.is_finite()),
        }
    }
}

#[test]
fn a_wrong_length_is_refused() {
    assert!(bf16_linear(&[0.0; 5], &[0.0; 6], 2, 3, 2).is_err());
    assert!(bf16_linear_accumulate(&[0.0; 6], &[0.0; 6], &mut [0.0; 3], 2, 3, 2).is_err());
    assert!(bf16_linear_input_gradient(&[0.0; 4], &[0.0; 5], 2, 3, 2).is_err());
    assert!(bf16_linear_weight_gradient(&[0.0; 4], &[0.0; 5], 2, 3, 2).is_err());
}
