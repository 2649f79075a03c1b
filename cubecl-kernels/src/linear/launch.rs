//! Checks and launches.

use super::kernel::{BLOCK, SizesLaunch, UNITS, product};
use crate::definition::{KernelError, LinearShape};
use crate::device::{addressable, allocate, argument, check_handle};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// `y = x w^T` in FP32.
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
) -> Result<Handle, KernelError> {
    let LinearShape { rows, inputs, outputs } = *shape;
    let x = Operand::new("linear", "x", x, [rows, inputs])?;
    let w = Operand::new("linear", "w", w, [outputs, inputs])?;
    launch(client, "linear", x, w)
}

/// `dx = dy w` in FP32.
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
) -> Result<Handle, KernelError> {
    const OP: &str = "linear_input_gradient";
    let LinearShape { rows, inputs, outputs } = *shape;
    let dy = Operand::new(OP, "dy", dy, [rows, outputs])?;
    let w = Operand::new(OP, "w", w, [outputs, inputs])?;
    launch(client, OP, dy, w.transposed())
}

/// `dw = dy^T x` in FP32.
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
) -> Result<Handle, KernelError> {
    const OP: &str = "linear_weight_gradient";
    let LinearShape { rows, inputs, outputs } = *shape;
    let dy = Operand::new(OP, "dy", dy, [rows, outputs])?;
    let x = Operand::new(OP, "x", x, [rows, inputs])?;
    launch(client, OP, dy.transposed(), x.transposed())
}

/// A matrix as a product takes it: its rows, its depth, and the steps along both.
struct Operand<'a> {
    handle: &'a Handle,
    count: usize,
    shape: [usize; 2],
    steps: [usize; 2],
}

impl<'a> Operand<'a> {
    fn new(
        op: &'static str,
        argument: &'static str,
        handle: &'a Handle,
        shape: [usize; 2],
    ) -> Result<Self, KernelError> {
        let count = check_handle(op, argument, handle, 4, &shape)?;
        Ok(Self { handle, count, shape, steps: [shape[1], 1] })
    }

    fn transposed(mut self) -> Self {
        self.shape.reverse();
        self.steps.reverse();
        self
    }
}

/// `C = A B^T`.
fn launch(
    client: &Client,
    op: &'static str,
    a: Operand<'_>,
    b: Operand<'_>,
) -> Result<Handle, KernelError> {
    let ([m, k], [n, _]) = (a.shape, b.shape);
    let count = addressable(op, "c", &[m, n])?;
    let c = allocate(client, count, 4);
    if count == 0 {
        return Ok(c);
    }
    let [x, y] = [n, m].map(|size| size.div_ceil(BLOCK as usize));
    let most = client.properties().hardware.max_cube_count;
    if x > most.0 as usize || y > most.1 as usize {
        return Err(KernelError::Overflow { op, argument: "c", shape: vec![m, n] });
    }
    let sizes = SizesLaunch::new(
        m as u32,
        n as u32,
        k as u32,
        a.steps[0] as u32,
        a.steps[1] as u32,
        b.steps[0] as u32,
        b.steps[1] as u32,
    );
    // SAFETY: both operands were found to hold their rows and depths and `c` was allocated for
    // `count` numbers; the kernel loads and writes no element outside `m`, `n` and `k`.
    unsafe {
        product::launch_unchecked(
            client,
            CubeCount::Static(x as u32, y as u32, 1),
            CubeDim::new_1d(UNITS),
            argument(a.handle, a.count),
            argument(b.handle, b.count),
            argument(&c, count),
            sizes,
        );
    }
    Ok(c)
}
