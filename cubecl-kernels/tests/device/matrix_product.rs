//! Products in BF16 by the matrix unit of a device, or by its emulation, against exact ones of
//! operands rounded on the host.

use crate::client::{client, download, upload, upload_words};
use crate::oracle::random;
use cubecl::prelude::Client;
use cubecl_kernels::cross_entropy::{linear_cross_entropy, linear_cross_entropy_with_gradients};
use cubecl_kernels::definition::{GroupedColumns, GroupedLinearShape, LinearShape, ProductFormat};
use cubecl_kernels::device::{DeviceGroups, MatrixUnit, matrix_unit};
use cubecl_kernels::grouped_linear::{
    grouped_linear, grouped_linear_input_gradient, grouped_linear_weight_gradient,
};
use cubecl_kernels::linear::{linear, linear_input_gradient, linear_weight_gradient};
use cubecl_kernels::matrix_product::LinearPath;
use cubecl_kernels::metric::calc_diff;
use cubecl_kernels::{host, reference};
use half::bf16;

/// The device's unit, or the emulation where it has none.
fn path(client: &Client) -> LinearPath {
    LinearPath::Bf16(matrix_unit(client).unwrap_or(MatrixUnit::Emulated))
}

/// Numbers as a product takes them.
fn rounded(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| bf16::from_f32(x).to_f64()).collect()
}

/// Fails unless `actual` is `expected` up to the roundings of sums in FP32, or of a matrix unit's
/// accumulator.
#[track_caller]
fn assert_near(name: &str, path: LinearPath, actual: &[f32], expected: &[f64]) {
    let bound = if path == LinearPath::Bf16(MatrixUnit::Emulated) { 1e-12 } else { 1e-9 };
    let diff = calc_diff(actual, expected);
    assert!(diff < bound, "{name}: calc_diff {diff:e}");
}

/// Sizes around those of tiles, planes, steps and vectors, odd ones and none.
#[test]
fn dense_products_and_gradients_of_every_shape() {
    let client = client();
    let path = path(&client);
    for (rows, inputs, outputs) in [
        (0, 3, 5),
        (3, 0, 5),
        (3, 5, 0),
        (1, 1, 1),
        (2, 31, 33),
        (65, 17, 63),
        (64, 64, 32),
        (68, 132, 36),
        (130, 70, 9),
        (33, 36, 100),
    ] {
        let name = format!("{rows} {inputs} {outputs}");
        let shape = LinearShape { rows, inputs, outputs };
        let (x, w) = (random(1, rows * inputs), random(2, outputs * inputs));
        let dy = random(3, rows * outputs);
        let [on_x, on_w, on_dy] = [&x, &w, &dy].map(|values| upload(&client, values));
        let [x, w, dy] = [&x, &w, &dy].map(|values| rounded(values));
        let y = linear(&client, &on_x, &on_w, &shape, path).unwrap();
        let expected = reference::linear(&x, &w, &shape);
        assert_near(&name, path, &download(&client, &y, rows * outputs), &expected);
        let dx = linear_input_gradient(&client, &on_dy, &on_w, &shape, path).unwrap();
        let expected = reference::linear_input_gradient(&dy, &w, &shape);
        assert_near(&name, path, &download(&client, &dx, rows * inputs), &expected);
        let dw = linear_weight_gradient(&client, &on_dy, &on_x, &shape, path).unwrap();
        let expected = reference::linear_weight_gradient(&dy, &x, &shape);
        assert_near(&name, path, &download(&client, &dw, outputs * inputs), &expected);
    }
}

