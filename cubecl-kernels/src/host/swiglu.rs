//! `silu(gate) * up` and its gradient, one pass each.

use std::mem::MaybeUninit;

use super::output::{build, for_rows};
use super::parallel::rows_a_task;
use super::simd::{Simd, exp, madd, multiversion};
use crate::definition::{KernelError, check_length};

/// Elements of the output that one task computes.
const ELEMENTS_A_TASK: usize = 1 << 14;
/// What an exponential counts for, in scalar operations.
const EXP_WORK: usize = 8;

/// Computes SwiGLU's elementwise part, `silu(gate) * up` with `silu(g) = g / (1 + e^-g)`.
///
/// # Shapes
/// - `gate_up [rows, 2 inter]`, the gate in the first half of each row -> `[rows, inter]`
///
/// # Errors
/// [`KernelError::Length`] naming `gate_up`.
pub fn swiglu(gate_up: &[f32], rows: usize, inter: usize) -> Result<Vec<f32>, KernelError> {
    check_length("swiglu", "gate_up", gate_up.len(), &[rows, 2, inter])?;
    let (rows_a_task, work) = (rows_a_task(ELEMENTS_A_TASK, inter), rows * inter * EXP_WORK);
    // SAFETY: `forward` writes all of a task's rows.
    Ok(unsafe {
        build(rows * inter, |out| {
            for_rows(out, inter, rows_a_task, work, |rows, out| {
                forward(&gate_up[rows.start * 2 * inter..rows.end * 2 * inter], inter, out);
            });
        })
    })
}

/// Computes the gradient of [`swiglu`]: with `s = 1 / (1 + e^-g)`,
/// `dgate = dy up s (1 + g (1 - s))` and `dup = dy g s`.
///
/// # Shapes
/// - `gate_up [rows, 2 inter]`, `dy [rows, inter]` -> `[rows, 2 inter]`
///
/// # Errors
/// [`KernelError::Length`] naming `gate_up` or `dy`.
pub fn swiglu_backward(
    gate_up: &[f32],
    dy: &[f32],
    rows: usize,
    inter: usize,
) -> Result<Vec<f32>, KernelError> {
    check_length("swiglu_backward", "gate_up", gate_up.len(), &[rows, 2, inter])?;
    check_length("swiglu_backward", "dy", dy.len(), &[rows, inter])?;
    let (rows_a_task, work) = (rows_a_task(ELEMENTS_A_TASK, inter), rows * inter * EXP_WORK);
    // SAFETY: `backward` writes both halves of all of a task's rows.
    Ok(unsafe {
        build(gate_up.len(), |out| {
            for_rows(out, 2 * inter, rows_a_task, work, |rows, out| {
                let gate_up = &gate_up[rows.start * 2 * inter..rows.end * 2 * inter];
                backward(gate_up, &dy[rows.start * inter..rows.end * inter], inter, out);
            });
        })
    })
}

/// `silu(g) u`.
#[inline(always)]
pub(super) fn value<S: Simd>(g: f32, u: f32) -> f32 {
    g * u / (1.0 + exp::<S>(-g))
}

/// The gradients of [`value`] for `g` and `u`, given that of the result.
#[inline(always)]
pub(super) fn gradients<S: Simd>(g: f32, u: f32, dy: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp::<S>(-g));
    (dy * u * s * madd::<S>(g, 1.0 - s, 1.0), dy * g * s)
}

multiversion! {
    fn forward(gate_up: &[f32], inter: usize, out: &mut [MaybeUninit<f32>]) {
        if inter == 0 {
            return;
        }
        for (row, out) in gate_up.chunks_exact(2 * inter).zip(out.chunks_exact_mut(inter)) {
            let (gate, up) = row.split_at(inter);
            for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                out.write(value::<S>(g, u));
            }
        }
    }
}

multiversion! {
    fn backward(gate_up: &[f32], dy: &[f32], inter: usize, out: &mut [MaybeUninit<f32>]) {
        if inter == 0 {
            return;
        }
        let rows = gate_up.chunks_exact(2 * inter).zip(dy.chunks_exact(inter));
        for ((row, dy), out) in rows.zip(out.chunks_exact_mut(2 * inter)) {
            let (gate, up) = row.split_at(inter);
            let (dgate, dup) = out.split_at_mut(inter);
            for ((((dgate, dup), &g), &u), &dy) in
                dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy)
            {
                let (of_gate, of_up) = gradients::<S>(g, u, dy);
                dgate.write(of_gate);
                dup.write(of_up);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::test_inputs::{
        assert_close, assert_gradient, assert_thread_independent, inner, random, widen,
    };

    fn check(rows: usize, inter: usize, size: f32) {
        let gate_up: Vec<f32> = random(1, rows * 2 * inter).iter().map(|x| x * size).collect();
        let dy = random(2, rows * inter);
        let expected = reference::swiglu(&widen(&gate_up), rows, inter);
        assert_close("y", &swiglu(&gate_up, rows, inter).unwrap(), &expected, 1e-6);
        let expected = reference::swiglu_backward(&widen(&gate_up), &widen(&dy), rows, inter);
        assert_close("dx", &swiglu_backward(&gate_up, &dy, rows, inter).unwrap(), &expected, 2e-6);
    }

    #[test]
    fn hard_edges() {
        for (rows, inter) in [(0, 4), (4, 0), (1, 1), (3, 7), (5, 33), (1, 40_000), (70, 512)] {
            for size in [1.0, 200.0] {
                check(rows, inter, size);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn random_shapes(rows in 0usize..40, inter in 0usize..70, size in 0.1f32..100.0) {
            check(rows, inter, size);
        }
    }

    #[test]
    fn the_reference_gradient_is_a_slope() {
        let (x, dy) = (widen(&random(1, 20)), widen(&random(2, 10)));
        let dx = reference::swiglu_backward(&x, &dy, 2, 5);
        assert_gradient("dx", &x, &dx, |x| inner(&reference::swiglu(x, 2, 5), &dy));
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (x, dy) = (random(1, 300 * 1024), random(2, 300 * 512));
        assert_thread_independent("swiglu", || {
            vec![swiglu(&x, 300, 512).unwrap(), swiglu_backward(&x, &dy, 300, 512).unwrap()]
        });
    }

    #[test]
    fn a_wrong_length_names_the_argument() {
        let error = swiglu_backward(&[0.0; 8], &[0.0; 3], 2, 2).unwrap_err();
        assert!(matches!(error, KernelError::Length { argument: "dy", .. }));
        assert!(swiglu(&[], usize::MAX, usize::MAX).is_err());
    }
}
