//! RMSNorm, alone and with the residual sum before it, and its gradient.

use std::mem::MaybeUninit;

use super::output::{Parts, build, build_two};
use super::parallel::{chunk, for_each};
use super::simd::{dot, madd, multiversion};
use crate::definition::{KernelError, check_length};

/// Rows that one task computes; the partial sums of `dgamma` are cut by it.
const ROWS_A_TASK: usize = 64;
/// What an element counts for, in scalar operations.
const WORK: usize = 4;

/// What [`rms_norm`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct RmsNorm {
    /// The normalised rows, `[rows, width]`.
    pub y: Vec<f32>,
    /// The factor `1 / rms` of each row, `[rows]`, which backward needs.
    pub rstd: Vec<f32>,
}

/// Normalises rows by their root mean square, `y = x rstd gamma` with
/// `rstd = (mean(x^2) + eps)^(-1/2)`.
///
/// # Shapes
/// - `x [rows, width]`, `gamma [width]` -> [`RmsNorm`]
///
/// # Errors
/// [`KernelError::Length`] naming `x` or `gamma`.
///
/// Source: Zhang and Sennrich, 2019 (arXiv 1910.07467).
pub fn rms_norm(
    x: &[f32],
    gamma: &[f32],
    eps: f32,
    rows: usize,
    width: usize,
) -> Result<RmsNorm, KernelError> {
    check_length("rms_norm", "x", x.len(), &[rows, width])?;
    check_length("rms_norm", "gamma", gamma.len(), &[width])?;
    // SAFETY: the tasks cover all rows, and each writes all of its rows.
    let (y, rstd) = unsafe {
        build_two([x.len(), rows], |y, rstd| {
            let (y, rstd) = (Parts::new(y), Parts::new(rstd));
            for_each(rows.div_ceil(ROWS_A_TASK), x.len() * WORK, |task| {
                let rows = chunk(task, ROWS_A_TASK, rows);
                let elements = rows.start * width..rows.end * width;
                let y = y.part(elements.start, elements.len());
                normalise(&x[elements], gamma, eps, width, y, rstd.part(rows.start, rows.len()));
            });
        })
    };
    Ok(RmsNorm { y, rstd })
}

/// Computes the sum `x + residual` and its [`rms_norm`] in one pass.
///
/// # Shapes
/// - `x` and `residual [rows, width]`, `gamma [width]` -> sum `[rows, width]`, [`RmsNorm`]
///
/// # Errors
/// [`KernelError::Length`] naming the argument.
pub fn add_rms_norm(
    x: &[f32],
    residual: &[f32],
    gamma: &[f32],
    eps: f32,
    rows: usize,
    width: usize,
) -> Result<(Vec<f32>, RmsNorm), KernelError> {
    check_length("add_rms_norm", "x", x.len(), &[rows, width])?;
    check_length("add_rms_norm", "residual", residual.len(), &[rows, width])?;
    check_length("add_rms_norm", "gamma", gamma.len(), &[width])?;
    let mut rstd = Vec::new();
    // SAFETY: as in `rms_norm`.
    let (sum, y) = unsafe {
        build_two([x.len(), x.len()], |sum, y| {
            rstd = build(rows, |rstd| {
                let (sum, y, rstd) = (Parts::new(sum), Parts::new(y), Parts::new(rstd));
                for_each(rows.div_ceil(ROWS_A_TASK), x.len() * WORK, |task| {
                    let rows = chunk(task, ROWS_A_TASK, rows);
                    let (start, len) = (rows.start * width, rows.len() * width);
                    let sum = sum.part(start, len);
                    for ((sum, &x), &r) in sum.iter_mut().zip(&x[start..]).zip(&residual[start..]) {
                        sum.write(x + r);
                    }
                    let sum = sum.assume_init_ref();
                    normalise(
                        sum,
                        gamma,
                        eps,
                        width,
                        y.part(start, len),
                        rstd.part(rows.start, rows.len()),
                    );
                });
            });
        })
    };
    Ok((sum, RmsNorm { y, rstd }))
}

