//! Head and cross entropy against the plain form.

use crate::client::{client, download, upload, upload_words};
use crate::oracle::{assert_near, random, widen};
use cubecl_kernels::KernelError;
use cubecl_kernels::cross_entropy::{linear_cross_entropy, linear_cross_entropy_with_gradients};
use cubecl_kernels::definition::LinearShape;
use cubecl_kernels::matrix_product::LinearPath;
use cubecl_kernels::metric::calc_diff;
use cubecl_kernels::reference;

/// Rows that are not counted, none counted, no row, one of the vocabulary, more rows than a chunk.
#[test]
fn losses_and_gradients_of_every_shape() {
    let client = client();
    for (rows, inputs, vocab, skip) in [
        (0, 3, 5, 2),
        (1, 1, 1, 9),
        (7, 5, 70, 3),
        (40, 16, 300, 1),
        (9, 0, 4, 2),
        (300, 2, 20_000, 7),
    ] {
        let name = format!("{rows} {inputs} {vocab} {skip}");
        let shape = LinearShape { rows, inputs, outputs: vocab };
        let (x, w) = (random(1, rows * inputs), random(2, vocab * inputs));
        let (x, w): (Vec<f32>, Vec<f32>) =
            (x.iter().map(|x| 3.0 * x).collect(), w.iter().map(|w| 3.0 * w).collect());
        let targets: Vec<i64> = (0..rows)
            .map(|r| if r % skip == skip - 1 { -100 } else { (r * r * 7 % vocab) as i64 })
            .collect();
        let words: Vec<u32> = targets.iter().map(|&t| t as i32 as u32).collect();
        let (on_x, on_w) = (upload(&client, &x), upload(&client, &w));
        let on_targets = upload_words(&client, &words);
        let run = || {
            let alone =
                linear_cross_entropy(&client, &on_x, &on_w, &on_targets, &shape, LinearPath::F32)
                    .unwrap();
            let head = linear_cross_entropy_with_gradients(
                &client,
                &on_x,
                &on_w,
                &on_targets,
                &shape,
                LinearPath::F32,
            )
            .unwrap();
            [
                download(&client, &alone, 1),
                download(&client, &head.loss, 1),
                download(&client, &head.dx, x.len()),
                download(&client, &head.dw, w.len()),
            ]
        };
        let actual = run();
        let counted = targets.iter().filter(|&&t| t >= 0).count().max(1) as f64;
        let weights = vec![1.0 / counted; rows];
        let expected = reference::linear_cross_entropy(
            &widen(&x),
            &widen(&w),
            &targets,
            Some(&weights),
            &shape,
        );
        assert_near(&name, &actual[0], &[expected.loss]);
        assert_eq!(actual[0], actual[1], "{name}: with gradients the same loss");
        for (what, actual, expected) in
            [("dx", &actual[2], &expected.dx), ("dw", &actual[3], &expected.dw)]
        {
            // Over a row of the vocabulary the terms of a gradient cancel, their roundings do not.
            let diff = calc_diff(actual, expected);
            assert!(diff < 1e-9, "{name} {what}: calc_diff {diff:e}");
        }
        assert_eq!(run(), actual, "{name}: the same bits twice");
    }
}

#[test]
fn a_target_outside_the_vocabulary_shows() {
    let client = client();
    let (x, targets) = (upload(&client, &[1.0, 2.0]), upload_words(&client, &[0, 2]));
    let shape = LinearShape { rows: 2, inputs: 1, outputs: 2 };
    let loss = linear_cross_entropy(&client, &x, &x, &targets, &shape, LinearPath::F32).unwrap();
    assert!(download(&client, &loss, 1)[0].is_nan());
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let (x, targets) = (upload(&client, &[0.0; 6]), upload_words(&client, &[0, 1]));
    let run = |rows, inputs, outputs| {
        let shape = LinearShape { rows, inputs, outputs };
        linear_cross_entropy(&client, &x, &x, &targets, &shape, LinearPath::F32)
            .map(drop)
            .unwrap_err()
    };
    let error = run(3, 3, 2);
    assert!(matches!(error, KernelError::Length { argument: "x", expected: 9, .. }), "{error}");
    let error = run(2, 3, 3);
    assert!(matches!(error, KernelError::Length { argument: "w", .. }), "{error}");
    let error = run(3, 2, 3);
    assert!(matches!(error, KernelError::Length { argument: "targets", .. }), "{error}");
}
