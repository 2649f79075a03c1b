//! Checks and launches.

use super::kernel::{inverse_count, logit_gradients, mean_loss, row_losses, row_parts};
use super::plan::{LANES, chunk_rows};
use crate::definition::{KernelError, LinearShape};
use crate::device::{
    UNITS, addressable, allocate, argument, check_handle, cubes_of, elementwise_cubes, load_width,
};
use crate::linear::operand::{Operand, multiply_into};
use crate::matrix_product::{LinearPath, Target};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Units of a cube where there are few units.
const FEW: u32 = 32;

/// What [`linear_cross_entropy_with_gradients`] gives.
#[derive(Debug, Clone)]
pub struct DeviceHead {
    /// The mean of the counted rows' losses, `[1]`.
    pub loss: Handle,
    /// The gradient for `x`, `[rows, inputs]`.
    pub dx: Handle,
    /// The gradient for `w`, `[vocab, inputs]`.
    pub dw: Handle,
}

/// The mean cross entropy of `x w^T` over the rows whose target is not negative; 0 where
/// there is none, NaN where a target is not in the vocabulary. `shape.outputs` is the vocabulary. The
/// products are in the format that the path has, the softmax in FP32.
///
/// # Shapes
/// `x` `[rows, inputs]`, `w` `[vocab, inputs]`, `targets` 32-bit `[rows]` -> `[1]`.
///
/// # Errors
/// [`KernelError`] where a buffer is too small or a size cannot be addressed.
pub fn linear_cross_entropy(
    client: &Client,
    x: &Handle,
    w: &Handle,
    targets: &Handle,
    shape: &LinearShape,
    path: LinearPath,
) -> Result<Handle, KernelError> {
    let head = Head::new("linear_cross_entropy", client, x, w, targets, shape, path)?;
    head.run(None)?;
    head.mean()
}

/// [`linear_cross_entropy`] and its gradients, given that the loss's own is one.
///
/// # Shapes
/// Those of [`linear_cross_entropy`] -> [`DeviceHead`].
///
/// # Errors
/// Fails as [`linear_cross_entropy`] does.
pub fn linear_cross_entropy_with_gradients(
    client: &Client,
    x: &Handle,
    w: &Handle,
    targets: &Handle,
    shape: &LinearShape,
    path: LinearPath,
) -> Result<DeviceHead, KernelError> {
    const OP: &str = "linear_cross_entropy_with_gradients";
    let LinearShape { rows, inputs, outputs } = *shape;
    let head = Head::new(OP, client, x, w, targets, shape, path)?;
    let dx = allocate(client, rows * inputs, 4);
    let dw = if rows == 0 {
        client.create_from_slice(&vec![0; 4 * (outputs * inputs).max(1)])
    } else {
        allocate(client, outputs * inputs, 4)
    };
    head.run(Some((&dx, &dw)))?;
    Ok(DeviceHead { loss: head.mean()?, dx, dw })
}

/// A head over its rows.
struct Head<'a> {
    op: &'static str,
    client: &'a Client,
    x: Operand<'a>,
    w: Operand<'a>,
    targets: &'a Handle,
    shape: LinearShape,
    path: LinearPath,
    /// One over the number of counted rows.
    inverse: Handle,
    losses: Handle,
}

impl<'a> Head<'a> {
    fn new(
        op: &'static str,
        client: &'a Client,
        x: &'a Handle,
        w: &'a Handle,
        targets: &'a Handle,
        shape: &LinearShape,
        path: LinearPath,
    ) -> Result<Self, KernelError> {
        let LinearShape { rows, inputs, outputs } = *shape;
        let (x, w) = (
            Operand::new(op, "x", x, [rows, inputs])?,
            Operand::new(op, "w", w, [outputs, inputs])?,
        );
        check_handle(op, "targets", targets, 4, &[rows])?;
        addressable(op, "logits", &[chunk_rows(rows, outputs), outputs.max(2 * LANES as usize)])?;
        let (inverse, losses) = (allocate(client, 1, 4), allocate(client, rows, 4));
        // SAFETY: `targets` was found to hold `rows` numbers; one unit writes the one result.
        unsafe {
            inverse_count::launch_unchecked(
                client,
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(1),
                argument(targets, rows),
                argument(&inverse, 1),
                rows as u32,
            );
        }
        Ok(Self { op, client, x, w, targets, shape: *shape, path, inverse, losses })
    }

