//! Checks and launches.

use super::kernel::{PIECE, gamma_parts, input_gradient, normalise, sum_pieces};
use crate::definition::KernelError;
use crate::device::{
    addressable, allocate, argument, check_handle, cubes_of, elementwise_cubes, load_width,
};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Units of a cube where a unit has a row: few, so that there are cubes for every core.
const ROW_UNITS: u32 = 32;
const UNITS: u32 = crate::device::UNITS;

/// What [`rms_norm`] gives.
#[derive(Debug, Clone)]
pub struct DeviceNorm {
    /// The normalised rows, `[rows, width]`.
    pub y: Handle,
    /// `1 / rms` of each row, `[rows]`, which backward needs.
    pub rstd: Handle,
}

/// Normalises rows by their root mean square, `y = x rstd gamma` with
/// `rstd = (mean(x^2) + eps)^(-1/2)`, in FP32.
///
/// # Shapes
/// `x` `[rows, width]`, `gamma` `[width]` -> [`DeviceNorm`].
///
/// # Errors
/// [`KernelError`] where a buffer is too small or a size cannot be addressed.
///
/// Source: Zhang and Sennrich, 2019 (arXiv 1910.07467).
pub fn rms_norm(
    client: &Client,
    x: &Handle,
    gamma: &Handle,
    eps: f32,
    rows: usize,
    width: usize,
) -> Result<DeviceNorm, KernelError> {
    const OP: &str = "rms_norm";
    let count = check_handle(OP, "x", x, 4, &[rows, width])?;
    check_handle(OP, "gamma", gamma, 4, &[width])?;
    addressable(OP, "rstd", &[rows])?;
    let norm = DeviceNorm { y: allocate(client, count, 4), rstd: allocate(client, rows, 4) };
    let vector = load_width(width);
    if rows > 0 {
        // SAFETY: the inputs were found to hold what their shapes say and the results were
        // allocated for theirs; a unit past the last row does nothing.
        unsafe {
            normalise::launch_unchecked(
                client,
                cubes_of(client, rows, ROW_UNITS),
                CubeDim::new_1d(ROW_UNITS),
                vector,
                argument(x, count),
                argument(gamma, width),
                argument(&norm.y, count),
                argument(&norm.rstd, rows),
                eps,
                rows as u32,
                (width / vector) as u32,
                vector as u32,
            );
        }
    }
    Ok(norm)
}

/// The gradients of [`rms_norm`]: `dx = rstd (dy gamma - x rstd^2 mean(dy gamma x))`,
/// `dgamma = sum over rows of dy x rstd`, whose order is that of the rows.
///
/// # Shapes
/// `x` and `dy` `[rows, width]`, `gamma` `[width]`, `rstd` `[rows]` -> `dx` `[rows, width]`,
/// `dgamma` `[width]`.
///
/// # Errors
/// Fails as [`rms_norm`] does.
#[allow(clippy::too_many_arguments)]
pub fn rms_norm_backward(
    client: &Client,
    x: &Handle,
    gamma: &Handle,
    rstd: &Handle,
    dy: &Handle,
    rows: usize,
    width: usize,
) -> Result<(Handle, Handle), KernelError> {
    const OP: &str = "rms_norm_backward";
    let count = check_handle(OP, "x", x, 4, &[rows, width])?;
    check_handle(OP, "dy", dy, 4, &[rows, width])?;
    check_handle(OP, "gamma", gamma, 4, &[width])?;
    check_handle(OP, "rstd", rstd, 4, &[rows])?;
    let pieces = rows.div_ceil(PIECE as usize);
    let total = addressable(OP, "dgamma", &[pieces, width])?;
    let (dx, dgamma) = (allocate(client, count, 4), allocate(client, width, 4));
    let parts = allocate(client, total, 4);
    let vector = load_width(width);
    // SAFETY: as in `rms_norm`; `parts` was allocated for `total`, and a unit past the last row or
    // entry does nothing.
    unsafe {
        if count > 0 {
            input_gradient::launch_unchecked(
                client,
                cubes_of(client, rows, ROW_UNITS),
                CubeDim::new_1d(ROW_UNITS),
                vector,
                argument(x, count),
                argument(gamma, width),
                argument(rstd, rows),
                argument(dy, count),
                argument(&dx, count),
                rows as u32,
                (width / vector) as u32,
                vector as u32,
            );
            gamma_parts::launch_unchecked(
                client,
                elementwise_cubes(client, total / vector),
                CubeDim::new_1d(UNITS),
                vector,
                argument(x, count),
                argument(rstd, rows),
                argument(dy, count),
                argument(&parts, total),
                rows as u32,
                (width / vector) as u32,
                (total / vector) as u32,
                vector as u32,
            );
        }
        if width > 0 {
            sum_pieces::launch_unchecked(
                client,
                elementwise_cubes(client, width),
                CubeDim::new_1d(UNITS),
                argument(&parts, total),
                argument(&dgamma, width),
                pieces as u32,
                width as u32,
            );
        }
    }
    Ok((dx, dgamma))
}
