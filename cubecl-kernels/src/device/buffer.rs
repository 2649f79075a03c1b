//! The buffers of a launch: checked against their shapes, allocated, and passed to a kernel.

use crate::definition::{KernelError, element_count};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// The number of elements of `shape`, which a kernel addresses with 32 bits.
///
/// # Errors
/// [`KernelError::Overflow`] where it has more.
pub(crate) fn addressable(
    op: &'static str,
    argument: &'static str,
    shape: &[usize],
) -> Result<usize, KernelError> {
    // The largest row a cube may overhang is 256 elements of a tile: keep those in 32 bits too.
    match element_count(op, argument, shape)? {
        count if count <= (u32::MAX - (1 << 16)) as usize => Ok(count),
        _ => Err(KernelError::Overflow { op, argument, shape: shape.to_vec() }),
    }
}

/// Checks that a buffer holds at least `shape` elements of `element_size` bytes; gives their
/// number.
///
/// # Errors
/// [`KernelError::Length`] where it is too small, [`KernelError::Overflow`] where the shape cannot
/// be addressed.
pub(crate) fn check_handle(
    op: &'static str,
    argument: &'static str,
    handle: &Handle,
    element_size: usize,
    shape: &[usize],
) -> Result<usize, KernelError> {
    let expected = addressable(op, argument, shape)?;
    let actual = (handle.size_in_used() as usize) / element_size;
    if actual >= expected {
        return Ok(expected);
    }
    Err(KernelError::Length { op, argument, shape: shape.to_vec(), expected, actual })
}

/// A buffer of `shape` words or FP32 numbers, not set to anything; never without any byte, which
/// some runtimes refuse.
pub(crate) fn allocate(client: &Client, count: usize, element_size: usize) -> Handle {
    client.empty((count.max(1) * element_size).next_multiple_of(4))
}

/// A buffer as a kernel's argument, of which the kernel may touch `count` elements: as many as it
/// was allocated for, or as [`check_handle`] found in it.
pub(crate) fn argument(handle: &Handle, count: usize) -> BufferArg {
    // SAFETY: the length decides what a launch may touch, and every caller passes that of a handle
    // that it allocated for `count` elements or that `check_handle` found to hold them.
    unsafe { BufferArg::from_raw_parts(handle.clone(), count.max(1)) }
}
