use super::*;
use crate::definition::{LinearShape, ProductFormat};
use crate::reference;
use crate::test_inputs::{
    assert_close, assert_gradient, assert_thread_independent, random, random_indices, widen,
};

/// Every third row ignored where `holes`.
fn targets(rows: usize, vocab: usize, holes: bool) -> Vec<i64> {
    let targets = random_indices(3, rows, vocab.max(1));
    targets
        .iter()
        .enumerate()
        .map(|(r, &t)| if holes && r % 3 == 1 { -100 } else { t as i64 })
        .collect()
}

fn check(rows: usize, inputs: usize, vocab: usize, size: f32, holes: bool, weighted: bool) {
    let x: Vec<f32> = random(1, rows * inputs).iter().map(|x| x * size).collect();
    let w = random(2, vocab * inputs);
    let targets = targets(rows, vocab, holes);
    let weights = weighted.then(|| random(4, rows));
    let weights = weights.as_deref();
    let (x64, w64, weights64) = (widen(&x), widen(&w), weights.map(widen));
    let tolerance = 1e-5 * f64::from(size.max(1.0));
    let shape = LinearShape { rows, inputs, outputs: vocab };
    let expected =
        reference::linear_cross_entropy(&x64, &w64, &targets, weights64.as_deref(), &shape);
    let got =
        linear_cross_entropy_with_gradients(&x, &w, &targets, weights, &shape, ProductFormat::F32)
            .unwrap();
    assert_close("row losses", &got.loss.row_losses, &expected.row_losses, tolerance);
    assert_close("dx", &got.dx, &expected.dx, tolerance);
    assert_close("dw", &got.dw, &expected.dw, tolerance);
    assert!(
        (got.loss.loss - expected.loss).abs() <= tolerance * (rows as f64 + expected.loss.abs())
    );
    let only = linear_cross_entropy(&x, &w, &targets, weights, &shape, ProductFormat::F32).unwrap();
    assert_close("row losses alone", &only.row_losses, &expected.row_losses, tolerance);

    let logits64 = reference::linear(&x64, &w64, &shape);
    let logits: Vec<f32> = logits64.iter().map(|&x| x as f32).collect();
    let (loss, gradient) =
        cross_entropy_with_gradient(&logits, &targets, weights, rows, vocab).unwrap();
    let (losses, d_logits) =
        reference::cross_entropy(&widen(&logits), &targets, weights64.as_deref(), rows, vocab);
    assert_close("plain row losses", &loss.row_losses, &losses, 1e-5);
    assert_close("plain gradient", &gradient, &d_logits, tolerance);
    let only = cross_entropy(&logits, &targets, weights, rows, vocab).unwrap();
    assert_close("plain row losses alone", &only.row_losses, &losses, 1e-5);
}

#[test]
fn hard_edges() {
    for (rows, inputs, vocab) in [
        (0, 4, 9),
        (1, 1, 1),
        (1, 0, 5),
        (3, 5, 17),
        (7, 8, 16),
        (70, 16, 20_000),
        (300, 3, 5000),
        (130, 33, 31),
    ] {
        for holes in [false, true] {
            check(rows, inputs, vocab, 1.0, holes, holes);
        }
    }
}

#[test]
fn huge_logits_stay_finite() {
    check(20, 8, 50, 40.0, true, true);
    let logits = [1e30f32, -1e30, 88.0, f32::MIN];
    let (loss, gradient) = cross_entropy_with_gradient(&logits, &[0, 1], None, 2, 2).unwrap();
    assert_eq!(loss.row_losses[0], 0.0);
    assert!(gradient.iter().all(|x| x.is_finite()));
}

#[test]
fn all_rows_ignored_cost_nothing() {
    let got = linear_cross_entropy_with_gradients(
        &[1.0; 6],
        &[1.0; 8],
        &[-1, -5, -100],
        None,
        &LinearShape { rows: 3, inputs: 2, outputs: 4 },
        ProductFormat::F32,
    )
    .unwrap();
    assert_eq!(got.loss, CrossEntropy { loss: 0.0, row_losses: vec![0.0; 3] });
    assert_eq!((got.dx, got.dw), (vec![0.0; 6], vec![0.0; 8]));
}

#[test]
fn a_target_outside_the_vocabulary_names_its_row() {
    let shape = LinearShape { rows: 2, inputs: 2, outputs: 3 };
    let error =
        linear_cross_entropy(&[0.0; 4], &[0.0; 6], &[2, 3], None, &shape, ProductFormat::F32)
            .unwrap_err();
    assert_eq!(error.to_string(), "linear_cross_entropy: `targets[1]` is 3, it must lie in 0..3");
    assert!(cross_entropy(&[0.0; 4], &[0, 0], Some(&[1.0]), 2, 2).is_err());
}

proptest::proptest! {
    #[test]
    fn random_shapes(
        rows in 0usize..90,
        inputs in 1usize..20,
        vocab in 1usize..70,
        holes: bool,
        weighted: bool,
    ) {
        check(rows, inputs, vocab, 1.0, holes, weighted);
    }
}

#[test]
fn the_reference_gradients_are_slopes() {
    let shape = LinearShape { rows: 4, inputs: 3, outputs: 5 };
    let (x, w, weights) = (widen(&random(1, 12)), widen(&random(2, 15)), widen(&random(4, 4)));
    let targets = targets(4, 5, true);
    let run = |x: &[f64], w: &[f64]| {
        reference::linear_cross_entropy(x, w, &targets, Some(&weights), &shape)
    };
    let whole = run(&x, &w);
    assert_gradient("dx", &x, &whole.dx, |x| run(x, &w).loss);
    assert_gradient("dw", &w, &whole.dw, |w| run(&x, w).loss);
}

#[test]
fn threads_do_not_change_a_bit() {
    let shape = LinearShape { rows: 600, inputs: 64, outputs: 3001 };
    let (x, w, targets) = (random(1, 600 * 64), random(2, 3001 * 64), targets(600, 3001, true));
    assert_thread_independent("linear_cross_entropy", || {
        let got =
            linear_cross_entropy_with_gradients(&x, &w, &targets, None, &shape, ProductFormat::F32)
                .unwrap();
        vec![got.loss.row_losses, got.dx, got.dw]
    });
}
