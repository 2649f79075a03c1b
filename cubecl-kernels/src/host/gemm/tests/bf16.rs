//! Products of numbers rounded to BF16, on every path and of views into larger matrices.

use super::PROMOTED;
use crate::definition::{LinearShape, ProductFormat};
use crate::host::gemm::numbers::{gemm_nt, gemm_nt_add};
use crate::host::gemm::output::build_f32;
use crate::host::gemm::path::GemmPath;
use crate::host::gemm::route::Route;
use crate::host::gemm::source::{Floats, Group, Source, Taken};
use crate::host::gemm::task::product;
use crate::host::output::as_uninit;
use crate::host::parallel::Threads;
use crate::reference;
use crate::test_inputs::{assert_close, random, rounded};

/// A linear map and its gradients on every path.
fn check(rows: usize, inputs: usize, outputs: usize) {
    let shape = LinearShape { rows, inputs, outputs };
    let (x, w, dy) =
        (random(1, rows * inputs), random(2, outputs * inputs), random(3, rows * outputs));
    let [x64, w64, dy64] = [&x, &w, &dy].map(|x| rounded(x, ProductFormat::Bf16));
    let y = reference::linear(&x64, &w64, &shape);
    let dx = reference::linear_input_gradient(&dy64, &w64, &shape);
    let dw = reference::linear_weight_gradient(&dy64, &x64, &shape);
    let (xf, wf, dyf) = (
        Floats::new(&x, rows, inputs, inputs, Taken::High),
        Floats::new(&w, outputs, inputs, inputs, Taken::High),
        Floats::new(&dy, rows, outputs, outputs, Taken::High),
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
                build_f32(left.rows * n, n, |c| {
                    product(Route::only(path), &[group], PROMOTED, c, Threads::Pool)
                })
            };
            assert_close(&format!("{path:?} {what} {shape:?}"), &c, expected, 1e-5);
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
    let [x64, w64] = [inner(&x, 20), inner(&w, 30)].map(|x| rounded(&x, ProductFormat::Bf16));
    let shape = LinearShape { rows: 20, inputs: 33, outputs: 30 };
    let expected = reference::linear(&x64, &w64, &shape);
    let (a, b) = (
        Floats::new(&x[5..], 20, 33, 50, Taken::High),
        Floats::new(&w[5..], 30, 33, 50, Taken::High),
    );
    let mut out = vec![7.0f32; 20 * 40];
    for turn in 1..=2 {
        if turn == 1 {
            gemm_nt(as_uninit(&mut out[3..]), 40, 1.0, a, b, Threads::One);
        } else {
            gemm_nt_add(&mut out[3..], 40, 1.0, a, b, Threads::One);
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
