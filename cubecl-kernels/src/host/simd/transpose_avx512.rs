//! Rows and columns of 16 x 16 words exchanged in the registers of AVX-512.

// Loops run over the indices of fixed arrays: so arrays stay in registers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

/// Exchanges rows and columns of 16 x 16 words: pairs of words, pairs of pairs, then quarters of
/// registers.
///
/// # Safety
/// AVX-512 F is there.
#[inline(always)]
pub(crate) unsafe fn transpose(x: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: registers alone, and the caller vouches for the instruction set.
    unsafe {
        let zero = _mm512_setzero_si512();
        let (mut a, mut b, mut y) = ([zero; 16], [zero; 16], [zero; 16]);
        for half in 0..8 {
            let i = 2 * half;
            a[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
            a[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
        }
        for quarter in 0..4 {
            let i = 4 * quarter;
            b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
            b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
            b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
            b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
        }
        // Now lane q of b[4 g + c] holds column 4 q + c of rows 4 g .. 4 g + 4.
        for c in 0..4 {
            let even = [
                _mm512_shuffle_i32x4::<0x88>(b[c], b[4 + c]),
                _mm512_shuffle_i32x4::<0x88>(b[8 + c], b[12 + c]),
            ];
            let odd = [
                _mm512_shuffle_i32x4::<0xDD>(b[c], b[4 + c]),
                _mm512_shuffle_i32x4::<0xDD>(b[8 + c], b[12 + c]),
            ];
            y[c] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
            y[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
            y[8 + c] = _mm512_shuffle_i32x4::<0xDD>(even[0], even[1]);
            y[12 + c] = _mm512_shuffle_i32x4::<0xDD>(odd[0], odd[1]);
        }
        y
    }
}
