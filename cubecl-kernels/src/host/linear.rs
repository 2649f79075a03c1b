//! `y = x w^T` and its two gradients, with a fast path for few rows.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::gemm_view::{Mat, MatMut, Threads, gemm, gemm_add};
use super::output::{Parts, as_uninit, build};
use super::parallel::{chunk, for_each};
use super::small_gemm::{MAX_ROWS, rows_nt};
use crate::definition::{KernelError, check_length};

/// Columns of the output that one task of the few-row path computes.
const COLUMNS_A_TASK: usize = 128;

/// The linear map, `y = x w^T`.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [outputs, inputs]` -> `y [rows, outputs]`
///
/// # Errors
/// [`KernelError::Length`] naming `x` or `w`.
pub fn linear(
    x: &[f32],
    w: &[f32],
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<Vec<f32>, KernelError> {
    check_length("linear", "x", x.len(), &[rows, inputs])?;
    check_length("linear", "w", w.len(), &[outputs, inputs])?;
    check_size("linear", "y", &[rows, outputs])?;
    // SAFETY: `product_nt` writes all of `y`, and reads none of it without `add`.
    Ok(unsafe { build(rows * outputs, |y| product_nt(x, w, rows, inputs, outputs, y, false)) })
}

/// The linear map added to what is there, `y += x w^T`.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [outputs, inputs]`, `y [rows, outputs]`
///
/// # Errors
/// [`KernelError::Length`] naming `x`, `w` or `y`.
pub fn linear_accumulate(
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<(), KernelError> {
    check_length("linear_accumulate", "x", x.len(), &[rows, inputs])?;
    check_length("linear_accumulate", "w", w.len(), &[outputs, inputs])?;
    check_length("linear_accumulate", "y", y.len(), &[rows, outputs])?;
    // SAFETY: `y` is initialised.
    unsafe { product_nt(x, w, rows, inputs, outputs, as_uninit(y), true) };
    Ok(())
}

/// The gradient of [`linear`] for its input, `dx = dy w` (Dgrad).
///
/// # Shapes
/// - `dy [rows, outputs]`, `w [outputs, inputs]` -> `dx [rows, inputs]`
///
/// # Errors
/// [`KernelError::Length`] naming `dy` or `w`.
pub fn linear_input_gradient(
    dy: &[f32],
    w: &[f32],
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<Vec<f32>, KernelError> {
    check_length("linear_input_gradient", "dy", dy.len(), &[rows, outputs])?;
    check_length("linear_input_gradient", "w", w.len(), &[outputs, inputs])?;
    check_size("linear_input_gradient", "dx", &[rows, inputs])?;
    // SAFETY: gemm writes all of `dx`.
    Ok(unsafe {
        build(rows * inputs, |dx| {
            let dst = MatMut::contiguous(dx, rows, inputs);
            let (dy, w) = (Mat::contiguous(dy, rows, outputs), Mat::contiguous(w, outputs, inputs));
            gemm(dst, 1.0, dy, w, Threads::Pool);
        })
    })
}

/// The gradient of [`linear`] for its weight, `dw = dy^T x` (Wgrad).
///
/// # Shapes
/// - `dy [rows, outputs]`, `x [rows, inputs]` -> `dw [outputs, inputs]`, zero of no rows
///
/// # Errors
/// [`KernelError::Length`] naming `dy` or `x`.
pub fn linear_weight_gradient(
    dy: &[f32],
    x: &[f32],
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<Vec<f32>, KernelError> {
    check_length("linear_weight_gradient", "dy", dy.len(), &[rows, outputs])?;
    check_length("linear_weight_gradient", "x", x.len(), &[rows, inputs])?;
    check_size("linear_weight_gradient", "dw", &[outputs, inputs])?;
    // SAFETY: gemm writes all of `dw`, zero where there are no rows.
    Ok(unsafe {
        build(outputs * inputs, |dw| {
            let dst = MatMut::contiguous(dw, outputs, inputs);
            let (dy, x) = (Mat::contiguous(dy, rows, outputs), Mat::contiguous(x, rows, inputs));
            gemm(dst, 1.0, dy.t(), x, Threads::Pool);
        })
    })
}

/// Refuses an output that could not be addressed.
fn check_size(
    op: &'static str,
    argument: &'static str,
    shape: &[usize],
) -> Result<(), KernelError> {
    crate::definition::element_count(op, argument, shape).map(|_| ())
}

/// `y = x w^T (+ y)`; all of `y` is written.
///
/// # Safety
/// With `add`, `y` must be initialised.
unsafe fn product_nt(
    x: &[f32],
    w: &[f32],
    rows: usize,
    inputs: usize,
    outputs: usize,
    y: &mut [MaybeUninit<f32>],
    add: bool,
) {
    if (1..=MAX_ROWS).contains(&rows) {
        let task = |columns: Range<usize>, out: &mut [f32]| {
            rows_nt(x, &w[columns.start * inputs..], rows, inputs, columns.len(), out);
        };
        // SAFETY: what the caller vouches for.
        unsafe { few_rows(rows, outputs, inputs, y, add, task) };
        return;
    }
    let (a, b) = (Mat::contiguous(x, rows, inputs), Mat::contiguous(w, outputs, inputs).t());
    if add {
        // SAFETY: initialised, as the caller vouches.
        let y = unsafe { &mut *(std::ptr::from_mut(y) as *mut [f32]) };
        gemm_add(y, outputs, 1.0, a, b, Threads::Pool);
    } else {
        gemm(MatMut::contiguous(y, rows, outputs), 1.0, a, b, Threads::Pool);
    }
}

/// Cuts the columns of a result with few rows into tasks; `task` computes `[rows, columns]` of
/// them.
///
/// # Safety
/// With `add`, `y` must be initialised.
unsafe fn few_rows(
    rows: usize,
    width: usize,
    depth: usize,
    y: &mut [MaybeUninit<f32>],
    add: bool,
    task: impl Fn(Range<usize>, &mut [f32]) + Sync,
) {
    let y = Parts::new(y);
    // A weight is read faster from one core's cache than another thread wakes.
    let work = (rows * width * depth) / 4;
    for_each(width.div_ceil(COLUMNS_A_TASK), work, |index| {
        let columns = chunk(index, COLUMNS_A_TASK, width);
        let mut buffer = [0.0; MAX_ROWS * COLUMNS_A_TASK];
        let buffer = &mut buffer[..rows * columns.len()];
        task(columns.clone(), buffer);
        for (r, row) in buffer.chunks_exact(columns.len()).enumerate() {
            let start = r * width + columns.start;
            if add {
                // SAFETY: tasks own different columns, and the caller vouches for what is there.
                let y = unsafe { y.written(start, columns.len()) };
                y.iter_mut().zip(row).for_each(|(y, &value)| *y += value);
            } else {
                // SAFETY: tasks own different columns.
                let y = unsafe { y.part(start, columns.len()) };
                y.write_copy_of_slice(row);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::test_inputs::{
        assert_close, assert_gradient, assert_thread_independent, inner, random, widen,
    };

    fn check(rows: usize, inputs: usize, outputs: usize) {
        let (x, w, dy) =
            (random(1, rows * inputs), random(2, outputs * inputs), random(3, rows * outputs));
        let (x64, w64, dy64) = (widen(&x), widen(&w), widen(&dy));
        let y = linear(&x, &w, rows, inputs, outputs).unwrap();
        let expected = reference::linear(&x64, &w64, rows, inputs, outputs);
        assert_close("y", &y, &expected, 1e-5);
        let mut twice = y;
        linear_accumulate(&x, &w, &mut twice, rows, inputs, outputs).unwrap();
        assert_close("y + y", &twice, &expected.iter().map(|y| 2.0 * y).collect::<Vec<_>>(), 1e-5);
        let dx = linear_input_gradient(&dy, &w, rows, inputs, outputs).unwrap();
        assert_close(
            "dx",
            &dx,
            &reference::linear_input_gradient(&dy64, &w64, rows, inputs, outputs),
            1e-5,
        );
        let dw = linear_weight_gradient(&dy, &x, rows, inputs, outputs).unwrap();
        assert_close(
            "dw",
            &dw,
            &reference::linear_weight_gradient(&dy64, &x64, rows, inputs, outputs),
            1e-5,
        );
    }

    #[test]
    fn hard_edges() {
        for rows in [0, 1, 2, 3, 4, 5, 17, 130] {
            for (inputs, outputs) in
                [(1, 1), (0, 3), (3, 0), (7, 129), (64, 257), (256, 96), (131, 4)]
            {
                check(rows, inputs, outputs);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn random_shapes(rows in 0usize..40, inputs in 0usize..70, outputs in 0usize..140) {
            check(rows, inputs, outputs);
        }
    }

    #[test]
    fn the_reference_gradients_are_slopes() {
        let (rows, inputs, outputs) = (3, 4, 5);
        let (x, w, dy) = (widen(&random(1, 12)), widen(&random(2, 20)), widen(&random(3, 15)));
        let dx = reference::linear_input_gradient(&dy, &w, rows, inputs, outputs);
        assert_gradient("dx", &x, &dx, |x| {
            inner(&reference::linear(x, &w, rows, inputs, outputs), &dy)
        });
        let dw = reference::linear_weight_gradient(&dy, &x, rows, inputs, outputs);
        assert_gradient("dw", &w, &dw, |w| {
            inner(&reference::linear(&x, w, rows, inputs, outputs), &dy)
        });
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for rows in [1, 3, 300] {
            let (x, w, dy) = (random(1, rows * 256), random(2, 1031 * 256), random(3, rows * 1031));
            assert_thread_independent("linear", || {
                vec![
                    linear(&x, &w, rows, 256, 1031).unwrap(),
                    linear_input_gradient(&dy, &w, rows, 256, 1031).unwrap(),
                    linear_weight_gradient(&dy, &x, rows, 256, 1031).unwrap(),
                ]
            });
        }
    }

    #[test]
    fn a_wrong_length_names_the_argument() {
        let error = linear(&[0.0; 5], &[0.0; 6], 2, 3, 2).unwrap_err();
        assert!(matches!(error, KernelError::Length { argument: "x", expected: 6, actual: 5, .. }));
        assert!(linear_accumulate(&[0.0; 6], &[0.0; 6], &mut [0.0; 3], 2, 3, 2).is_err());
    }
}
