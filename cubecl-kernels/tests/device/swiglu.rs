//! SwiGLU and its gradient against the plain form.

use crate::client::{client, download, upload, words};
use crate::oracle::{random, spread};
use cubecl::prelude::Client;
use cubecl_kernels::KernelError;
use cubecl_kernels::definition::{Granularity, QuantizeOptions, tiles, words as words_of};
use cubecl_kernels::device::{DeviceGroups, Element};
use cubecl_kernels::metric::calc_diff;
use cubecl_kernels::quantize::{
    quantize_columns, quantize_rows, quantize_swiglu_columns, quantize_swiglu_rows,
};
use cubecl_kernels::reference;
use cubecl_kernels::swiglu::{swiglu, swiglu_backward};

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Fails unless every element is right to `2e-6` of the largest, and all together by [`calc_diff`].
#[track_caller]
fn assert_close(name: &str, actual: &[f32], expected: &[f64]) {
    let largest = expected.iter().fold(0.05f64, |m, x| m.max(x.abs()));
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(a) - e).abs() <= 2e-6 * largest,
            "{name}[{i}]: {a} against {e}, largest {largest}"
        );
    }
    let diff = calc_diff(actual, expected);
    assert!(diff < 1e-9, "{name}: calc_diff {diff}");
}

fn run(
    client: &Client,
    gate_up: &[f32],
    dy: &[f32],
    rows: usize,
    inter: usize,
) -> (Vec<f32>, Vec<f32>) {
    let (x, upstream) = (upload(client, gate_up), upload(client, dy));
    let y = swiglu(client, &x, rows, inter).unwrap();
    let dx = swiglu_backward(client, &x, &upstream, rows, inter).unwrap();
    (download(client, &y, rows * inter), download(client, &dx, rows * 2 * inter))
}

fn check(client: &Client, rows: usize, inter: usize, size: f32) {
    let gate_up: Vec<f32> = random(1, rows * 2 * inter).iter().map(|x| x * size).collect();
    let dy = random(2, rows * inter);
    let (y, dx) = run(client, &gate_up, &dy, rows, inter);
    let name = format!("{rows}x{inter} size {size}");
    assert_close(&format!("y {name}"), &y, &reference::swiglu(&widen(&gate_up), rows, inter));
    assert_close(
        &format!("dx {name}"),
        &dx,
        &reference::swiglu_backward(&widen(&gate_up), &widen(&dy), rows, inter),
    );
}

