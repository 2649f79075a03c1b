//! The types that real matrices have on a device.

use crate::definition::KernelError;
use cubecl::features::TypeUsage;
use cubecl::prelude::*;

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
