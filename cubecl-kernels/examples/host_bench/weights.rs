//! The optimizer, the average of the weights, and the norm that clipping needs.

use cubecl_kernels::definition::AdamWConfig;
use cubecl_kernels::host;
use half::bf16;

use crate::case::random;
use crate::{Work, bench, composed};

pub fn optimizer() {
    let len = 4 << 20;
    let gradient = random(2, len);
    let config = AdamWConfig {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 10,
        gradient_scale: 0.5,
    };
    let (mut p, mut m, mut v) = (random(1, len), vec![0.0; len], vec![0.0; len]);
    let mut other = (p.clone(), m.clone(), v.clone());
    bench(
        "adamw 4M",
        Work::Byte(28 * len),
        || host::adamw(&mut p, &gradient, &mut m, &mut v, &config).unwrap(),
        || composed::adamw(&mut other, &gradient, &config),
    );
    let (mut q, mut first, mut second) =
        (random(1, len), vec![bf16::ZERO; len], vec![bf16::ZERO; len]);
    // Beside the same with moments in F32: what half the memory of the moments buys.
    bench(
        "adamw 4M, moments in BF16 | in F32",
        Work::Byte(20 * len),
        || host::adamw(&mut q, &gradient, &mut first, &mut second, &config).unwrap(),
        || host::adamw(&mut p, &gradient, &mut m, &mut v, &config).unwrap(),
    );
    bench(
        "average_into 4M",
        Work::Byte(12 * len),
        || host::average_into(&mut q, &gradient, 1e-3).unwrap(),
        || composed::average_into(&mut p, &gradient, 1e-3),
    );
    bench(
        "sum_of_squares 4M",
        Work::Byte(4 * len),
        || host::sum_of_squares(&gradient),
        || gradient.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>(),
    );
}
