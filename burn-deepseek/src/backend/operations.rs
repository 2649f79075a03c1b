//! The operations that a device may have kernels for, by name, and sets of them.

use burn::tensor::DType;

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
    /// On BF16 tensors. No device has one yet: the tables' rows say FP32 of their results, and a
    /// kernel that gives BF16 must say so in its row first.
    pub bf16: u32,
}

impl Supported {
    /// The operations that Flex has kernels for: all, in FP32, but the choice of experts, which is
    /// made on the host.
    pub const FLEX: Self = Self { f32: bits(FusedOp::ALL) & !bit(FusedOp::Route), bf16: 0 };
    /// The operations that every device of CubeCL has kernels for. One that they gain is named
    /// here.
    #[cfg(feature = "cube")]
    pub const CUBE: Self = Self {
        f32: bits(&[
            FusedOp::RmsNorm,
            FusedOp::Residual,
            FusedOp::Swiglu,
            FusedOp::Rope,
            FusedOp::MlaAbsorbed,
            FusedOp::Permute,
            FusedOp::Combine,
            FusedOp::GroupedLinear,
            FusedOp::Embedding,
            FusedOp::Route,
            FusedOp::AdamW,
            FusedOp::SumOfSquares,
            FusedOp::Fp8,
        ]),
        bf16: 0,
    };

    /// The operations that a device of CubeCL without matrix instructions of its own has besides.
    #[cfg(feature = "cube")]
    pub const PLAIN: Self = Self::CUBE.and(&[FusedOp::MlaAttention, FusedOp::LinearCrossEntropy]);

    /// The operations that a device of CUDA has kernels for besides: Burn lets its tensor cores
    /// round the operands of FP32 products to TF32, keeps attention's scores, and has no head without
    /// all logits.
    #[cfg(feature = "cube")]
    pub const CUDA: Self = Self::PLAIN.and(&[FusedOp::Linear]);

    /// The operations that a software renderer has besides: Burn's products go through shared
    /// memory, which it has not.
    #[cfg(feature = "cube")]
    pub const SOFTWARE: Self = Self::PLAIN.and(&[FusedOp::Linear]);

    /// These and some more, for FP32 tensors.
    #[cfg(feature = "cube")]
    const fn and(self, more: &[FusedOp]) -> Self {
        Self { f32: self.f32 | bits(more), bf16: self.bf16 }
    }

    /// Whether an operation on tensors of a type is one of them.
    pub fn has(self, operation: FusedOp, dtype: DType) -> bool {
        let bits = match dtype {
            DType::F32 => self.f32,
            DType::BF16 => self.bf16,
            _ => 0,
        };
        bits & bit(operation) != 0
    }

    /// Those that both have.
    #[cfg(feature = "remote")]
    pub fn common(self, other: Self) -> Self {
        Self { f32: self.f32 & other.f32, bf16: self.bf16 & other.bf16 }
    }

    /// Whether an operation is one of them for tensors of some type.
    #[cfg(feature = "remote")]
    pub fn any(self, operation: FusedOp) -> bool {
        (self.f32 | self.bf16) & bit(operation) != 0
    }
}

const _: () = assert!(FusedOp::ALL.len() <= 32, "a set of operations is 32 bits");

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Where this list changes, so does the meaning of what workers answer, and with it the version
    /// in `remote/connect.rs`.
    #[test]
    fn the_numbers_of_the_operations_are_those_of_version_5() {
        let names: Vec<String> = FusedOp::ALL.iter().map(|op| format!("{op:?}")).collect();
        assert_eq!(
            names.join(" "),
            "Linear RmsNorm Residual Swiglu Rope MlaAttention MlaAbsorbed Permute Combine \
             GroupedLinear Embedding LinearCrossEntropy AdamW SumOfSquares Route Fp8"
        );
    }

    #[test]
    fn a_set_has_its_operations_for_tensors_of_their_type() {
        let two = Supported { f32: bits(&[FusedOp::Swiglu, FusedOp::Rope]), bf16: 0 };
        for &operation in FusedOp::ALL {
            let expected = matches!(operation, FusedOp::Swiglu | FusedOp::Rope);
            assert_eq!(two.has(operation, DType::F32), expected);
            assert!(!two.has(operation, DType::BF16) && !two.has(operation, DType::F64));
            assert_eq!(Supported::FLEX.has(operation, DType::F32), operation != FusedOp::Route);
        }
    }
}
