//! SwiGLU's checks and launches.

use super::kernel::{swiglu_forward, swiglu_gradient};
use crate::definition::KernelError;
use crate::device::{
    UNITS, addressable, allocate, argument, check_handle, elementwise_cubes, load_width,
};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// SwiGLU's elementwise part, `silu(gate) * up` with `silu(g) = g / (1 + e^-g)`, in FP32.
///
/// Defined for every finite gate, without overflow on the way; below a gate of -87, where `|silu|`
/// is under `1.1e-36`, a device that flushes subnormal numbers gives zero. A NaN in the gate or in
/// `up` gives NaN.
///
/// # Shapes
/// `gate_up` `[rows, 2 inter]`, the gate in the first half of each row -> `[rows, inter]`.
///
/// # Errors
/// [`KernelError`] where the buffer is too small or the size cannot be addressed.
///
/// Source: technical report 2.1.2.
pub fn swiglu(
    client: &Client,
    gate_up: &Handle,
    rows: usize,
    inter: usize,
) -> Result<Handle, KernelError> {
    const OP: &str = "swiglu";
    let inputs = check_handle(OP, "gate_up", gate_up, 4, &[rows, 2, inter])?;
    let count = addressable(OP, "y", &[rows, inter])?;
    let y = allocate(client, count, 4);
    if count > 0 {
        let width = load_width(inter);
        // SAFETY: `gate_up` was found to hold `inputs` numbers and `y` was allocated for `count`; a
        // unit past the last vector of `y` does nothing, and one below it reads the two vectors of
        // its own row.
        unsafe {
            swiglu_forward::launch_unchecked(
                client,
                elementwise_cubes(client, count / width),
                CubeDim::new_1d(UNITS),
                width,
                argument(gate_up, inputs),
                argument(&y, count),
                (count / width) as u32,
                (inter / width) as u32,
                width as u32,
            );
        }
    }
    Ok(y)
}

/// The gradient of [`swiglu`]: with `s = 1 / (1 + e^-g)`, `dgate = dy up s (1 + g (1 - s))` and
/// `dup = dy g s`.
///
/// # Shapes
/// `gate_up` `[rows, 2 inter]`, `dy` `[rows, inter]` -> `[rows, 2 inter]`, all FP32.
///
/// # Errors
/// Fails as [`swiglu`] does.
pub fn swiglu_backward(
    client: &Client,
    gate_up: &Handle,
    dy: &Handle,
    rows: usize,
    inter: usize,
) -> Result<Handle, KernelError> {
    const OP: &str = "swiglu_backward";
    let inputs = check_handle(OP, "gate_up", gate_up, 4, &[rows, 2, inter])?;
    let count = check_handle(OP, "dy", dy, 4, &[rows, inter])?;
    let dx = allocate(client, inputs, 4);
    if count > 0 {
        let width = load_width(inter);
        // SAFETY: `gate_up` and `dy` were found to hold `inputs` and `count` numbers and `dx` was
        // allocated for `inputs`; a unit past the last vector of `dy` does nothing, and one below
        // it reads and writes the two vectors of its own row.
        unsafe {
            swiglu_gradient::launch_unchecked(
                client,
                elementwise_cubes(client, count / width),
                CubeDim::new_1d(UNITS),
                width,
                argument(gate_up, inputs),
                argument(dy, count),
                argument(&dx, inputs),
                (count / width) as u32,
                (inter / width) as u32,
                width as u32,
            );
        }
    }
    Ok(dx)
}
