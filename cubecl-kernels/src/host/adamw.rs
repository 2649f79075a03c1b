//! AdamW in one pass, and the sum of squares that clipping needs.

use super::output::{Parts, as_uninit};
use super::parallel::{chunk, for_each, map};
use super::simd::{LANES, madd, multiversion};
use crate::definition::{AdamWConfig, KernelError, check_length};

/// Elements that one task updates or sums.
const ELEMENTS_A_TASK: usize = 1 << 15;

/// One AdamW step in place: `g = gradient_scale gradient`, `p -= lr weight_decay p`, `m = beta1 m + (1 - beta1) g`,
/// `v = beta2 v + (1 - beta2) g^2`, `p -= lr / (1 - beta1^step) m / (sqrt(v / (1 - beta2^step)) + eps)`.
///
/// The order and the bias corrections are PyTorch's.
///
/// # Shapes
/// - all four of the same length
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Invalid`] where `step` is 0.
///
/// Source: Loshchilov and Hutter, 2019 (arXiv 1711.05101); technical report 4.2.
pub fn adamw(param: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], config: &AdamWConfig) -> Result<(), KernelError> {
    let len = param.len();
    check_length("adamw", "gradient", gradient.len(), &[len])?;
    check_length("adamw", "m", m.len(), &[len])?;
    check_length("adamw", "v", v.len(), &[len])?;
    if config.step == 0 {
        return Err(KernelError::Invalid { op: "adamw", argument: "config.step", requirement: "must count from 1" });
    }
    let factors = Factors::new(config);
    let (param, m, v) = (Parts::new(as_uninit(param)), Parts::new(as_uninit(m)), Parts::new(as_uninit(v)));
    for_each(len.div_ceil(ELEMENTS_A_TASK), len.saturating_mul(8), |task| {
        let part = chunk(task, ELEMENTS_A_TASK, len);
        let (start, len) = (part.start, part.len());
        // SAFETY: tasks own different elements, and all three are initialised.
        let (param, m, v) = unsafe { (param.written(start, len), m.written(start, len), v.written(start, len)) };
        update(param, &gradient[part], m, v, &factors);
    });
    Ok(())
}

/// What a step multiplies by, worked out in f64.
struct Factors {
    scale: f32,
    keep: f32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    step_size: f32,
    /// `1 / sqrt(1 - beta2^step)`.
    root: f32,
    eps: f32,
}

impl Factors {
    fn new(config: &AdamWConfig) -> Self {
        let (beta1, beta2, lr) = (f64::from(config.beta1), f64::from(config.beta2), f64::from(config.lr));
        let step = config.step as f64;
        Self {
            scale: config.gradient_scale,
            keep: (1.0 - lr * f64::from(config.weight_decay)) as f32,
            beta1: config.beta1,
            beta2: config.beta2,
            rest1: (1.0 - beta1) as f32,
            rest2: (1.0 - beta2) as f32,
            step_size: (lr / (1.0 - beta1.powf(step))) as f32,
            root: (1.0 / (1.0 - beta2.powf(step)).sqrt()) as f32,
            eps: config.eps,
        }
    }
}

multiversion! {
    fn update(param: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], f: &Factors) {
        for (((p, &g), m), v) in param.iter_mut().zip(gradient).zip(m).zip(v) {
            let g = g * f.scale;
            *m = madd::<S>(f.rest1, g, f.beta1 * *m);
            *v = madd::<S>(f.rest2, g * g, f.beta2 * *v);
            *p = *p * f.keep - f.step_size * *m / madd::<S>(v.sqrt(), f.root, f.eps);
        }
    }
}

/// `sum(x^2)` in f64, the parts in a fixed order.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    map(x.len().div_ceil(ELEMENTS_A_TASK), x.len(), |task| squares(&x[chunk(task, ELEMENTS_A_TASK, x.len())])).into_iter().sum()
}

multiversion! {
    fn squares(x: &[f32]) -> f64 {
        let (chunks, tail) = x.as_chunks::<LANES>();
        let mut sums = [0.0f64; LANES];
        for chunk in chunks {
            for l in 0..LANES {
                let x = f64::from(chunk[l]);
                sums[l] += x * x;
            }
        }
        for (sum, &x) in sums.iter_mut().zip(tail) {
            *sum += f64::from(x) * f64::from(x);
        }
        let _ = S::FMA;
        sums.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::test_inputs::{assert_close, assert_thread_independent, random, widen};

    fn config(step: u64) -> AdamWConfig {
        AdamWConfig { lr: 2.2e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step, gradient_scale: 0.37 }
    }

    fn check(len: usize) {
        let (mut p, mut m, mut v) = (random(1, len), vec![0.0; len], vec![0.0; len]);
        let (mut p64, mut m64, mut v64) = (widen(&p), widen(&m), widen(&v));
        for step in 1..=5 {
            let g = random(10 + step, len);
            adamw(&mut p, &g, &mut m, &mut v, &config(step)).unwrap();
            reference::adamw(&mut p64, &widen(&g), &mut m64, &mut v64, &config(step));
        }
        assert_close("param", &p, &p64, 1e-5);
        assert_close("m", &m, &m64, 1e-5);
        assert_close("v", &v, &v64, 1e-5);
        let exact: f64 = widen(&p).iter().map(|x| x * x).sum();
        assert!((sum_of_squares(&p) - exact).abs() <= 1e-12 * exact);
    }

    #[test]
    fn hard_edges() {
        [0, 1, 15, 16, 17, 40_000].into_iter().for_each(check);
    }

    proptest::proptest! {
        #[test]
        fn random_lengths(len in 0usize..300) {
            check(len);
        }
    }

    #[test]
    fn the_first_step_is_the_sign_of_the_gradient() {
        let (mut p, mut m, mut v) = ([1.0, 1.0, 1.0], [0.0; 3], [0.0; 3]);
        let config = AdamWConfig { weight_decay: 0.0, lr: 0.1, gradient_scale: 1.0, ..config(1) };
        adamw(&mut p, &[3.0, -0.01, 0.0], &mut m, &mut v, &config).unwrap();
        for (p, expected) in p.iter().zip([0.9, 1.1, 1.0]) {
            assert!((p - expected).abs() < 1e-5, "{p}");
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (p, g) = (random(1, 300_001), random(2, 300_001));
        assert_thread_independent("adamw", || {
            let (mut p, mut m, mut v) = (p.clone(), vec![0.0; p.len()], vec![0.0; p.len()]);
            adamw(&mut p, &g, &mut m, &mut v, &config(1)).unwrap();
            let squares = sum_of_squares(&g).to_bits();
            vec![p, m, v, vec![f32::from_bits(squares as u32), f32::from_bits((squares >> 32) as u32)]]
        });
    }

    #[test]
    fn wrong_arguments_are_named() {
        let step = |len, step| adamw(&mut [0.0; 2], &[0.0; 2], &mut vec![0.0; len], &mut [0.0; 2], &config(step));
        assert!(matches!(step(1, 1), Err(KernelError::Length { argument: "m", .. })));
        assert!(matches!(step(2, 0), Err(KernelError::Invalid { .. })));
    }
}
