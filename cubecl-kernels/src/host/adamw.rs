//! AdamW in one pass, with moments in F32 or BF16, and the sum of squares that clipping needs.

use half::bf16;

use super::parallel::{chunk, for_each_of, map};
use super::simd::{LANES, Simd, bf16_bits, madd, multiversion};
use crate::definition::{AdamWConfig, KernelError, check_length};

/// Elements that one task updates or sums.
const ELEMENTS_A_TASK: usize = 1 << 15;

/// A number that AdamW can keep its moments in: `f32`, or `bf16` for half the memory.
pub trait Moment: sealed::Moment + Copy + Send + Sync {}

impl Moment for f32 {}
impl Moment for bf16 {}

/// Takes one AdamW step in place: `g = gradient_scale gradient`, `p -= lr weight_decay p`,
/// `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
/// `p -= lr / (1 - beta1^step) m / (sqrt(v / (1 - beta2^step)) + eps)`.
///
/// The order and the bias corrections are PyTorch's. All of it is computed in F32; moments in BF16
/// are widened when read and rounded to nearest, ties to even, when stored, and the parameter sees
/// them before that rounding.
///
/// # Shapes
/// - all four of the same length
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Invalid`] where `step` is 0.
///
/// Source: Loshchilov and Hutter, 2019 (arXiv 1711.05101); technical report 4.2, and 3.3.3 for
/// moments in BF16.
pub fn adamw<M: Moment>(
    param: &mut [f32],
    gradient: &[f32],
    m: &mut [M],
    v: &mut [M],
    config: &AdamWConfig,
) -> Result<(), KernelError> {
    let len = param.len();
    check_length("adamw", "gradient", gradient.len(), &[len])?;
    check_length("adamw", "m", m.len(), &[len])?;
    check_length("adamw", "v", v.len(), &[len])?;
    if config.step == 0 {
        return Err(KernelError::Invalid {
            op: "adamw",
            argument: "config.step",
            requirement: "must count from 1",
        });
    }
    let factors = Factors::new(config);
    let (params, gradients) = (param.chunks_mut(ELEMENTS_A_TASK), gradient.chunks(ELEMENTS_A_TASK));
    let moments = m.chunks_mut(ELEMENTS_A_TASK).zip(v.chunks_mut(ELEMENTS_A_TASK));
    let parts = params.zip(gradients).zip(moments).collect();
    for_each_of(parts, len.saturating_mul(8), |((param, gradient), (m, v))| {
        M::update(param, gradient, m, v, &factors)
    });
    Ok(())
}

mod sealed {
    use super::Factors;

    /// How a number that moments are kept in is read and stored.
    pub trait Moment: Sized {
        /// Widens to F32, which loses nothing.
        fn widen(self) -> f32;
        /// Rounds to nearest, ties to even.
        fn round(x: f32) -> Self;
        /// One step of a run of elements.
        fn update(param: &mut [f32], gradient: &[f32], m: &mut [Self], v: &mut [Self], f: &Factors);
    }
}

impl sealed::Moment for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn round(x: f32) -> f32 {
        x
    }

    fn update(param: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], f: &Factors) {
        update_f32(param, gradient, m, v, f);
    }
}

impl sealed::Moment for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn round(x: f32) -> bf16 {
        bf16::from_bits(bf16_bits(x) as u16)
    }

    fn update(param: &mut [f32], gradient: &[f32], m: &mut [bf16], v: &mut [bf16], f: &Factors) {
        update_bf16(param, gradient, m, v, f);
    }
}

/// What a step multiplies by, worked out in f64.
#[derive(Debug)]
pub struct Factors {
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
        let (beta1, beta2, lr) =
            (f64::from(config.beta1), f64::from(config.beta2), f64::from(config.lr));
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

#[inline(always)]
fn update<S: Simd, M: sealed::Moment + Copy>(
    param: &mut [f32],
    gradient: &[f32],
    m: &mut [M],
    v: &mut [M],
    f: &Factors,
) {
    for (((p, &g), m), v) in param.iter_mut().zip(gradient).zip(m).zip(v) {
        let g = g * f.scale;
        let first = madd::<S>(f.rest1, g, f.beta1 * m.widen());
        let second = madd::<S>(f.rest2, g * g, f.beta2 * v.widen());
        *p = *p * f.keep - f.step_size * first / madd::<S>(second.sqrt(), f.root, f.eps);
        (*m, *v) = (M::round(first), M::round(second));
    }
}

multiversion! {
    fn update_f32(param: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], f: &Factors) {
        update::<S, f32>(param, gradient, m, v, f);
    }
}

multiversion! {
    fn update_bf16(
        param: &mut [f32],
        gradient: &[f32],
        m: &mut [bf16],
        v: &mut [bf16],
        f: &Factors,
    ) {
        update::<S, bf16>(param, gradient, m, v, f);
    }
}

/// Sums squares in f64, `sum(x^2)`, the parts in a fixed order.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    map(x.len().div_ceil(ELEMENTS_A_TASK), x.len(), |task| {
        squares(&x[chunk(task, ELEMENTS_A_TASK, x.len())])
    })
    .into_iter()
    .sum()
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
#[path = "adamw_tests.rs"]
mod tests;