/// Computes the gradients of [`rms_norm`]: `dx = rstd (dy gamma - x rstd^2 mean(dy gamma x))`,
/// `dgamma = sum_rows dy x rstd`.
///
/// # Shapes
/// - `x` and `dy [rows, width]`, `gamma [width]`, `rstd [rows]` -> `dx [rows, width]`,
///   `dgamma [width]`
///
/// # Errors
/// [`KernelError::Length`] naming the argument.
pub fn rms_norm_backward(
    x: &[f32],
    gamma: &[f32],
    rstd: &[f32],
    dy: &[f32],
    rows: usize,
    width: usize,
) -> Result<(Vec<f32>, Vec<f32>), KernelError> {
    check_length("rms_norm_backward", "x", x.len(), &[rows, width])?;
    check_length("rms_norm_backward", "gamma", gamma.len(), &[width])?;
    check_length("rms_norm_backward", "rstd", rstd.len(), &[rows])?;
    check_length("rms_norm_backward", "dy", dy.len(), &[rows, width])?;
    let tasks = rows.div_ceil(ROWS_A_TASK);
    let mut partial = vec![0.0; tasks * width];
    // SAFETY: as in `rms_norm`; a task's partial sums are its own, and initialised.
    let dx = unsafe {
        build(x.len(), |dx| {
            let (dx, partial) =
                (Parts::new(dx), Parts::new(super::output::as_uninit(&mut partial)));
            for_each(tasks, x.len() * WORK * 2, |task| {
                let rows = chunk(task, ROWS_A_TASK, rows);
                let elements = rows.start * width..rows.end * width;
                let out = dx.part(elements.start, elements.len());
                let dgamma = partial.written(task * width, width);
                backward(
                    &x[elements.clone()],
                    gamma,
                    &rstd[rows],
                    &dy[elements],
                    width,
                    out,
                    dgamma,
                );
            });
        })
    };
    let mut dgamma = vec![0.0; width];
    for part in partial.chunks_exact(width.max(1)) {
        dgamma.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    Ok((dx, dgamma))
}

multiversion! {
    fn normalise(
        x: &[f32],
        gamma: &[f32],
        eps: f32,
        width: usize,
        y: &mut [MaybeUninit<f32>],
        rstd: &mut [MaybeUninit<f32>],
    ) {
        for (r, rstd) in rstd.iter_mut().enumerate() {
            let x = &x[r * width..][..width];
            let factor = 1.0 / (dot::<S>(x, x) / width.max(1) as f32 + eps).sqrt();
            rstd.write(factor);
            for ((y, &x), &g) in y[r * width..][..width].iter_mut().zip(x).zip(gamma) {
                y.write(x * factor * g);
            }
        }
    }
}

multiversion! {
    fn backward(
        x: &[f32],
        gamma: &[f32],
        rstd: &[f32],
        dy: &[f32],
        width: usize,
        dx: &mut [MaybeUninit<f32>],
        dgamma: &mut [f32],
    ) {
        let mut scaled = vec![0.0; width];
        for (r, &rstd) in rstd.iter().enumerate() {
            let (x, dy) = (&x[r * width..][..width], &dy[r * width..][..width]);
            for (((scaled, dgamma), (&x, &dy)), &g) in
                scaled.iter_mut().zip(&mut *dgamma).zip(x.iter().zip(dy)).zip(gamma)
            {
                *scaled = dy * g;
                *dgamma = madd::<S>(dy * rstd, x, *dgamma);
            }
            let mean = dot::<S>(&scaled, x) / width.max(1) as f32;
            let pull = -mean * rstd * rstd * rstd;
            for ((dx, &scaled), &x) in dx[r * width..][..width].iter_mut().zip(&scaled).zip(x) {
                dx.write(madd::<S>(pull, x, scaled * rstd));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::test_inputs::{
        assert_close, assert_close_of_terms, assert_gradient, assert_thread_independent, inner,
        random, widen,
    };

    const EPS: f32 = 1e-6;

    fn check(rows: usize, width: usize, size: f32) {
        let x: Vec<f32> = random(1, rows * width).iter().map(|x| x * size).collect();
        let (gamma, dy, residual) =
            (random(2, width), random(3, rows * width), random(4, rows * width));
        let (x64, gamma64) = (widen(&x), widen(&gamma));
        let (y64, rstd64) = reference::rms_norm(&x64, &gamma64, EPS.into(), rows, width);
        let RmsNorm { y, rstd } = rms_norm(&x, &gamma, EPS, rows, width).unwrap();
        assert_close("y", &y, &y64, 2e-6);
        assert_close("rstd", &rstd, &rstd64, 2e-6);
        let (dx64, dgamma64) =
            reference::rms_norm_backward(&x64, &gamma64, &widen(&dy), EPS.into(), rows, width);
        let (dx, dgamma) = rms_norm_backward(&x, &gamma, &rstd, &dy, rows, width).unwrap();
        // In a row of one entry the two terms of dx cancel but for eps.
        let scaled = |i: usize| f64::from(dy[i]) * gamma64[i % width] * rstd64[i / width];
        let terms = (0..dy.len()).fold(0f64, |max, i| max.max(scaled(i).abs()));
        assert_close_of_terms("dx", &dx, &dx64, 1e-5, terms);
        assert_close("dgamma", &dgamma, &dgamma64, 1e-5);
        let (sum, fused) = add_rms_norm(&x, &residual, &gamma, EPS, rows, width).unwrap();
        let plain: Vec<f32> = x.iter().zip(&residual).map(|(x, r)| x + r).collect();
        assert_eq!(sum, plain);
        assert_eq!(fused, rms_norm(&plain, &gamma, EPS, rows, width).unwrap());
    }

    #[test]
    fn hard_edges() {
        for (rows, width) in [(0, 4), (4, 0), (1, 1), (3, 7), (64, 16), (65, 33), (200, 130)] {
            for size in [1.0, 1e4] {
                check(rows, width, size);
            }
        }
        // A row of zeros: eps alone keeps it finite.
        let zero = rms_norm(&[0.0; 4], &[1.0; 4], EPS, 1, 4).unwrap();
        assert_eq!(zero.y, [0.0; 4]);
        assert!((zero.rstd[0] - 1000.0).abs() < 0.01);
    }

    proptest::proptest! {
        #[test]
        fn random_shapes(rows in 0usize..140, width in 1usize..70) {
            check(rows, width, 1.0);
        }
    }

    #[test]
    fn the_reference_gradients_are_slopes() {
        let (x, gamma, dy) = (widen(&random(1, 15)), widen(&random(2, 5)), widen(&random(3, 15)));
        let (dx, dgamma) = reference::rms_norm_backward(&x, &gamma, &dy, 1e-2, 3, 5);
        assert_gradient("dx", &x, &dx, |x| {
            inner(&reference::rms_norm(x, &gamma, 1e-2, 3, 5).0, &dy)
        });
        assert_gradient("dgamma", &gamma, &dgamma, |g| {
            inner(&reference::rms_norm(&x, g, 1e-2, 3, 5).0, &dy)
        });
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (x, gamma, dy) = (random(1, 2000 * 256), random(2, 256), random(3, 2000 * 256));
        assert_thread_independent("rms_norm", || {
            let f = rms_norm(&x, &gamma, EPS, 2000, 256).unwrap();
            let (dx, dgamma) = rms_norm_backward(&x, &gamma, &f.rstd, &dy, 2000, 256).unwrap();
            vec![f.y, f.rstd, dx, dgamma]
        });
    }

    #[test]
    fn a_wrong_length_names_the_argument() {
        let error = rms_norm(&[0.0; 4], &[0.0; 3], EPS, 2, 2).unwrap_err();
        assert!(matches!(error, KernelError::Length { argument: "gamma", .. }));
    }
}