/// Ties, the largest numbers, infinities and NaN become what the host makes of them.
#[test]
fn numbers_are_rounded_as_on_the_host() {
    let client = client();
    let tie = 1.0 / 256.0;
    let x = [
        1.0 + tie,
        1.0 + 3.0 * tie,
        -1.0 - tie,
        f32::from_bits((1.0f32 + tie).to_bits() + 1),
        f32::from_bits((1.0f32 + tie).to_bits() - 1),
        0.0,
        -0.0,
        f32::MAX,
        f32::MIN_POSITIVE,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::from_bits(0x7F80_0001),
    ];
    let shape = LinearShape { rows: x.len(), inputs: 1, outputs: 1 };
    let y = linear(&client, &upload(&client, &x), &upload(&client, &[1.0]), &shape, path(&client));
    let y = download(&client, &y.unwrap(), x.len());
    for (x, y) in x.into_iter().zip(y) {
        let expected = bf16::from_f32(x).to_f32();
        assert!(y == expected || (y.is_nan() && expected.is_nan()), "{x:e}: {y:e}, {expected:e}");
    }
}

/// What is no number stays in its row, its column, its group.
#[test]
fn nan_stays_where_it_belongs() {
    let client = client();
    let path = path(&client);
    let shape = LinearShape { rows: 70, inputs: 33, outputs: 40 };
    let (mut x, w) = (random(1, 70 * 33), random(2, 40 * 33));
    x[66 * 33 + 5] = f32::NAN;
    let (on_x, on_w) = (upload(&client, &x), upload(&client, &w));
    let y = linear(&client, &on_x, &on_w, &shape, path).unwrap();
    for (place, y) in download(&client, &y, 70 * 40).iter().enumerate() {
        assert_eq!(y.is_nan(), place / 40 == 66, "row {} of y", place / 40);
    }
    let dy = upload(&client, &random(3, 70 * 40));
    let dw = linear_weight_gradient(&client, &dy, &on_x, &shape, path).unwrap();
    for (place, dw) in download(&client, &dw, 40 * 33).iter().enumerate() {
        assert_eq!(dw.is_nan(), place % 33 == 5, "column {} of dw", place % 33);
    }
    // Three experts whose rows meet within a tile, and within a step of the depth.
    let offsets = [0, 20, 66, 70];
    let groups = DeviceGroups::new(&client, &offsets, 70).unwrap();
    let shape = GroupedLinearShape { rows: 70, experts: 3, inputs: 33, outputs: 40 };
    let w = upload(&client, &random(4, 3 * 40 * 33));
    let y = grouped_linear(&client, &on_x, &w, &groups, &shape, path).unwrap();
    for (place, y) in download(&client, &y, 70 * 40).iter().enumerate() {
        assert_eq!(y.is_nan(), place / 40 == 66, "row {} of the experts' y", place / 40);
    }
    let dw = grouped_linear_weight_gradient(&client, &dy, &on_x, &groups, &shape, path).unwrap();
    for (place, dw) in download(&client, &dw, 3 * 40 * 33).iter().enumerate() {
        let nan = place / (40 * 33) == 2 && place % 33 == 5;
        assert_eq!(dw.is_nan(), nan, "expert {}, column {}", place / (40 * 33), place % 33);
    }
}

