//! What the FP8 functions refuse.

use burn::tensor::{DType, Device};

use crate::backend::supports_fp8;

/// Why an FP8 function refused its arguments; each variant names the argument and says what would
/// be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fp8Error {
    /// A tensor is not FP32.
    #[error("`{argument}` is {actual:?}; FP8 is cast from F32: cast it first")]
    Dtype {
        /// The argument at fault.
        argument: &'static str,
        /// Its type.
        actual: DType,
    },
    /// Two sizes that must be equal are not.
    #[error("`{argument}` has {actual} {what}, it must have {expected}")]
    Size {
        /// The argument at fault.
        argument: &'static str,
        /// What is counted.
        what: &'static str,
        /// The right count.
        expected: usize,
        /// Its count.
        actual: usize,
    },
    /// Two tensors are on different devices.
    #[error("`{argument}` is on {actual}, the others are on {expected}")]
    Device {
        /// The argument at fault.
        argument: &'static str,
        /// Where the others are.
        expected: String,
        /// Where it is.
        actual: String,
    },
    /// The device has no FP8 operations.
    #[error("{device} has no FP8 operations: take a device of Flex or CubeCL")]
    Unsupported {
        /// The device.
        device: String,
    },
}

/// Checks that values can be cast to FP8 where they are.
pub(super) fn check_castable(
    argument: &'static str,
    dtype: DType,
    device: &Device,
) -> Result<(), Fp8Error> {
    if !supports_fp8(device) {
        return Err(Fp8Error::Unsupported { device: format!("{device:?}") });
    }
    if dtype != DType::F32 {
        return Err(Fp8Error::Dtype { argument, actual: dtype });
    }
    Ok(())
}

/// Checks that two counts agree.
pub(super) fn check_size(
    argument: &'static str,
    what: &'static str,
    expected: usize,
    actual: usize,
) -> Result<(), Fp8Error> {
    if expected == actual {
        Ok(())
    } else {
        Err(Fp8Error::Size { argument, what, expected, actual })
    }
}

/// Checks that two tensors are together.
pub(super) fn check_device(
    argument: &'static str,
    expected: &Device,
    actual: &Device,
) -> Result<(), Fp8Error> {
    if expected == actual {
        return Ok(());
    }
    Err(Fp8Error::Device {
        argument,
        expected: format!("{expected:?}"),
        actual: format!("{actual:?}"),
    })
}
