//! Sums of two arrays, on all threads: residuals.

use std::mem::MaybeUninit;

use super::output::{as_uninit, build, for_rows};
use super::simd::multiversion;
use crate::definition::{KernelError, check_length};

/// Elements that one task adds: 64 KiB of each array.
const A_TASK: usize = 1 << 14;

/// `x + y`.
///
/// # Errors
/// [`KernelError::Length`] naming `y`, which must be as long as `x`.
pub fn sum(x: &[f32], y: &[f32]) -> Result<Vec<f32>, KernelError> {
    check_length("sum", "y", y.len(), &[x.len()])?;
    // SAFETY: the tasks cover all elements, and each writes all of its own.
    Ok(unsafe {
        build(x.len(), |out| {
            for_rows(out, 1, A_TASK, x.len(), |part, out| {
                added(&x[part.clone()], &y[part], out);
            })
        })
    })
}

/// `x += y`.
///
/// # Errors
/// [`KernelError::Length`] naming `y`, which must be as long as `x`.
pub fn sum_into(x: &mut [f32], y: &[f32]) -> Result<(), KernelError> {
    check_length("sum_into", "y", y.len(), &[x.len()])?;
    let len = x.len();
    for_rows(as_uninit(x), 1, A_TASK, len, |part, x| {
        // SAFETY: all of it is initialised: it was given as numbers.
        add(unsafe { x.assume_init_mut() }, &y[part]);
    });
    Ok(())
}

multiversion! {
    fn added(x: &[f32], y: &[f32], out: &mut [MaybeUninit<f32>]) {
        for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
            out.write(x + y);
        }
    }
}

multiversion! {
    fn add(x: &mut [f32], y: &[f32]) {
        for (x, &y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_a_loop_at_any_length() {
        for len in [0, 1, 15, A_TASK - 1, A_TASK, 3 * A_TASK + 7] {
            let x: Vec<f32> = (0..len).map(|i| (i as f32).sin()).collect();
            let y: Vec<f32> = (0..len).map(|i| 1e8 / (1.0 + i as f32)).collect();
            let right: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            assert_eq!(sum(&x, &y).unwrap(), right);
            let mut x = x;
            sum_into(&mut x, &y).unwrap();
            assert_eq!(x, right);
        }
    }

    #[test]
    fn arrays_of_other_lengths_are_refused() {
        for error in [sum(&[1.0], &[]).unwrap_err(), sum_into(&mut [], &[1.0]).unwrap_err()] {
            assert!(error.to_string().contains("`y`"), "{error}");
        }
    }
}
