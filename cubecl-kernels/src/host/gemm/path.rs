//! The microkernels as values: their names, and which of them this machine has.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use super::tile_unit::permission;
use crate::definition::KernelError;
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Isa, isa};

/// A form of the microkernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GemmPath {
    /// BF16 pairs on a tile unit (AMX); needs AVX512-BF16 and VBMI beside it, and Linux.
    Amx,
    /// The bits of [`GemmPath::Amx`] without the unit, on any machine, slowly: for tests.
    AmxEmulated,
    /// BF16 pairs into FP32 (`vdpbf16ps`); needs AVX512-BF16, and VBMI for decoding.
    Avx512Bf16,
    /// FP32 products in AVX-512.
    Avx512,
    /// FP32 products in AVX2 with FMA.
    Avx2,
    /// FP32 products in what the target always has.
    Baseline,
}

/// What [`GemmPath::force`] was asked for: the path's place among all, and one; or none.
static FORCED: AtomicU8 = AtomicU8::new(0);

impl GemmPath {
    /// Every path.
    pub const ALL: [Self; 6] =
        [Self::Amx, Self::AmxEmulated, Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Baseline];

    /// Its name, as `CUBECL_KERNELS_ISA` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::AmxEmulated => "amx-emulated",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Baseline => "baseline",
        }
    }

    /// Gives the path of this name.
    ///
    /// ```
    /// use cubecl_kernels::host::GemmPath;
    ///
    /// assert_eq!(GemmPath::named("amx-emulated"), Some(GemmPath::AmxEmulated));
    /// assert_eq!(GemmPath::named("sse"), None);
    /// ```
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.name() == name)
    }

    /// Whether it runs on this machine. For [`GemmPath::Amx`] the operating system is asked for
    /// permission.
    pub fn is_available(self) -> bool {
        match self {
            Self::Amx => Self::Avx512Bf16.is_available() && permission().is_ok(),
            Self::AmxEmulated | Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                isa() == Isa::Avx512
                    && is_x86_feature_detected!("avx512bf16")
                    && is_x86_feature_detected!("avx512vbmi")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => isa() == Isa::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => isa() != Isa::Baseline,
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Gives every path that runs on this machine.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|path| path.is_available())
    }

    /// Has all products of this process take this path from now on, so that a bench can time it.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where this machine has it not.
    pub fn force(self) -> Result<(), KernelError> {
        if !self.is_available() {
            return Err(KernelError::Invalid {
                op: "force",
                argument: "path",
                requirement: "must be one of this machine's",
            });
        }
        FORCED.store(self as u8 + 1, Ordering::Relaxed);
        Ok(())
    }

    /// The path that [`GemmPath::force`] was asked for.
    pub(super) fn forced() -> Option<Self> {
        let forced = usize::from(FORCED.load(Ordering::Relaxed));
        forced.checked_sub(1).map(|place| Self::ALL[place])
    }

    /// Whether it computes on FP32 words.
    pub(super) fn has_words(self) -> bool {
        matches!(self, Self::Avx512 | Self::Avx2 | Self::Baseline)
    }

    /// Whether it computes on tiles.
    pub(super) fn has_tiles(self) -> bool {
        matches!(self, Self::Amx | Self::AmxEmulated)
    }
}

impl fmt::Display for GemmPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_name_and_place() {
        for (place, path) in GemmPath::ALL.into_iter().enumerate() {
            assert_eq!(GemmPath::named(path.name()), Some(path));
            assert_eq!(path as usize, place);
        }
        assert_eq!(GemmPath::named(""), None);
    }

    #[test]
    fn a_path_that_is_not_there_is_refused() {
        for path in GemmPath::ALL.into_iter().filter(|path| !path.is_available()) {
            let error = path.force().unwrap_err();
            assert_eq!(error.to_string(), "force: `path` must be one of this machine's");
        }
        assert_eq!(GemmPath::forced(), None);
    }
}
