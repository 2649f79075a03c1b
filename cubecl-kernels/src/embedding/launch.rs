//! Checks and launches.

use super::kernel::{QUAD, clear, link_rows, sum_lists};
use crate::definition::KernelError;
use crate::device::{UNITS, addressable, allocate, argument, check_handle, elementwise_cubes};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// The gradient of the table that rows were looked up in, `dtable[v] = sum of dy[r] over the rows r
/// whose token is v`, in the order of the rows; zero where a token has none.
///
/// A token that is not below `vocab` adds to nothing.
///
/// # Shapes
/// `dy` FP32 `[rows, width]`, `tokens` 32-bit `[rows]` -> FP32 `[vocab, width]`.
///
/// # Errors
/// [`KernelError`] where a buffer is too small or a size cannot be addressed.
pub fn embedding_backward(
    client: &Client,
    dy: &Handle,
    tokens: &Handle,
    rows: usize,
    vocab: usize,
    width: usize,
) -> Result<Handle, KernelError> {
    const OP: &str = "embedding_backward";
    let count = check_handle(OP, "dy", dy, 4, &[rows, width])?;
    check_handle(OP, "tokens", tokens, 4, &[rows])?;
    let total = addressable(OP, "dtable", &[vocab, width])?;
    let dtable = allocate(client, total, 4);
    if total == 0 {
        return Ok(dtable);
    }
    let (next, first) = (allocate(client, rows, 4), allocate(client, rows, 4));
    let quads = rows * width.div_ceil(QUAD as usize);
    let units = CubeDim::new_1d(UNITS);
    // SAFETY: every buffer was found to hold, or allocated for, the numbers that its kernel is told
    // of, and a unit past the last of them does nothing. A list's rows are below `rows` and rise, so
    // that following it ends; a token is a row of the table or passed over.
    unsafe {
        let cubes = elementwise_cubes(client, total);
        clear::launch_unchecked(client, cubes, units, argument(&dtable, total), total as u32);
        if count > 0 {
            link_rows::launch_unchecked(
                client,
                elementwise_cubes(client, rows),
                units,
                argument(tokens, rows),
                argument(&next, rows),
                argument(&first, rows),
                rows as u32,
            );
            sum_lists::launch_unchecked(
                client,
                elementwise_cubes(client, quads),
                units,
                argument(dy, count),
                argument(tokens, rows),
                argument(&next, rows),
                argument(&first, rows),
                argument(&dtable, total),
                quads as u32,
                width as u32,
                vocab as u32,
            );
        }
    }
    Ok(dtable)
}
