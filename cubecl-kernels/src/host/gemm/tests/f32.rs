//! FP32 products on every path that has FP32 words, their bits beside those of other cuts, and of
//! views into larger matrices.

use super::PROMOTED;
use crate::definition::LinearShape;
use crate::host::gemm::numbers::{gemm_nt, gemm_nt_add};
use crate::host::gemm::output::{Output, build_f32};
use crate::host::gemm::path::GemmPath;
use crate::host::gemm::route::Route;
use crate::host::gemm::source::{Floats, Group, Source, Taken};
use crate::host::gemm::task::product;
use crate::host::output::as_uninit;
use crate::host::parallel::Threads;
use crate::reference;
use crate::test_inputs::{assert_close, random, widen};

fn paths() -> impl Iterator<Item = GemmPath> {
    GemmPath::available().filter(|path| path.has_words())
}

fn floats(x: &[f32], rows: usize, depth: usize) -> Floats<'_> {
    Floats::new(x, rows, depth, depth, Taken::Whole)
}

/// `left right^T` on a path.
fn on(path: GemmPath, left: Floats<'_>, right: Floats<'_>, threads: Threads) -> Vec<f32> {
    let group = Group { left: Source::Floats(left), right: Source::Floats(right), start: 0 };
    let (m, n) = (left.rows, right.rows);
    // SAFETY: a product writes all of its result.
    unsafe { build_f32(m * n, n, |c| product(Route::only(path), &[group], PROMOTED, c, threads)) }
}

/// A linear map and its gradients on every path.
fn check(rows: usize, inputs: usize, outputs: usize) {
    let shape = LinearShape { rows, inputs, outputs };
    let (x, w, dy) =
        (random(1, rows * inputs), random(2, outputs * inputs), random(3, rows * outputs));
    let [x64, w64, dy64] = [&x, &w, &dy].map(|x| widen(x));
    let y = reference::linear(&x64, &w64, &shape);
    let dx = reference::linear_input_gradient(&dy64, &w64, &shape);
    let dw = reference::linear_weight_gradient(&dy64, &x64, &shape);
    let (xf, wf) = (floats(&x, rows, inputs), floats(&w, outputs, inputs));
    let dyf = floats(&dy, rows, outputs);
    for path in paths() {
        for (what, left, right, expected) in
            [("y", xf, wf, &y), ("dx", dyf, wf.t(), &dx), ("dw", dyf.t(), xf.t(), &dw)]
        {
            let c = on(path, left, right, Threads::Pool);
            assert_close(&format!("{path} {what} {shape:?}"), &c, expected, 1e-5);
            assert!(c == on(path, left, right, Threads::One), "{path} {what} {shape:?}: the cut");
        }
    }
}

#[test]
fn ragged_sizes() {
    for rows in [0, 1, 2, 5, 12, 13, 17, 130, 600] {
        for (inputs, outputs) in [
            (1, 1),
            (0, 3),
            (3, 0),
            (7, 129),
            (48, 32),
            (64, 257),
            (256, 48),
            (131, 4),
            (300, 33),
            (1100, 16),
        ] {
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

/// An element has the same bits in whatever product its row and column are: panels of a stored
/// weight rest on it.
#[test]
fn a_part_has_the_bits_of_the_whole() {
    let (m, n, k) = (70, 150, 900);
    let (x, w) = (random(1, m * k), random(2, n * k));
    for path in paths() {
        let whole = on(path, floats(&x, m, k), floats(&w, n, k), Threads::Pool);
        for (rows, columns) in [(5..6, 3..4), (1..17, 31..150), (0..70, 64..65), (69..70, 0..150)] {
            let left = floats(&x[rows.start * k..rows.end * k], rows.len(), k);
            let right = floats(&w[columns.start * k..columns.end * k], columns.len(), k);
            let part = on(path, left, right, Threads::One);
            let expected: Vec<f32> =
                rows.clone().flat_map(|r| whole[r * n..][columns.clone()].to_vec()).collect();
            assert!(part == expected, "{path} {rows:?} {columns:?}");
        }
    }
}

/// FP32 is not rounded on the way, and what is not finite stays in its row.
#[test]
fn numbers_are_taken_as_they_are() {
    let (m, n, k) = (30, 40, 200);
    let fine = 1.0 + f32::EPSILON;
    let (mut x, w) = (vec![0.0; m * k], vec![1.0; n * k]);
    (0..m).for_each(|row| x[row * k + row] = fine);
    x[7 * k] = f32::NAN;
    x[8 * k] = f32::INFINITY;
    x[9 * k + 9] = f32::MIN_POSITIVE / 4.0;
    // The same matrix, stored transposed.
    let turned: Vec<f32> =
        (0..k).flat_map(|c| (0..m).map(|r| x[r * k + c]).collect::<Vec<_>>()).collect();
    for path in paths() {
        for (what, left) in [("rows", floats(&x, m, k)), ("columns", floats(&turned, k, m).t())] {
            for (i, c) in on(path, left, floats(&w, n, k), Threads::Pool).iter().enumerate() {
                match i / n {
                    7 => assert!(c.is_nan(), "{path} {what}: {c}"),
                    8 => assert_eq!(*c, f32::INFINITY, "{path} {what}"),
                    9 => assert_eq!(*c, f32::MIN_POSITIVE / 4.0, "{path} {what}"),
                    _ => assert_eq!(*c, fine, "{path} {what}"),
                }
            }
        }
    }
}

#[test]
fn views_into_larger_matrices_and_a_factor() {
    // The middle of rows of 50, into the middle of rows of 60.
    let (x, w) = (random(1, 20 * 50), random(2, 48 * 50));
    let inner = |x: &[f32], rows: usize| {
        (0..rows).flat_map(|r| x[r * 50 + 5..][..33].to_vec()).collect::<Vec<f32>>()
    };
    let shape = LinearShape { rows: 20, inputs: 33, outputs: 48 };
    let expected = reference::linear(&widen(&inner(&x, 20)), &widen(&inner(&w, 48)), &shape);
    let a = Floats::new(&x[5..], 20, 33, 50, Taken::Whole);
    let b = Floats::new(&w[5..], 48, 33, 50, Taken::Whole);
    let mut out = vec![7.0f32; 20 * 60];
    for turn in 1..=2 {
        if turn == 1 {
            gemm_nt(as_uninit(&mut out[3..]), 60, 0.5, a, b, Threads::One);
        } else {
            gemm_nt_add(&mut out[3..], 60, 0.5, a, b, Threads::One);
        }
        let got: Vec<f32> = (0..20).flat_map(|r| out[r * 60 + 3..][..48].to_vec()).collect();
        let expected: Vec<f64> = expected.iter().map(|y| 0.5 * f64::from(turn) * y).collect();
        assert_close("view", &got, &expected, 1e-5);
        let outside =
            (0..20).flat_map(|r| [&out[r * 60..][..3], &out[r * 60 + 51..][..9]].concat());
        assert!(outside.into_iter().all(|x| x == 7.0), "only the view is written");
    }
}

#[test]
#[should_panic(expected = "a tile unit multiplies by no factor")]
fn a_tile_unit_refuses_a_factor() {
    let x = [1.0];
    let group = |x| Group {
        left: Source::Floats(Floats::new(x, 1, 1, 1, Taken::High)),
        right: Source::Floats(Floats::new(x, 1, 1, 1, Taken::High)),
        start: 0,
    };
    let mut out = [0.0];
    let out = Output::new(as_uninit(&mut out), 1).times(2.0);
    product(Route::only(GemmPath::AmxEmulated), &[group(&x)], PROMOTED, &out, Threads::One);
}