#[test]
fn hard_edges() {
    let client = client();
    // Odd widths go one by one, the others by fours; the last needs more cubes than one dimension
    // of a launch holds.
    for (rows, inter) in
        [(0, 4), (4, 0), (1, 1), (3, 7), (5, 33), (3, 4), (70, 132), (1, 4099), (1_700_000, 5)]
    {
        for size in [1.0, 200.0] {
            check(&client, rows, inter, size);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
    #[test]
    fn random_shapes(rows in 0usize..40, inter in 0usize..140, size in 0.1f32..100.0) {
        check(&client(), rows, inter, size);
    }
}

/// Gates where `e^-g` overflows or vanishes give the limit, also where other factors are as large
/// as FP32 has them.
#[test]
fn large_gates_give_the_limit() {
    let client = client();
    let gates = [88.0f32, 89.0, 104.0, 1e4, 1e30, f32::MAX];
    let gates: Vec<f32> = gates.into_iter().flat_map(|g| [g, -g]).collect();
    for (up, dy) in [(1.0f32, 1.0f32), (1e-20, -1e-20), (1e30, 1e30)] {
        let gate_up: Vec<f32> = gates.iter().copied().chain(vec![up; gates.len()]).collect();
        let (y, dx) = run(&client, &gate_up, &vec![dy; gates.len()], 1, gates.len());
        // From a gate of -87.3 on `e^g` is subnormal, and a device may take it for zero: 88 *
        // 2^-126 is what that can cost.
        let flushed = 1.1e-36 * f64::from(up.max(1.0)) * f64::from(dy.max(1.0));
        let x = widen(&gate_up);
        let expected = reference::swiglu(&x, 1, gates.len());
        let expected_dx =
            reference::swiglu_backward(&x, &widen(&vec![dy; gates.len()]), 1, gates.len());
        for (name, actual, expected) in [("y", y, expected), ("dx", dx, expected_dx)] {
            for (i, (a, e)) in actual.into_iter().zip(expected).enumerate() {
                let (name, g) = (format!("{name}[{i}] up {up} dy {dy}"), gates[i % gates.len()]);
                // A result that FP32 does not hold may be infinite or the largest, with the right
                // sign.
                if e.abs() > 1e38 {
                    assert!(
                        f64::from(a).abs() > 9e37 && a.is_sign_positive() == (e > 0.0),
                        "{name} of {g}: {a} against {e}"
                    );
                } else {
                    assert!(
                        (f64::from(a) - e).abs() <= 1e-5 * e.abs() + 1e-30 + flushed,
                        "{name} of {g}: {a} against {e}"
                    );
                }
            }
        }
    }
}

#[test]
fn nan_reaches_what_depends_on_it_and_nothing_else() {
    let client = client();
    let inter = 8;
    // Entry 1: gate; entry 4: up; entry 6: the upstream gradient.
    let (mut gate_up, mut dy) = (random(3, 2 * 2 * inter), random(4, 2 * inter));
    gate_up[1] = f32::NAN;
    gate_up[inter + 4] = -f32::NAN;
    dy[6] = f32::NAN;
    let (y, dx) = run(&client, &gate_up, &dy, 2, inter);
    let nans = |x: &[f32]| {
        x.iter().enumerate().filter(|(_, v)| v.is_nan()).map(|(i, _)| i).collect::<Vec<_>>()
    };
    assert_eq!(nans(&y), [1, 4]);
    assert_eq!(nans(&dx), [1, 4, 6, inter + 1, inter + 6]);
}

#[test]
fn an_infinite_gate_or_up_is_never_a_finite_number() {
    let client = client();
    let inf = f32::INFINITY;
    let gate_up = [inf, 2.0, -2.0, -inf, -inf, inf, 1.0, 1.0];
    // Gates inf, 2, -2, -inf; ups -inf, inf, 1, 1.
    let (y, _) = run(&client, &gate_up, &[1.0; 4], 1, 4);
    assert_eq!(y[..2], [-inf, inf]);
    assert!((y[2] + 0.238_405_84).abs() < 1e-6, "{}", y[2]);
    // -inf * 0, as the plain form has it.
    assert!(y[3].is_nan(), "{}", y[3]);
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let x = upload(&client, &[0.0; 12]);
    let error = swiglu(&client, &x, 2, 4).unwrap_err();
    assert!(
        matches!(
            error,
            KernelError::Length { op: "swiglu", argument: "gate_up", expected: 16, actual: 12, .. }
        ),
        "{error}"
    );
    let dy = upload(&client, &[0.0; 5]);
    let error = swiglu_backward(&client, &x, &dy, 2, 3).unwrap_err();
    assert!(
        matches!(error, KernelError::Length { argument: "dy", expected: 6, actual: 5, .. }),
        "{error}"
    );
    assert!(matches!(
        swiglu_backward(&client, &dy, &dy, 2, 3),
        Err(KernelError::Length { argument: "gate_up", .. })
    ));
    assert!(matches!(
        swiglu(&client, &x, usize::MAX, 4),
        Err(KernelError::Overflow { argument: "gate_up", .. })
    ));
}

/// Codes and scales are those of the result in FP32, however it is cut.
#[test]
fn the_cast_that_follows_gives_the_same_bits() {
    let client = client();
    for (offsets, columns) in [
        (&[0, 5][..], 7),
        (&[0, 130], 260),
        (&[0, 0, 3, 3, 140, 200], 132),
        (&[0, 0, 3, 3, 140, 200], 272),
        (&[0, 0, 0], 8),
        (&[0, 3, 4], 0),
    ] {
        let rows = offsets[offsets.len() - 1];
        let groups = DeviceGroups::new(&client, offsets, rows).unwrap();
        let mut x = spread(3, rows * 2 * columns);
        if rows > 100 {
            x[columns] = f32::NAN;
        }
        let x = upload(&client, &x);
        for granularity in [Granularity::Tile, Granularity::Block, Granularity::Tensor] {
            let options = QuantizeOptions { granularity, ..QuantizeOptions::default() };
            let y = swiglu(&client, &x, rows, columns).unwrap();
            let f32 = Element::F32;
            let apart = [
                quantize_rows(&client, &y, f32, rows, columns, &options).unwrap(),
                quantize_columns(&client, &y, f32, &groups, columns, &options).unwrap(),
            ];
            let fused = [
                quantize_swiglu_rows(&client, &x, rows, columns, &options).unwrap(),
                quantize_swiglu_columns(&client, &x, &groups, columns, &options).unwrap(),
            ];
            let sizes = [
                (rows * words_of(columns), rows * tiles(columns)),
                (columns * groups.words(), columns * groups.tiles()),
            ];
            for ((apart, fused), (codes, scales)) in apart.iter().zip(&fused).zip(sizes) {
                let name = format!("{offsets:?} {columns} {granularity:?}");
                assert_eq!(
                    words(&client, &fused.codes, codes),
                    words(&client, &apart.codes, codes),
                    "{name}: codes"
                );
                assert_eq!(
                    words(&client, &fused.scales, scales),
                    words(&client, &apart.scales, scales),
                    "{name}: scales"
                );
            }
        }
    }
    let small = upload(&client, &[0.0; 11]);
    let error =
        quantize_swiglu_rows(&client, &small, 2, 3, &QuantizeOptions::default()).unwrap_err();
    assert!(
        matches!(error, KernelError::Length { argument: "gate_up", expected: 12, actual: 11, .. }),
        "{error}"
    );
}
