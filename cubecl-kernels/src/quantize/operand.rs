//! Buffers of quantized matrices on a device, and the checks that every launch makes of a buffer.

use crate::definition::{KernelError, element_count};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// The type of a real matrix's elements on a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, where the runtime has them: WGSL has not.
    Bf16,
}

impl Element {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Refuses a type that the client's runtime cannot load or store.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] for `argument`.
    pub(crate) fn check(
        self,
        client: &Client,
        op: &'static str,
        argument: &'static str,
    ) -> Result<(), KernelError> {
        use cubecl::features::TypeUsage;
        let stored = match self {
            Self::F32 => return Ok(()),
            Self::Bf16 => half::bf16::supported_uses(client),
        };
        if stored.contains(TypeUsage::Buffer) && stored.contains(TypeUsage::Conversion) {
            return Ok(());
        }
        Err(KernelError::Invalid {
            op,
            argument,
            requirement: "must be F32: this device has no BF16",
        })
    }
}

/// Codes of one orientation and their scales, on a device.
#[derive(Debug, Clone)]
pub struct DeviceCodes {
    /// Words of four codes.
    pub codes: Handle,
    /// FP32 multipliers.
    pub scales: Handle,
}

/// A weight's codes in both orientations, sharing one table of scales, on a device.
#[derive(Debug, Clone)]
pub struct DeviceBlocks {
    /// `[experts, n, words(k)]`.
    pub codes: Handle,
    /// `[experts, k, words(n)]`.
    pub transposed: Handle,
    /// `[experts, tiles(n), tiles(k)]`.
    pub scales: Handle,
}

/// Elements of `shape`, which a kernel addresses with 32 bits.
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

/// A buffer as a kernel's argument.
pub(crate) fn argument(handle: &Handle, count: usize) -> BufferArg {
    // SAFETY: every caller passes a handle that it allocated for `count` elements or that
    // `check_handle` found large enough.
    unsafe { BufferArg::from_raw_parts(handle.clone(), count.max(1)) }
}
