//! What `vdpbf16ps` is worth beside FP32 on this processor, measured in its registers.

use std::arch::x86_64::*;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Sums that do not wait for each other: more than either instruction's latency needs.
const CHAINS: usize = 12;
/// Steps of each chain in a turn.
const STEPS: usize = 500;
/// Turns, of which the best counts.
const TURNS: usize = 10;

/// Gives the rate of products of pairs as a multiple of FP32's; takes some 50 us.
///
/// Ratios of 0.5 and 2 were met: noise does not move them across 1, so that every run on a machine
/// takes the same path.
///
/// Call it where AVX512-BF16 has been found.
pub(super) fn pairs_beside_fp32() -> f64 {
    let (mut fp32, mut pairs) = (Duration::MAX, Duration::MAX);
    for _ in 0..TURNS {
        // SAFETY: the caller has found both instruction sets.
        unsafe {
            fp32 = fp32.min(time_fp32());
            pairs = pairs.min(time_pairs());
        }
    }
    // A pair is two products.
    2.0 * fp32.as_secs_f64() / pairs.as_secs_f64().max(1e-9)
}

macro_rules! time {
    ($name:ident, $step:expr) => {
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn $name() -> Duration {
            let one = black_box(_mm512_set1_ps(1.0));
            let start = Instant::now();
            // Seen from outside before and after: the sums are made within the time.
            let mut sums = black_box([one; CHAINS]);
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = $step(*sum, one);
                }
            }
            black_box(&sums);
            start.elapsed()
        }
    };
}

time!(time_fp32, |sum, x| _mm512_fmadd_ps(x, x, sum));
time!(time_pairs, |sum, x| {
    // SAFETY: the types are of one size.
    let pairs = unsafe { std::mem::transmute::<__m512, __m512bh>(x) };
    _mm512_dpbf16_ps(sum, pairs, pairs)
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_found_in_no_time() {
        if !is_x86_feature_detected!("avx512f") || !is_x86_feature_detected!("avx512bf16") {
            println!("skipped: no AVX512-BF16 to be timed");
            return;
        }
        let ratio = pairs_beside_fp32();
        assert!((0.1..10.0).contains(&ratio), "{ratio}");
    }
}
