//! Checks and launches.

use super::operand::{Operand, multiply};
use crate::definition::{KernelError, LinearShape};
use crate::matrix_product::LinearPath;
use cubecl::prelude::*;
use cubecl::server::Handle;

/// `y = x w^T`, in the format that the path has; FP32 out.
///
/// # Shapes
/// `x` `[rows, inputs]`, `w` `[outputs, inputs]` -> `[rows, outputs]`, zero where `inputs` is.
///
/// # Errors
/// [`KernelError`] where a buffer is too small or a size cannot be addressed.
pub fn linear(
    client: &Client,
    x: &Handle,
    w: &Handle,
    shape: &LinearShape,
    path: LinearPath,
) -> Result<Handle, KernelError> {
    let LinearShape { rows, inputs, outputs } = *shape;
    let x = Operand::new("linear", "x", x, [rows, inputs])?;
    let w = Operand::new("linear", "w", w, [outputs, inputs])?;
    multiply(client, "linear", x, w, path)
}

/// `dx = dy w` by a path.
///
/// # Shapes
/// `dy` `[rows, outputs]`, `w` `[outputs, inputs]` -> `[rows, inputs]`.
///
/// # Errors
/// Fails as [`linear`] does.
pub fn linear_input_gradient(
    client: &Client,
    dy: &Handle,
    w: &Handle,
    shape: &LinearShape,
    path: LinearPath,
) -> Result<Handle, KernelError> {
    const OP: &str = "linear_input_gradient";
    let LinearShape { rows, inputs, outputs } = *shape;
    let dy = Operand::new(OP, "dy", dy, [rows, outputs])?;
    let w = Operand::new(OP, "w", w, [outputs, inputs])?;
    multiply(client, OP, dy, w.transposed(), path)
}

/// `dw = dy^T x` by a path.
///
/// # Shapes
/// `dy` `[rows, outputs]`, `x` `[rows, inputs]` -> `[outputs, inputs]`.
///
/// # Errors
/// Fails as [`linear`] does.
pub fn linear_weight_gradient(
    client: &Client,
    dy: &Handle,
    x: &Handle,
    shape: &LinearShape,
    path: LinearPath,
) -> Result<Handle, KernelError> {
    const OP: &str = "linear_weight_gradient";
    let LinearShape { rows, inputs, outputs } = *shape;
    let dy = Operand::new(OP, "dy", dy, [rows, outputs])?;
    let x = Operand::new(OP, "x", x, [rows, inputs])?;
    multiply(client, OP, dy.transposed(), x.transposed(), path)
}