/// Ragged and empty experts, one alone, none with a row; of groups that the host knows and others.
#[test]
fn products_and_gradients_of_every_routing() {
    let client = client();
    let path = path(&client);
    for offsets in [&[0, 0][..], &[0, 70], &[0, 0, 1, 1, 34, 34], &[0, 70, 73, 73, 140], &[0, 0, 0]]
    {
        for (inputs, outputs) in [(1, 1), (17, 33), (36, 68), (0, 3), (3, 0)] {
            let (rows, experts) = (offsets[offsets.len() - 1], offsets.len() - 1);
            let shape = GroupedLinearShape { rows, experts, inputs, outputs };
            let (x, w, dy) = (
                random(1, rows * inputs),
                random(2, experts * outputs * inputs),
                random(3, rows * outputs),
            );
            let [x64, w64, dy64] = [&x, &w, &dy].map(|x| rounded(x));
            let (y64, dx64, dw64) = reference::grouped_linear(&x64, &w64, &dy64, offsets, &shape);
            let [x, w, dy] = [&x, &w, &dy].map(|x| upload(&client, x));
            let layout = GroupedColumns::new("test", offsets, rows).unwrap();
            let table: Vec<u32> = [offsets, &layout.words, &layout.tiles]
                .into_iter()
                .flatten()
                .map(|&x| x as u32)
                .collect();
            let [known, counted] = [
                DeviceGroups::new(&client, offsets, rows).unwrap(),
                DeviceGroups::of_table(upload_words(&client, &table), experts, rows).unwrap(),
            ]
            .map(|groups| {
                let y = grouped_linear(&client, &x, &w, &groups, &shape, path);
                let dx = grouped_linear_input_gradient(&client, &dy, &w, &groups, &shape, path);
                let dw = grouped_linear_weight_gradient(&client, &dy, &x, &groups, &shape, path);
                [(y, rows * outputs), (dx, rows * inputs), (dw, experts * outputs * inputs)]
                    .map(|(x, count)| download(&client, &x.unwrap(), count))
            });
            let name = format!("{offsets:?} {inputs} {outputs}");
            assert!(known == counted, "{name}");
            for (actual, expected) in known.iter().zip([&y64, &dx64, &dw64]) {
                assert_near(&name, path, actual, expected);
            }
        }
    }
}

/// The head against the host's in BF16, rows among them that are not counted. (Chunks of rows are
/// those of FP32, and a product added to another is tested by itself.)
#[test]
fn losses_and_gradients_are_those_of_the_host() {
    let client = client();
    let path = path(&client);
    for (rows, inputs, vocab, skip) in
        [(0, 3, 5, 2), (1, 1, 1, 9), (7, 5, 70, 3), (40, 36, 300, 1), (70, 20, 132, 7)]
    {
        let name = format!("{rows} {inputs} {vocab} {skip}");
        let shape = LinearShape { rows, inputs, outputs: vocab };
        let [x, w] = [(1, rows), (2, vocab)].map(|(seed, lines)| {
            random(seed, lines * inputs).iter().map(|x| 3.0 * x).collect::<Vec<f32>>()
        });
        let targets: Vec<i64> = (0..rows)
            .map(|r| if r % skip == skip - 1 { -100 } else { (r * r * 7 % vocab) as i64 })
            .collect();
        let words: Vec<u32> = targets.iter().map(|&t| t as i32 as u32).collect();
        let counted = targets.iter().filter(|&&t| t >= 0).count().max(1) as f32;
        let weights = vec![1.0 / counted; rows];
        let expected = host::linear_cross_entropy_with_gradients(
            &x,
            &w,
            &targets,
            Some(&weights),
            &shape,
            ProductFormat::Bf16,
        )
        .unwrap();
        let (on_x, on_w) = (upload(&client, &x), upload(&client, &w));
        let targets = upload_words(&client, &words);
        let alone = linear_cross_entropy(&client, &on_x, &on_w, &targets, &shape, path).unwrap();
        let head =
            linear_cross_entropy_with_gradients(&client, &on_x, &on_w, &targets, &shape, path)
                .unwrap();
        let loss = download(&client, &head.loss, 1)[0];
        assert_eq!(download(&client, &alone, 1)[0], loss, "{name}: with gradients the same loss");
        let diff = (f64::from(loss) - expected.loss.loss).abs();
        assert!(diff <= 1e-5 * expected.loss.loss.abs(), "{name}: {loss} {}", expected.loss.loss);
        // A gradient of a logit that lies near a tie of BF16 may be rounded the other way.
        for (what, actual, expected) in [
            ("dx", download(&client, &head.dx, x.len()), &expected.dx),
            ("dw", download(&client, &head.dw, w.len()), &expected.dw),
        ] {
            let diff = calc_diff(&actual, expected);
            assert!(diff < 1e-8, "{name} {what}: calc_diff {diff:e}");
        }
    }
}
