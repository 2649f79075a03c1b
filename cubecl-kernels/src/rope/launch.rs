//! Checks and launches.

use super::kernel::{SizesLaunch, rotate};
use crate::definition::{KernelError, RopeLayout, RopeShape};
use crate::device::{UNITS, allocate, argument, check_handle, elementwise_cubes, load_width};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Rotates each pair of the last `dr` entries of every head,
/// `(a, b) -> (a cos - b sin, a sin + b cos)`, in FP32; the rest is copied.
///
/// # Shapes
/// `x` `[b, t, h, head_dim]`, `cos` and `sin` `[t, dr / 2]` -> `[b, t, h, head_dim]`.
///
/// # Errors
/// [`KernelError::Invalid`] where `dr` is odd or above `head_dim`, else [`KernelError`] where a
/// buffer is too small or a size cannot be addressed.
///
/// Source: Su et al., 2021 (arXiv 2104.09864); technical report 2.1.1.
pub fn rope(
    client: &Client,
    x: &Handle,
    cos: &Handle,
    sin: &Handle,
    shape: &RopeShape,
) -> Result<Handle, KernelError> {
    launch("rope", client, x, cos, sin, shape, 1.0)
}

/// The gradient of [`rope`], which is the rotation by the negative angle.
///
/// # Shapes
/// `dy` `[b, t, h, head_dim]`, `cos` and `sin` `[t, dr / 2]` -> `[b, t, h, head_dim]`.
///
/// # Errors
/// Fails as [`rope`] does.
pub fn rope_backward(
    client: &Client,
    dy: &Handle,
    cos: &Handle,
    sin: &Handle,
    shape: &RopeShape,
) -> Result<Handle, KernelError> {
    launch("rope_backward", client, dy, cos, sin, shape, -1.0)
}

fn launch(
    op: &'static str,
    client: &Client,
    x: &Handle,
    cos: &Handle,
    sin: &Handle,
    shape: &RopeShape,
    sign: f32,
) -> Result<Handle, KernelError> {
    let RopeShape { batch, tokens, heads, head_dim, rope_dim, layout } = *shape;
    if rope_dim % 2 != 0 || rope_dim > head_dim {
        return Err(KernelError::Invalid {
            op,
            argument: "shape",
            requirement: "must have an even rope_dim <= head_dim",
        });
    }
    let count = check_handle(op, "x", x, 4, &[batch, tokens, heads, head_dim])?;
    let angles = check_handle(op, "cos", cos, 4, &[tokens, rope_dim / 2])?;
    check_handle(op, "sin", sin, 4, &[tokens, rope_dim / 2])?;
    let y = allocate(client, count, 4);
    if count > 0 {
        // A vector lies in one part of a head, and in one half of what turns.
        let part = if layout == RopeLayout::Halves { rope_dim / 2 } else { rope_dim };
        let vector = load_width(head_dim).min(if part == 0 { 4 } else { load_width(part) });
        let sizes = SizesLaunch::new(
            tokens as u32,
            heads as u32,
            head_dim as u32,
            rope_dim as u32,
            (count / vector) as u32,
        );
        // SAFETY: the inputs were found to hold what their shapes say and `y` was allocated for
        // `count`; a unit past the last entry does nothing, and an entry's other lies in its head.
        unsafe {
            rotate::launch_unchecked(
                client,
                elementwise_cubes(client, count / vector),
                CubeDim::new_1d(UNITS),
                vector,
                argument(x, count),
                argument(cos, angles),
                argument(sin, angles),
                argument(&y, count),
                sign,
                sizes,
                layout,
                vector as u32,
            );
        }
    }
    Ok(y)
}
