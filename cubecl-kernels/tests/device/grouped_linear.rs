//! The experts' linears in FP32 against exact ones, of groups that the host knows and of others.

use crate::client::{client, download, upload, upload_words};
use crate::oracle::random;
use cubecl_kernels::KernelError;
use cubecl_kernels::definition::{GroupedColumns, GroupedLinearShape};
use cubecl_kernels::device::DeviceGroups;
use cubecl_kernels::grouped_linear::{
    grouped_linear, grouped_linear_input_gradient, grouped_linear_weight_gradient,
};
use cubecl_kernels::matrix_product::LinearPath;
use cubecl_kernels::metric::calc_diff;
use cubecl_kernels::reference;

#[test]
fn products_and_gradients_of_every_routing() {
    let client = client();
    for offsets in [
        &[0, 0][..],
        &[0, 70],
        &[0, 0, 1, 1, 34, 34],
        &[0, 130, 133, 133, 200],
        &[0, 9, 18, 27, 36, 45],
        &[0, 0, 0],
    ] {
        for (inputs, outputs) in [(1, 1), (17, 33), (70, 5), (130, 64), (0, 3), (3, 0)] {
            let (rows, experts) = (offsets[offsets.len() - 1], offsets.len() - 1);
            let shape = GroupedLinearShape { rows, experts, inputs, outputs };
            let (x, w, dy) = (
                random(1, rows * inputs),
                random(2, experts * outputs * inputs),
                random(3, rows * outputs),
            );
            let [x64, w64, dy64] =
                [&x, &w, &dy].map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
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
                let y = grouped_linear(&client, &x, &w, &groups, &shape, LinearPath::F32).unwrap();
                let dx = grouped_linear_input_gradient(
                    &client,
                    &dy,
                    &w,
                    &groups,
                    &shape,
                    LinearPath::F32,
                )
                .unwrap();
                let dw = grouped_linear_weight_gradient(
                    &client,
                    &dy,
                    &x,
                    &groups,
                    &shape,
                    LinearPath::F32,
                )
                .unwrap();
                [(y, rows * outputs), (dx, rows * inputs), (dw, experts * outputs * inputs)]
                    .map(|(x, count)| download(&client, &x, count))
            });
            let name = format!("{offsets:?} {inputs} {outputs}");
            assert!(known == counted, "{name}");
            for (actual, expected) in known.iter().zip([&y64, &dx64, &dw64]) {
                let diff = calc_diff(actual, expected);
                assert!(diff < 1e-12, "{name}: calc_diff {diff:e}");
            }
        }
    }
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let x = upload(&client, &[0.0; 12]);
    let groups = DeviceGroups::new(&client, &[0, 1, 3], 3).unwrap();
    let shape = GroupedLinearShape { rows: 3, experts: 2, inputs: 2, outputs: 3 };
    let run = |shape: &GroupedLinearShape| {
        grouped_linear(&client, &x, &x, &groups, shape, LinearPath::F32).map(drop)
    };
    assert!(run(&shape).is_ok());
    for (argument, wrong) in [
        ("groups", GroupedLinearShape { rows: 2, ..shape }),
        ("groups", GroupedLinearShape { experts: 1, ..shape }),
        ("w", GroupedLinearShape { outputs: 4, ..shape }),
        ("x", GroupedLinearShape { inputs: 5, outputs: 1, ..shape }),
    ] {
        match run(&wrong) {
            Err(
                KernelError::Length { argument: named, .. }
                | KernelError::Invalid { argument: named, .. },
            ) => assert_eq!(named, argument),
            other => panic!("{argument}: {other:?}"),
        }
    }
}
