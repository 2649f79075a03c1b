//! Rows and columns of 16 x 16 numbers exchanged, for every instruction set.

/// Rows, and columns.
const SIDE: usize = 16;

/// What [`Simd::transpose`](super::Simd::transpose) does, without registers.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn plain(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    for i in 0..SIDE {
        for r in 0..SIDE {
            // SAFETY: the caller vouches for both.
            unsafe { *to.add(i * to_stride + r) = *from.add(r * from_stride + i) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::transpose8;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{avx2, avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    // Loops over the indices of fixed arrays keep them in registers.
    #![allow(clippy::needless_range_loop)]

    use std::arch::x86_64::*;

    use super::SIDE;
    use crate::host::simd::transpose_avx512;

    /// As [`plain`](super::plain), in registers of 512 bits.
    ///
    /// # Safety
    /// As there, and AVX-512 F is there.
    #[inline(always)]
    pub(in super::super) unsafe fn avx512(
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: the instruction set is there, as the caller promises, and every access is to
        // one of the rows.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); SIDE];
            for i in 0..SIDE {
                rows[i] = _mm512_loadu_si512(from.add(i * from_stride).cast());
            }
            let columns = transpose_avx512(rows);
            for i in 0..SIDE {
                _mm512_storeu_si512(to.add(i * to_stride).cast(), columns[i]);
            }
        }
    }

    /// As [`plain`](super::plain), in registers of 256 bits.
    ///
    /// # Safety
    /// As there, and AVX2 is there.
    #[inline(always)]
    pub(in super::super) unsafe fn avx2(
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: the instruction set is there, as the caller promises; every load and store
        // takes eight numbers of one half of a row.
        unsafe {
            for part in 0..4 {
                let (row, column) = (part / 2 * 8, part % 2 * 8);
                let mut block = [_mm256_setzero_ps(); 8];
                for i in 0..8 {
                    block[i] = _mm256_loadu_ps(from.add((row + i) * from_stride + column));
                }
                let block = transpose8(block);
                for i in 0..8 {
                    _mm256_storeu_ps(to.add((column + i) * to_stride + row), block[i]);
                }
            }
        }
    }

    /// Exchanges rows and columns of 8 x 8 numbers.
    ///
    /// # Safety
    /// AVX2 is there.
    #[inline(always)]
    pub(crate) unsafe fn transpose8(x: [__m256; 8]) -> [__m256; 8] {
        // SAFETY: registers alone, and the caller vouches for AVX2.
        unsafe {
            let zero = _mm256_setzero_ps();
            let (mut a, mut b, mut y) = ([zero; 8], [zero; 8], [zero; 8]);
            for half in 0..4 {
                let i = 2 * half;
                a[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
                a[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
            }
            for half in 0..2 {
                let i = 4 * half;
                b[i] = _mm256_shuffle_ps::<0x44>(a[i], a[i + 2]);
                b[i + 1] = _mm256_shuffle_ps::<0xEE>(a[i], a[i + 2]);
                b[i + 2] = _mm256_shuffle_ps::<0x44>(a[i + 1], a[i + 3]);
                b[i + 3] = _mm256_shuffle_ps::<0xEE>(a[i + 1], a[i + 3]);
            }
            for i in 0..4 {
                y[i] = _mm256_permute2f128_ps::<0x20>(b[i], b[i + 4]);
                y[i + 4] = _mm256_permute2f128_ps::<0x31>(b[i], b[i + 4]);
            }
            y
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::host::simd::*;

    fn check<S: Simd>() {
        let start: Vec<f32> = (0..LANES * 20).map(|x| x as f32).collect();
        let mut to = vec![-1.0f32; LANES * 18];
        // SAFETY: called where the instruction set has been found; both have room for 16 rows.
        unsafe { S::transpose(start.as_ptr(), 20, to.as_mut_ptr(), 18) };
        for r in 0..LANES {
            for c in 0..LANES {
                assert_eq!(to[r * 18 + c], start[c * 20 + r], "{r} {c}");
            }
            assert_eq!(to[r * 18 + LANES..][..2], [-1.0; 2], "nothing else is written");
        }
    }

    #[test]
    fn rows_become_columns() {
        check::<Plain>();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                check::<Avx2>();
            }
            if is_x86_feature_detected!("avx512f") {
                check::<Avx512>();
            }
        }
    }
}
