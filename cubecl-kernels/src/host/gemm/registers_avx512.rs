//! Registers of AVX-512 that packing works on: codes decoded by table, numbers rounded to
//! BF16.

// Loops run over the indices of fixed arrays, and nothing is a closure: so arrays stay in
// registers, and everything in the one function that has the features.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;
use std::sync::LazyLock;

use crate::definition::{Fp8Format, decode_fp8};
use crate::host::simd::LANES;

/// High and low bytes of the BF16 value of each magnitude.
struct Table {
    high: [u8; 128],
    low: [u8; 128],
}

static TABLES: LazyLock<[Table; 2]> = LazyLock::new(|| {
    [Fp8Format::E4M3, Fp8Format::E5M2].map(|format| {
        let byte =
            |code: usize, byte: usize| decode_fp8(code as u8, format).to_bits().to_le_bytes()[byte];
        Table {
            high: std::array::from_fn(|code| byte(code, 3)),
            low: std::array::from_fn(|code| byte(code, 2)),
        }
    })
});

/// A [`Table`] in registers.
#[derive(Clone, Copy)]
pub(super) struct Decoder {
    high: [__m512i; 2],
    low: [__m512i; 2],
}

impl Decoder {
    /// The decoder of a format.
    ///
    /// # Safety
    /// AVX-512 F is there.
    #[inline(always)]
    pub(super) unsafe fn new(format: Fp8Format) -> Self {
        let table = &TABLES[usize::from(format == Fp8Format::E5M2)];
        // SAFETY: 128 bytes each, and the caller vouches for the instruction set.
        unsafe { Self { high: halves(&table.high), low: halves(&table.low) } }
    }

    /// Decodes 64 codes to BF16: of each 128-bit lane, the lower eight, and the upper eight.
    ///
    /// # Safety
    /// AVX-512 F, BW and VBMI are there.
    #[inline(always)]
    pub(super) unsafe fn decode(&self, codes: __m512i) -> [__m512i; 2] {
        // SAFETY: registers alone, and the caller vouches for the instruction set. The lookup
        // ignores the sign bit, which is then put back.
        unsafe {
            let high = _mm512_permutex2var_epi8(self.high[0], codes, self.high[1]);
            let high = _mm512_ternarylogic_epi32::<0xF8>(high, codes, _mm512_set1_epi8(-128));
            let low = _mm512_permutex2var_epi8(self.low[0], codes, self.low[1]);
            [_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)]
        }
    }
}

/// Both halves of 128 bytes.
///
/// # Safety
/// AVX-512 F is there.
#[inline(always)]
unsafe fn halves(bytes: &[u8; 128]) -> [__m512i; 2] {
    // SAFETY: unaligned loads of each half; the caller vouches for the instruction set.
    unsafe {
        [_mm512_loadu_si512(bytes.as_ptr().cast()), _mm512_loadu_si512(bytes[64..].as_ptr().cast())]
    }
}

/// The lowest `len` of `LANES` lanes, of none, or of all.
#[inline(always)]
pub(super) fn first_lanes(len: usize) -> __mmask16 {
    if len >= LANES { !0 } else { (1 << len) - 1 }
}

/// The lowest `len` of 64 bytes.
#[inline(always)]
pub(super) fn first_bytes(len: usize) -> __mmask64 {
    if len >= 64 { !0 } else { (1 << len) - 1 }
}

/// Rounds two times 16 numbers to 32 BF16, the first in the lower half.
///
/// # Safety
/// AVX-512 F and BF16 are there.
#[inline(always)]
pub(super) unsafe fn round(first: __m512, second: __m512) -> __m512i {
    // SAFETY: both types are 512 bits, and the caller vouches for the instruction set.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}

/// What rounding to BF16 (to nearest, ties to even) leaves of 16 numbers: exact, and zero where
/// BF16 is infinite.
///
/// # Safety
/// AVX-512 F is there.
#[inline(always)]
pub(super) unsafe fn rest(x: __m512) -> __m512 {
    // SAFETY: registers alone, and the caller vouches for the instruction set.
    unsafe {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
        let upper = _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed());
        let high = _mm512_and_si512(_mm512_add_epi32(bits, half), upper);
        let magnitude = _mm512_and_si512(high, _mm512_set1_epi32(0x7FFF_FFFF));
        let finite = _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(0x7F80_0000));
        _mm512_maskz_sub_ps(finite, x, _mm512_castsi512_ps(high))
    }
}
