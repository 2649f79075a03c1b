//! The sum of squares: checks and launches.

use super::kernel::{square_parts, square_total};
use crate::definition::KernelError;
use crate::device::{allocate, argument, check_handle, cubes_of, load_width};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Units that sum at most; their sums are summed by one.
const MOST_PARTS: usize = 1024;
/// Entries that a unit sums at least, where there are as many.
const LEAST: usize = 32;
const UNITS: u32 = 32;

/// `sum(x^2)` as an FP64 number, summed in FP32 in one order by [`MOST_PARTS`] units and then by one:
/// devices without FP64 have it, and nobody reads it before all sums of a model are there.
///
/// # Shapes
/// `x` FP32 `[count]` -> 32-bit `[2]`, the lower half first.
///
/// # Errors
/// [`KernelError`] where the buffer is too small or the size cannot be addressed.
pub fn sum_of_squares(client: &Client, x: &Handle, count: usize) -> Result<Handle, KernelError> {
    check_handle("sum_of_squares", "x", x, 4, &[count])?;
    let vector = load_width(count);
    let units = count.div_ceil(LEAST).clamp(1, MOST_PARTS);
    let (parts, sum) = (allocate(client, units, 4), allocate(client, 2, 4));
    // SAFETY: `x` was found to hold `count` numbers and the others were allocated for what they are
    // passed with; a unit past the last does nothing.
    unsafe {
        square_parts::launch_unchecked(
            client,
            cubes_of(client, units, UNITS),
            CubeDim::new_1d(UNITS),
            vector,
            argument(x, count),
            argument(&parts, units),
            units as u32,
            (count / vector) as u32,
            vector as u32,
        );
        square_total::launch_unchecked(
            client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(1),
            argument(&parts, units),
            argument(&sum, 2),
            units as u32,
        );
    }
    Ok(sum)
}
