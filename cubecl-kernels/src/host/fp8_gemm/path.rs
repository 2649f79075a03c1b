//! Which of the microkernels runs: the best that this machine has, found at run time.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::host::simd::{Isa, isa};

/// A form of the microkernel, from the most demanding to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum GemmPath {
    /// BF16 pairs into FP32 (`vdpbf16ps`); needs AVX512-BF16, and VBMI for decoding.
    Avx512Bf16,
    /// FP32 products in AVX-512.
    Avx512,
    /// FP32 products in AVX2 with FMA.
    Avx2,
    /// FP32 products in what the target always has.
    Baseline,
}

static LIMIT: AtomicU8 = AtomicU8::new(GemmPath::Avx512Bf16 as u8);

impl GemmPath {
    /// Gives every path that runs on this machine, the best first.
    pub fn available() -> impl Iterator<Item = Self> {
        let best = Self::best();
        [Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Baseline]
            .into_iter()
            .filter(move |&path| path >= best)
    }

    /// Keeps the products of this process to `limit` and lesser paths, so that a bench can time
    /// those on a better machine.
    pub fn limit(limit: Self) {
        LIMIT.store(limit as u8, Ordering::Relaxed);
    }

    /// Gives the path that products take.
    pub fn current() -> Self {
        let limit = LIMIT.load(Ordering::Relaxed);
        Self::available().find(|&path| path as u8 >= limit).unwrap_or(Self::Baseline)
    }

    fn best() -> Self {
        match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512
                if is_x86_feature_detected!("avx512bf16")
                    && is_x86_feature_detected!("avx512vbmi") =>
            {
                Self::Avx512Bf16
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self::Avx2,
            Isa::Baseline => Self::Baseline,
        }
    }
}
