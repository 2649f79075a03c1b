//! AdamW and sums of squares against the host's.

use crate::client::{client, download, upload, words};
use crate::oracle::{assert_near, random, widen};
use cubecl_kernels::KernelError;
use cubecl_kernels::adamw::{adamw, sum_of_squares};
use cubecl_kernels::definition::AdamWConfig;
use cubecl_kernels::device::Element;
use cubecl_kernels::host;

fn config(step: u64) -> AdamWConfig {
    AdamWConfig {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step,
        gradient_scale: 0.3,
    }
}

#[test]
fn three_steps_are_the_host_s() {
    let client = client();
    for count in [0, 1, 255, 1000] {
        let mut param = random(1, count);
        let (mut first, mut second) = (vec![0.0f32; count], vec![0.0f32; count]);
        let [on_param, on_first, on_second] =
            [&param, &first, &second].map(|values| upload(&client, values));
        for step in 1..=3 {
            // Entries whose gradient is zero move by their decay alone.
            let gradient: Vec<f32> = random(9 + step, count)
                .iter()
                .map(|x| if x.abs() < 0.1 { 0.0 } else { *x })
                .collect();
            let on_gradient = upload(&client, &gradient);
            let f = Element::F32;
            let config = config(step);
            adamw(&client, &on_param, &on_gradient, &on_first, &on_second, f, count, &config)
                .unwrap();
            host::adamw(&mut param, &gradient, &mut first, &mut second, &config).unwrap();
        }
        for (name, on, host) in
            [("p", &on_param, &param), ("m", &on_first, &first), ("v", &on_second, &second)]
        {
            assert_near(&format!("{count} {name}"), &download(&client, on, count), &widen(host));
        }
    }
}

#[test]
fn sums_of_squares_are_fp64_numbers() {
    let client = client();
    let sum = |x: &[f32]| {
        let sum =
            words(&client, &sum_of_squares(&client, &upload(&client, x), x.len()).unwrap(), 2);
        f64::from_bits(u64::from(sum[0]) | u64::from(sum[1]) << 32)
    };
    assert_eq!(sum(&[]), 0.0);
    assert_eq!(sum(&[3.0, -4.0]), 25.0);
    assert_eq!(sum(&[1e-30]), 0.0, "what FP32 cannot hold");
    assert_eq!(sum(&[1e30]), f64::INFINITY);
    assert!(sum(&[1.0, f32::NAN]).is_nan());
    for count in [33, 100_000] {
        let x = random(7, count);
        let (actual, expected) = (sum(&x), host::sum_of_squares(&x));
        assert!((actual / expected - 1.0).abs() < 1e-6, "{actual} against {expected}");
        assert_eq!(sum(&x), actual, "the same bits twice");
    }
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let x = upload(&client, &[0.0; 4]);
    let run = |count, config: AdamWConfig| {
        adamw(&client, &x, &x, &x, &x, Element::F32, count, &config).unwrap_err()
    };
    let error = run(5, config(1));
    assert!(matches!(error, KernelError::Length { argument: "param", .. }), "{error}");
    let error = run(4, config(0));
    assert!(matches!(error, KernelError::Invalid { argument: "config.step", .. }), "{error}");
}
