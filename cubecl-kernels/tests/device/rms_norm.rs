//! RMSNorm against the host's.

use crate::client::{client, download, upload};
use crate::oracle::{assert_near, random, widen};
use cubecl_kernels::KernelError;
use cubecl_kernels::host;
use cubecl_kernels::rms_norm::{rms_norm, rms_norm_backward};

const EPS: f32 = 1e-6;

#[test]
fn values_and_gradients_of_every_shape() {
    let client = client();
    for (rows, width) in [(0, 5), (1, 1), (3, 64), (65, 33), (200, 256), (2, 0)] {
        let name = format!("{rows} {width}");
        let (mut x, dy) = (random(1, rows * width), random(2, rows * width));
        let gamma = random(3, width);
        // A row of zeros, whose norm is eps alone.
        x.iter_mut().take(width).for_each(|x| *x = 0.0);
        let [on_x, on_dy, on_gamma] = [&x, &dy, &gamma].map(|values| upload(&client, values));
        let run = || {
            let norm = rms_norm(&client, &on_x, &on_gamma, EPS, rows, width).unwrap();
            let (dx, dgamma) =
                rms_norm_backward(&client, &on_x, &on_gamma, &norm.rstd, &on_dy, rows, width)
                    .unwrap();
            [
                download(&client, &norm.y, rows * width),
                download(&client, &norm.rstd, rows),
                download(&client, &dx, rows * width),
                download(&client, &dgamma, width),
            ]
        };
        let actual = run();
        if width > 0 {
            let norm = host::rms_norm(&x, &gamma, EPS, rows, width).unwrap();
            let (dx, dgamma) =
                host::rms_norm_backward(&x, &gamma, &norm.rstd, &dy, rows, width).unwrap();
            for ((what, actual), expected) in ["y", "rstd", "dx", "dgamma"]
                .iter()
                .zip(&actual)
                .zip([norm.y, norm.rstd, dx, dgamma])
            {
                assert_near(&format!("{name} {what}"), actual, &widen(&expected));
            }
        }
        let bits =
            |x: [Vec<f32>; 4]| x.map(|x| x.into_iter().map(f32::to_bits).collect::<Vec<_>>());
        assert_eq!(bits(run()), bits(actual), "{name}: the same bits twice");
    }
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let x = upload(&client, &[0.0; 6]);
    let error = rms_norm(&client, &x, &x, EPS, 3, 3).map(drop).unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "x", expected: 9, .. }), "{error}");
    let error = rms_norm(&client, &x, &x, EPS, 0, 7).map(drop).unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "gamma", .. }), "{error}");
    let error = rms_norm_backward(&client, &x, &x, &x, &upload(&client, &[0.0; 5]), 2, 3);
    assert!(matches!(error, Err(KernelError::Length { argument: "dy", .. })));
}