    /// The losses of all rows, and where it is asked for the gradients `dx` and `dw`.
    fn run(&self, gradients: Option<(&Handle, &Handle)>) -> Result<(), KernelError> {
        let LinearShape { rows, inputs, outputs } = self.shape;
        let chunk = chunk_rows(rows, outputs);
        let logits = allocate(self.client, chunk * outputs, 4);
        for first in (0..rows).step_by(chunk) {
            let count = chunk.min(rows - first);
            let x = self.x.rows(first, count);
            let whole = |handle, count| Target { handle, count, base: 0, added: false };
            let target = whole(&logits, count * outputs);
            multiply_into(self.client, self.op, x, self.w, target, self.path)?;
            let lse = self.losses(&logits, first, count);
            let Some((dx, dw)) = gradients else { continue };
            self.logit_gradients(&logits, &lse, first, count);
            let d_logits = Operand::new(self.op, "logits", &logits, [count, outputs])?;
            let target = Target { base: first * inputs, ..whole(dx, rows * inputs) };
            multiply_into(self.client, self.op, d_logits, self.w.transposed(), target, self.path)?;
            let target = Target { added: first > 0, ..whole(dw, outputs * inputs) };
            let (d_logits, x) = (d_logits.transposed(), x.transposed());
            multiply_into(self.client, self.op, d_logits, x, target, self.path)?;
        }
        Ok(())
    }

    /// The losses of some rows of logits; gives the logs of their sums of exponentials.
    fn losses(&self, logits: &Handle, first: usize, rows: usize) -> Handle {
        let vocab = self.shape.outputs;
        let (client, total) = (self.client, rows * vocab);
        let units = rows * LANES as usize;
        let vector = load_width(vocab);
        let (parts, lse) = (allocate(client, 2 * units, 4), allocate(client, rows, 4));
        // SAFETY: `logits` holds `rows` rows of the vocabulary, `targets` and `losses` as many rows
        // from `first` on; the others were allocated for what they are passed with, and a unit past
        // the last part or row does nothing.
        unsafe {
            row_parts::launch_unchecked(
                client,
                elementwise_cubes(client, units),
                CubeDim::new_1d(UNITS),
                vector,
                argument(logits, total),
                argument(&parts, 2 * units),
                (vocab / vector) as u32,
                units as u32,
                vector as u32,
            );
            row_losses::launch_unchecked(
                client,
                cubes_of(client, rows, FEW),
                CubeDim::new_1d(FEW),
                argument(logits, total),
                argument(&parts, 2 * units),
                argument(self.targets, self.shape.rows),
                argument(&self.losses, self.shape.rows),
                argument(&lse, rows),
                first as u32,
                rows as u32,
                vocab as u32,
            );
        }
        lse
    }

    /// Some rows of logits become their gradients.
    fn logit_gradients(&self, logits: &Handle, lse: &Handle, first: usize, rows: usize) {
        let vocab = self.shape.outputs;
        let total = rows * vocab;
        let vector = load_width(vocab);
        if total > 0 {
            // SAFETY: as in `losses`; a unit past the last logit does nothing.
            unsafe {
                logit_gradients::launch_unchecked(
                    self.client,
                    elementwise_cubes(self.client, total / vector),
                    CubeDim::new_1d(UNITS),
                    vector,
                    argument(logits, total),
                    argument(self.targets, self.shape.rows),
                    argument(lse, rows),
                    argument(&self.inverse, 1),
                    first as u32,
                    (vocab / vector) as u32,
                    (total / vector) as u32,
                    vector as u32,
                );
            }
        }
    }

    /// The mean of the losses.
    fn mean(&self) -> Result<Handle, KernelError> {
        let loss = allocate(self.client, 1, 4);
        // SAFETY: `losses` holds as many numbers as there are rows; one unit writes the one result.
        unsafe {
            mean_loss::launch_unchecked(
                self.client,
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(1),
                argument(&self.losses, self.shape.rows),
                argument(&self.inverse, 1),
                argument(&loss, 1),
                self.shape.rows as u32,
            );
        }
        Ok(loss)
    }
}
