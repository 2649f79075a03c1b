//! What a path is worth on this machine at best: its instruction alone, on all threads at once.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::path::GemmPath;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::tile_unit::Amx;
use super::tile_unit::{BLOCK, Block, Emulated, STEP, STEP_WORDS, Segment, Sums, Tiles};
use crate::definition::KernelError;
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Avx2, Avx512};
use crate::host::simd::{Isa, LANES, Plain, Simd, isa};

/// How long each thread goes on; the best turn within it counts.
const SPAN: Duration = Duration::from_millis(20);
/// Steps of each sum in a turn of a vector's instruction.
const STEPS: usize = 500;
/// Sums that do not wait for each other: more than the latency needs, and no more than registers
/// hold. Those of AVX2 are two registers of sixteen each, the others' one of 32, and what the
/// baseline has.
#[cfg(target_arch = "x86_64")]
const AVX512_SUMS: usize = 12;
#[cfg(target_arch = "x86_64")]
const AVX2_SUMS: usize = 5;
const PLAIN_SUMS: usize = 3;
#[cfg(target_arch = "x86_64")]
const PAIR_SUMS: usize = 12;
/// Steps along the depth of a turn's block on tiles: 16 KiB, which both operands share.
const TILE_STEPS: usize = 8;

impl GemmPath {
    /// Gives the path of FP32 products in the widest registers that are used here.
    pub fn of_fp32() -> Self {
        match isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self::Avx2,
            Isa::Baseline => Self::Baseline,
        }
    }

    /// Operations a second that all threads of the pool reach together where the path's
    /// instruction has its operands at hand: a ceiling of its products. A multiplication and an
    /// addition are two operations. It is measured, which takes some 20 ms.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where this machine has not the path.
    ///
    /// ```
    /// use cubecl_kernels::host::GemmPath;
    ///
    /// assert!(GemmPath::of_fp32().peak_flops().unwrap() > 1e7);
    /// ```
    pub fn peak_flops(self) -> Result<f64, KernelError> {
        if !self.is_available() {
            return Err(KernelError::Invalid {
                op: "peak_flops",
                argument: "path",
                requirement: "must be one of this machine's",
            });
        }
        // All at once: threads may share a core, and cores a limit of power.
        Ok(rayon::broadcast(|_| self.peak_of_a_thread()).into_iter().sum())
    }

    /// Operations a second of this thread.
    fn peak_of_a_thread(self) -> f64 {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => on_tiles::<Amx>(),
            Self::AmxEmulated => on_tiles::<Emulated>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => best(2 * 2 * LANES * PAIR_SUMS * STEPS, || {
                // SAFETY: the caller has found the path on this machine.
                unsafe { pairs() }
            }),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => best(2 * LANES * AVX512_SUMS * STEPS, || {
                // SAFETY: as above.
                unsafe { avx512() }
            }),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => best(2 * LANES * AVX2_SUMS * STEPS, || {
                // SAFETY: as above.
                unsafe { avx2() }
            }),
            // On other machines no other path is there.
            _ => best(2 * LANES * PLAIN_SUMS * STEPS, vectors::<Plain, PLAIN_SUMS>),
        }
    }
}

/// The best rate of turns of so many operations each.
fn best(operations: usize, turn: impl Fn() -> Duration) -> f64 {
    let (began, mut least) = (Instant::now(), Duration::MAX);
    while began.elapsed() < SPAN {
        least = least.min(turn());
    }
    operations as f64 / least.as_secs_f64().max(1e-9)
}

/// A turn of FP32 multiply-adds on `SUMS` vectors that do not wait for each other.
#[inline(always)]
fn vectors<S: Simd, const SUMS: usize>() -> Duration {
    let x = black_box(S::splat(1.0));
    let start = Instant::now();
    // Seen from outside before and after: the sums are made within the time.
    let mut sums = black_box([x; SUMS]);
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = S::madd(x, x, *sum);
        }
    }
    black_box(&sums);
    start.elapsed()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512() -> Duration {
    vectors::<Avx512, AVX512_SUMS>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2() -> Duration {
    vectors::<Avx2, AVX2_SUMS>()
}

/// A turn of `vdpbf16ps`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs() -> Duration {
    use std::arch::x86_64::*;

    let x = black_box(_mm512_set1_ps(1.0));
    // SAFETY: the types are of one size.
    let x = unsafe { std::mem::transmute::<__m512, __m512bh>(x) };
    let start = Instant::now();
    let mut sums = black_box([_mm512_setzero_ps(); PAIR_SUMS]);
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, x, x);
        }
    }
    black_box(&sums);
    start.elapsed()
}

/// Words of a step of a block's operand, from the start of a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Words([u32; BLOCK * STEP_WORDS]);

/// The rate of blocks on a thread's tile unit, their operands in its first cache.
fn on_tiles<T: Tiles>() -> f64 {
    // Pairs of ones.
    let operand = black_box([Words([0x3f80_3f80; BLOCK * STEP_WORDS]); TILE_STEPS]);
    let mut sums = Sums([[0.0; BLOCK]; BLOCK]);
    let block = Block {
        left: operand.as_ptr().cast(),
        right: operand.as_ptr().cast(),
        steps: TILE_STEPS,
        next: Segment::NONE,
        sums: &raw mut sums,
    };
    let unit = T::new();
    let rate = best(2 * BLOCK * BLOCK * STEP * TILE_STEPS, || {
        let start = Instant::now();
        // SAFETY: each operand has `TILE_STEPS` steps of `BLOCK` rows, and the sums their place;
        // operands are only read.
        unsafe { unit.run(Some(&block), None) };
        start.elapsed()
    });
    drop(unit);
    black_box(&sums);
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bounds are loose: the machine may do other work.
    #[test]
    fn every_path_here_has_a_peak_and_no_other() {
        for path in GemmPath::ALL {
            match path.peak_flops() {
                Ok(flops) => {
                    assert!(path.is_available());
                    assert!((1e6..1e15).contains(&flops), "{path}: {flops}");
                }
                Err(error) => {
                    assert!(!path.is_available());
                    let expected = "peak_flops: `path` must be one of this machine's";
                    assert_eq!(error.to_string(), expected);
                }
            }
        }
    }

    #[test]
    fn fp32_has_a_path_that_is_here() {
        let path = GemmPath::of_fp32();
        assert!(path.is_available());
        assert!([GemmPath::Avx512, GemmPath::Avx2, GemmPath::Baseline].contains(&path));
    }

    #[test]
    fn a_block_of_ones_sums_its_depth() {
        let operand = [Words([0x3f80_3f80; BLOCK * STEP_WORDS]); TILE_STEPS];
        let mut sums = Sums([[0.0; BLOCK]; BLOCK]);
        let pointer = operand.as_ptr().cast();
        let sums_at = &raw mut sums;
        let next = Segment::NONE;
        let block = Block { left: pointer, right: pointer, steps: TILE_STEPS, next, sums: sums_at };
        // SAFETY: as in `on_tiles`.
        unsafe { Emulated::new().run(Some(&block), None) };
        assert!(sums.0.iter().flatten().all(|&sum| sum == (TILE_STEPS * STEP) as f32));
    }
}
