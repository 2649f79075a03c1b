//! Products of three BF16 parts: as exact as FP32's on every path that has pairs, and FP32's own
//! where there are words.

use super::PROMOTED;
use crate::definition::{LinearShape, ProductFormat};
use crate::host::gemm::output::build_f32;
use crate::host::gemm::path::GemmPath;
use crate::host::gemm::route::Route;
use crate::host::gemm::source::{Floats, Group, Source, Taken};
use crate::host::gemm::task::product;
use crate::host::parallel::Threads;
use crate::reference;
use crate::test_inputs::{assert_close, assert_thread_independent, random, rounded, widen};

fn floats(x: &[f32], rows: usize, depth: usize, taken: Taken) -> Floats<'_> {
    Floats::new(x, rows, depth, depth, taken)
}

fn on(path: GemmPath, pairs: &[(Floats<'_>, Floats<'_>)]) -> Vec<f32> {
    let (mut groups, mut start, n) = (Vec::new(), 0, pairs[0].1.rows);
    for &(left, right) in pairs {
        groups.push(Group { left: Source::Floats(left), right: Source::Floats(right), start });
        start += left.rows * n;
    }
    // SAFETY: the products write all of the result, one after another.
    unsafe {
        build_f32(start, n, |c| product(Route::only(path), &groups, PROMOTED, c, Threads::Pool))
    }
}

fn check(rows: usize, inputs: usize, outputs: usize) {
    let shape = LinearShape { rows, inputs, outputs };
    let (x, w, dy) =
        (random(1, rows * inputs), random(2, outputs * inputs), random(3, rows * outputs));
    let [x64, w64, dy64] = [&x, &w, &dy].map(|x| widen(x));
    let y = reference::linear(&x64, &w64, &shape);
    let dx = reference::linear_input_gradient(&dy64, &w64, &shape);
    let dw = reference::linear_weight_gradient(&dy64, &x64, &shape);
    let xf = floats(&x, rows, inputs, Taken::Thirds);
    let wf = floats(&w, outputs, inputs, Taken::Thirds);
    let dyf = floats(&dy, rows, outputs, Taken::Thirds);
    for path in GemmPath::available() {
        for (what, left, right, expected) in
            [("y", xf, wf, &y), ("dx", dyf, wf.t(), &dx), ("dw", dyf.t(), xf.t(), &dw)]
        {
            let c = on(path, &[(left, right)]);
            assert_close(&format!("{path} {what} {shape:?}"), &c, expected, 3e-6);
        }
    }
}

#[test]
fn ragged_sizes() {
    for rows in [0, 1, 5, 17, 130, 300] {
        for (inputs, outputs) in [(1, 1), (0, 3), (3, 0), (7, 129), (131, 4), (300, 33)] {
            check(rows, inputs, outputs);
        }
    }
}

proptest::proptest! {
    #[test]
    fn random_sizes(rows in 0usize..50, inputs in 0usize..300, outputs in 0usize..100) {
        check(rows, inputs, outputs);
    }
}

/// The root of the mean square of errors, in units of that of the results.
fn error(actual: &[f32], expected: &[f64]) -> f64 {
    let sum = |f: fn(f64, f64) -> f64| -> f64 {
        actual.iter().zip(expected).map(|(&a, &e)| f(f64::from(a), e)).sum()
    };
    (sum(|a, e| (a - e) * (a - e)) / sum(|_, e| e * e)).sqrt()
}

/// Without any one of the six terms the error would be several times FP32's. The figures of the
/// documentation are what this prints.
#[test]
fn errors_beside_those_of_fp32() {
    for depth in [64, 256, 2048, 7168] {
        let shape = LinearShape { rows: 64, inputs: depth, outputs: 64 };
        let (x, w) = (random(1, 64 * depth), random(2, 64 * depth));
        let expected = reference::linear(&widen(&x), &widen(&w), &shape);
        let of = |path, taken| {
            let pair = (floats(&x, 64, depth, taken), floats(&w, 64, depth, taken));
            error(&on(path, &[pair]), &expected)
        };
        let [fp32, bf16] =
            [(GemmPath::Baseline, Taken::Whole), (GemmPath::AmxEmulated, Taken::High)]
                .map(|(path, taken)| of(path, taken));
        println!("depth {depth}: FP32 {fp32:.1e} of the result, BF16 {bf16:.1e}");
        for path in GemmPath::available().filter(|path| !path.has_words()) {
            let thirds = of(path, Taken::Thirds);
            println!("depth {depth}: bf16x3 {thirds:.1e} on {path}");
            assert!(thirds < 2.0 * fp32 && thirds < 1e-3 * bf16, "{path} {depth}: {thirds}");
        }
    }
}

#[test]
fn groups_and_threads_change_no_bit() {
    let (n, k, counts) = (70, 600, [0, 3, 140, 33]);
    let inputs: Vec<_> = counts
        .iter()
        .enumerate()
        .map(|(e, &m)| (m, random(2 * e as u64, m * k), random(2 * e as u64 + 1, n * k)))
        .collect();
    let pairs: Vec<_> = inputs
        .iter()
        .map(|(m, x, w)| (floats(x, *m, k, Taken::Thirds), floats(w, n, k, Taken::Thirds)))
        .collect();
    for path in GemmPath::available().filter(|path| !path.has_words()) {
        let together = on(path, &pairs);
        let alone: Vec<f32> = pairs.iter().flat_map(|&pair| on(path, &[pair])).collect();
        assert!(together == alone, "{path}");
        let large = (floats(&inputs[2].1, 140, k, Taken::Thirds), pairs[2].1);
        assert_thread_independent("thirds", || vec![on(path, &[large]), on(path, &pairs)]);
    }
}

#[test]
fn numbers_that_are_not_finite_stay_in_their_row() {
    let (m, n, k) = (40, 50, 130);
    let (mut x, w) = (random(1, m * k), vec![1.0; n * k]);
    (x[5 * k + 7], x[6 * k + 8], x[7 * k]) = (f32::NAN, f32::NEG_INFINITY, f32::MAX);
    let pair = (floats(&x, m, k, Taken::Thirds), floats(&w, n, k, Taken::Thirds));
    for path in GemmPath::available() {
        for (i, y) in on(path, &[pair]).iter().enumerate() {
            match i / n {
                5 => assert!(y.is_nan(), "{path}: {y}"),
                // Infinity times the middle part of a number that has none is NaN, and BF16 rounds
                // the largest numbers to infinity.
                6 => assert!(!y.is_finite(), "{path}: {y}"),
                7 => assert_eq!(y.is_finite(), path.has_words(), "{path}: {y}"),
                _ => assert!(y.is_finite(), "{path}: {y}"),
            }
        }
    }
}

/// The parts are the number: what is left after three is under 2^-24 of it.
#[test]
fn three_parts_are_the_number() {
    for x in random(1, 1000) {
        let part = |taken: Taken| {
            let mut part = [0.0];
            taken.of_all(&[x], &mut part);
            assert_eq!(rounded(&part, ProductFormat::Bf16), [f64::from(part[0])], "{x}");
            f64::from(part[0])
        };
        let sum = part(Taken::High) + part(Taken::Middle) + part(Taken::Low);
        assert!((sum - f64::from(x)).abs() <= f64::from(x).abs() * 2f64.powi(-24), "{x}: {sum}");
    }
}
