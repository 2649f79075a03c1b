//! The linear map `y = x w^T` and its two gradients, with a fast path for few rows.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::gemm::{MAX_ROWS, rows_nt};
use super::output::{Parts, as_uninit, build};
use super::parallel::{Threads, chunk, for_each};
use super::product::{View, product, product_add};
use crate::definition::{KernelError, LinearShape, ProductFormat, check_length, element_count};

/// Columns of the output that one task of the few-row path computes.
const COLUMNS_A_TASK: usize = 128;

/// Computes the linear map, `y = x w^T`, of operands in `format`.
///
/// In BF16 both operands are rounded to nearest even; products are exact, sums and result FP32.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [outputs, inputs]` -> `y [rows, outputs]`
///
/// # Errors
/// [`KernelError::Length`] naming `x` or `w`.
///
/// # Example
/// ```
/// use cubecl_kernels::definition::{LinearShape, ProductFormat};
/// use cubecl_kernels::host;
///
/// let shape = LinearShape { rows: 1, inputs: 2, outputs: 3 };
/// let (x, w) = ([1.0, 2.0], [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
/// let y = host::linear(&x, &w, &shape, ProductFormat::F32)?;
/// assert_eq!(y, [1.0, 2.0, 3.0]);
/// # Ok::<(), cubecl_kernels::KernelError>(())
/// ```
pub fn linear(
    x: &[f32],
    w: &[f32],
    shape: &LinearShape,
    format: ProductFormat,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "linear";
    let LinearShape { rows, inputs, outputs } = *shape;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    check_length(OP, "w", w.len(), &[outputs, inputs])?;
    let len = element_count(OP, "y", &[rows, outputs])?;
    // SAFETY: `product_nt` writes all of `y`, and reads none of it without `add`.
    Ok(unsafe { build(len, |y| product_nt(x, w, y, shape, format, false)) })
}

/// Adds the linear map to what is there, `y += x w^T`, of operands in `format`.
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
    shape: &LinearShape,
    format: ProductFormat,
) -> Result<(), KernelError> {
    const OP: &str = "linear_accumulate";
    let LinearShape { rows, inputs, outputs } = *shape;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    check_length(OP, "w", w.len(), &[outputs, inputs])?;
    check_length(OP, "y", y.len(), &[rows, outputs])?;
    // SAFETY: `y` is initialised.
    unsafe { product_nt(x, w, as_uninit(y), shape, format, true) };
    Ok(())
}

/// Computes the gradient of [`linear`] for its input, `dx = dy w` (Dgrad), of operands in `format`.
///
/// # Shapes
/// - `dy [rows, outputs]`, `w [outputs, inputs]` -> `dx [rows, inputs]`
///
/// # Errors
/// [`KernelError::Length`] naming `dy` or `w`.
pub fn linear_input_gradient(
    dy: &[f32],
    w: &[f32],
    shape: &LinearShape,
    format: ProductFormat,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "linear_input_gradient";
    let LinearShape { rows, inputs, outputs } = *shape;
    check_length(OP, "dy", dy.len(), &[rows, outputs])?;
    check_length(OP, "w", w.len(), &[outputs, inputs])?;
    let len = element_count(OP, "dx", &[rows, inputs])?;
    let (dy, w) = (View::new(dy, rows, outputs), View::new(w, outputs, inputs));
    // SAFETY: the product writes all of `dx`.
    Ok(unsafe { build(len, |dx| product(dx, dy, w, format, Threads::Pool)) })
}

/// Computes the gradient of [`linear`] for its weight, `dw = dy^T x` (Wgrad), of operands in
/// `format`.
///
/// # Shapes
/// - `dy [rows, outputs]`, `x [rows, inputs]` -> `dw [outputs, inputs]`, zero of no rows
///
/// # Errors
/// [`KernelError::Length`] naming `dy` or `x`.
pub fn linear_weight_gradient(
    dy: &[f32],
    x: &[f32],
    shape: &LinearShape,
    format: ProductFormat,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "linear_weight_gradient";
    let LinearShape { rows, inputs, outputs } = *shape;
    check_length(OP, "dy", dy.len(), &[rows, outputs])?;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    let len = element_count(OP, "dw", &[outputs, inputs])?;
    let (dy, x) = (View::new(dy, rows, outputs), View::new(x, rows, inputs));
    // SAFETY: the product writes all of `dw`, zero where there are no rows.
    Ok(unsafe { build(len, |dw| product(dw, dy.t(), x, format, Threads::Pool)) })
}

/// `y = x w^T (+ y)`; all of `y` is written.
///
/// # Safety
/// With `add`, `y` must be initialised.
unsafe fn product_nt(
    x: &[f32],
    w: &[f32],
    y: &mut [MaybeUninit<f32>],
    shape: &LinearShape,
    format: ProductFormat,
    add: bool,
) {
    let LinearShape { rows, inputs, outputs } = *shape;
    if format != ProductFormat::Bf16 && (1..=MAX_ROWS).contains(&rows) {
        let task = |columns: Range<usize>, out: &mut [f32]| {
            rows_nt(x, &w[columns.start * inputs..], rows, inputs, columns.len(), out);
        };
        // SAFETY: the caller vouches that `y` is initialised where it is added to.
        unsafe { few_rows(shape, y, add, task) };
        return;
    }
    let (x, w) = (View::new(x, rows, inputs), View::new(w, outputs, inputs));
    if add {
        // SAFETY: the caller vouches that `y` is initialised.
        let y = unsafe { y.assume_init_mut() };
        product_add(y, x, w.t(), format, Threads::Pool);
    } else {
        product(y, x, w.t(), format, Threads::Pool);
    }
}

/// Cuts the columns of a result with few rows into tasks; `task` computes `[rows, columns]` of
/// them.
///
/// # Safety
/// With `add`, `y` must be initialised.
unsafe fn few_rows(
    &LinearShape { rows, inputs, outputs }: &LinearShape,
    y: &mut [MaybeUninit<f32>],
    add: bool,
    task: impl Fn(Range<usize>, &mut [f32]) + Sync,
) {
    let y = Parts::new(y);
    // A weight is read faster from one core's cache than another thread wakes.
    let work = (rows * outputs * inputs) / 4;
    for_each(outputs.div_ceil(COLUMNS_A_TASK), work, |index| {
        let columns = chunk(index, COLUMNS_A_TASK, outputs);
        let mut buffer = [0.0; MAX_ROWS * COLUMNS_A_TASK];
        let buffer = &mut buffer[..rows * columns.len()];
        task(columns.clone(), buffer);
        for (r, row) in buffer.chunks_exact(columns.len()).enumerate() {
            let start = r * outputs + columns.start;
            if add {
                // SAFETY: tasks own different columns, and the caller vouches that `y` is
                // initialised.
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
#[path = "linear_tests.rs"]
mod tests;
