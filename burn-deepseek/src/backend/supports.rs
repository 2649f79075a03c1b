//! Which operations a device has kernels for: the only place that chooses between the fused and the
//! composed form.

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};

use super::kernels::fused_kernels;

/// Names the operations of the table.
macro_rules! name_operations {
    (
        $(#[$($about:tt)*])*
        trait $Trait:ident;
        $($(#[$($what:tt)*])* $Operation:ident { $($kernels:tt)* })*
    ) => {
        /// An operation that a device may have kernels for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FusedOp {
            $($(#[$($what)*])* $Operation,)*
            /// FP8 casts and products, and rows on the wire.
            Fp8,
        }

        impl FusedOp {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$Operation,)* Self::Fp8];
        }
    };
}
fused_kernels!(name_operations);

/// Operations that a device has kernels for, by the type of their tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Supported {
    /// On FP32 tensors, one bit an operation.
    pub f32: u32,
    /// On BF16 tensors.
    pub bf16: u32,
}

impl Supported {
    /// The operations that Flex has kernels for: all, in FP32.
    pub const FLEX: Self = Self { f32: bits(FusedOp::ALL), bf16: 0 };
    /// The operations that CubeCL's devices have kernels for.
    #[cfg(feature = "cube")]
    pub const CUBE: Self = Self { f32: bits(&[FusedOp::Fp8]), bf16: 0 };

    /// Whether an operation on tensors of a type is one of them.
    pub fn has(self, operation: FusedOp, dtype: DType) -> bool {
        let bits = match dtype {
            DType::F32 => self.f32,
            DType::BF16 => self.bf16,
            _ => 0,
        };
        bits & bit(operation) != 0
    }

    /// The operations that a device has kernels for.
    pub fn on(device: &DispatchDevice) -> Self {
        match device {
            DispatchDevice::Flex(_) => Self::FLEX,
            #[cfg(feature = "cube")]
            DispatchDevice::Cube(_) => Self::CUBE,
            #[cfg(feature = "remote")]
            DispatchDevice::Remote(device) => super::remote::served(device),
            DispatchDevice::Autodiff(device) => Self::on(device),
            #[allow(unreachable_patterns)] // the other backends are features
            _ => Self::default(),
        }
    }
}

const fn bit(operation: FusedOp) -> u32 {
    1 << operation as u32
}

const fn bits(operations: &[FusedOp]) -> u32 {
    let (mut bits, mut next) = (0, 0);
    while next < operations.len() {
        bits |= bit(operations[next]);
        next += 1;
    }
    bits
}

/// Whether the fused form of an operation exists for the device and type of `x`; without it the
/// operation is composed.
pub fn supports<const D: usize>(operation: FusedOp, x: &Tensor<D>) -> bool {
    Supported::on(x.device().as_dispatch()).has(operation, x.dtype())
}

/// Whether the FP8 operations exist on a device: Flex, every runtime of CubeCL, and the devices of
/// a server that serves them.
pub fn supports_fp8(device: &Device) -> bool {
    Supported::on(device.as_dispatch()).has(FusedOp::Fp8, DType::F32)
}

/// Whether a device is the memory of this process.
pub(super) fn is_host(device: &DispatchDevice) -> bool {
    match device {
        DispatchDevice::Flex(_) => true,
        DispatchDevice::Autodiff(device) => is_host(device),
        #[allow(unreachable_patterns)] // the other backends are features
        _ => false,
    }
}
