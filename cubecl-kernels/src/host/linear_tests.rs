//! The linear map and its gradients against the reference, in both formats.

use super::*;
use crate::reference;
use crate::test_inputs::{
    FORMATS, assert_close, assert_gradient, assert_thread_independent, inner, random, rounded,
    widen,
};

fn check(rows: usize, inputs: usize, outputs: usize) {
    let shape = LinearShape { rows, inputs, outputs };
    let (x, w, dy) =
        (random(1, rows * inputs), random(2, outputs * inputs), random(3, rows * outputs));
    for format in FORMATS {
        let [x64, w64, dy64] = [&x, &w, &dy].map(|operand| rounded(operand, format));
        let close = |what: &str, actual: &[f32], expected: &[f64]| {
            assert_close(&format!("{what} {shape:?} {format:?}"), actual, expected, 1e-5);
        };
        let y = linear(&x, &w, &shape, format).unwrap();
        let expected = reference::linear(&x64, &w64, &shape);
        close("y", &y, &expected);
        let mut twice = y;
        linear_accumulate(&x, &w, &mut twice, &shape, format).unwrap();
        close("y + y", &twice, &expected.iter().map(|y| 2.0 * y).collect::<Vec<_>>());
        let mut more = vec![1.0; rows * outputs];
        linear_accumulate(&x, &w, &mut more, &shape, format).unwrap();
        close("1 + y", &more, &expected.iter().map(|y| 1.0 + y).collect::<Vec<_>>());
        let dx = linear_input_gradient(&dy, &w, &shape, format).unwrap();
        close("dx", &dx, &reference::linear_input_gradient(&dy64, &w64, &shape));
        let dw = linear_weight_gradient(&dy, &x, &shape, format).unwrap();
        close("dw", &dw, &reference::linear_weight_gradient(&dy64, &x64, &shape));
    }
}

#[test]
fn hard_edges() {
    for rows in [0, 1, 2, 3, 4, 5, 17, 130, 600] {
        for (inputs, outputs) in
            [(1, 1), (0, 3), (3, 0), (7, 129), (64, 257), (256, 96), (131, 4), (300, 33)]
        {
            check(rows, inputs, outputs);
        }
    }
}

proptest::proptest! {
    #[test]
    fn random_shapes(rows in 0usize..50, inputs in 0usize..300, outputs in 0usize..140) {
        check(rows, inputs, outputs);
    }
}

#[test]
fn the_reference_gradients_are_slopes() {
    let shape = LinearShape { rows: 3, inputs: 4, outputs: 5 };
    let (x, w, dy) = (widen(&random(1, 12)), widen(&random(2, 20)), widen(&random(3, 15)));
    let dx = reference::linear_input_gradient(&dy, &w, &shape);
    assert_gradient("dx", &x, &dx, |x| inner(&reference::linear(x, &w, &shape), &dy));
    let dw = reference::linear_weight_gradient(&dy, &x, &shape);
    assert_gradient("dw", &w, &dw, |w| inner(&reference::linear(&x, w, &shape), &dy));
}

#[test]
fn threads_do_not_change_a_bit() {
    for rows in [1, 3, 300, 700] {
        let shape = LinearShape { rows, inputs: 256, outputs: 1031 };
        let (x, w, dy) = (random(1, rows * 256), random(2, 1031 * 256), random(3, rows * 1031));
        for format in FORMATS {
            assert_thread_independent(&format!("linear {format:?}"), || {
                vec![
                    linear(&x, &w, &shape, format).unwrap(),
                    linear_input_gradient(&dy, &w, &shape, format).unwrap(),
                    linear_weight_gradient(&dy, &x, &shape, format).unwrap(),
                ]
            });
        }
    }
}

#[test]
fn nan_and_infinity_pass_through_bf16() {
    let (mut x, w) = (random(1, 40 * 64), vec![1.0; 50 * 64]);
    (x[5 * 64 + 7], x[6 * 64 + 8]) = (f32::NAN, f32::NEG_INFINITY);
    let shape = LinearShape { rows: 40, inputs: 64, outputs: 50 };
    let y = linear(&x, &w, &shape, ProductFormat::Bf16).unwrap();
    for (i, y) in y.iter().enumerate() {
        match i / 50 {
            5 => assert!(y.is_nan()),
            6 => assert_eq!(*y, f32::NEG_INFINITY),
            _ => assert!(y.is_finite()),
        }
    }
}

#[test]
fn a_wrong_length_names_the_argument() {
    let shape = LinearShape { rows: 2, inputs: 3, outputs: 2 };
    for format in FORMATS {
        let error = linear(&[0.0; 5], &[0.0; 6], &shape, format).unwrap_err();
        assert!(matches!(error, KernelError::Length { argument: "x", expected: 6, actual: 5, .. }));
        let y = &mut [0.0; 3];
        assert!(linear_accumulate(&[0.0; 6], &[0.0; 6], y, &shape, format).is_err());
        assert!(linear_input_gradient(&[0.0; 4], &[0.0; 5], &shape, format).is_err());
        assert!(linear_weight_gradient(&[0.0; 4], &[0.0; 5], &shape, format).is_err());
    }
}
