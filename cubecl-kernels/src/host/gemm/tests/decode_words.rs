//! Codes and rounded numbers as FP32 words, on every instruction set of this machine.

use crate::definition::{Fp8Format, decode_fp8};
use crate::host::gemm::decode_words::{CODES, DecodeWords};
#[cfg(target_arch = "x86_64")]
use crate::host::simd::{Avx2, Avx512};
use crate::host::simd::{LANES, Plain, round_to_bf16};

fn check<S: DecodeWords>() {
    // Every code, in an order in which neighbours differ in each bit.
    let codes: Vec<u8> = (0..16 * 80).map(|i| (i * 37 + i / 256) as u8).collect();
    for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
        let same = |actual: f32, code: u8, scale: f32| {
            let expected = decode_fp8(code, format) * scale;
            assert!(
                actual.to_bits() == expected.to_bits() || (actual.is_nan() && expected.is_nan()),
                "{format:?} {code:#x} times {scale}: {actual}"
            );
        };
        for codes in codes.as_chunks::<LANES>().0 {
            for scale in [1.0, 0.3, f32::INFINITY] {
                let mut row = [0.0; LANES];
                // SAFETY: called where the instruction set has been found.
                unsafe { S::row(codes.as_ptr(), format, scale, row.as_mut_ptr()) };
                row.iter().zip(codes).for_each(|(&value, &code)| same(value, code, scale));
            }
        }
        let mut columns = [[-1.0f32; 18]; CODES];
        let scales = std::array::from_fn(|row| 0.3 + row as f32);
        // SAFETY: as above; sixteen rows of 80 codes, and as many columns as are written.
        unsafe { S::columns(codes.as_ptr(), 80, format, &scales, columns.as_mut_ptr().cast(), 18) };
        for (step, column) in columns.iter().enumerate() {
            (0..LANES).for_each(|row| same(column[row], codes[row * 80 + step], scales[row]));
            assert_eq!(column[LANES..], [-1.0; 2], "nothing else is written");
        }
    }
}

fn check_rounding<S: DecodeWords>() {
    let quiet = f32::NAN.to_bits();
    let ends = [0, 0x8000_0000, 1, 0x7F80_0000, 0xFF80_0000, quiet, quiet | 5, 0x7F7F_FFFF];
    let around = (0..8).flat_map(|i| [0x3F80_7FFF + i * 0x8000, 0xC001_8000 - i]);
    let bits: Vec<u32> = ends.into_iter().chain(around).chain(1..9).collect();
    for x in bits.as_chunks::<LANES>().0 {
        let (x, mut rounded) = (x.map(f32::from_bits), [0.0f32; LANES]);
        // SAFETY: called where the instruction set has been found.
        unsafe { S::round(x.as_ptr(), rounded.as_mut_ptr()) };
        assert_eq!(rounded.map(f32::to_bits), x.map(|x| round_to_bf16(x).to_bits()), "{x:?}");
    }
}

#[test]
fn codes_along_a_row_and_across_rows_and_rounding() {
    check::<Plain>();
    check_rounding::<Plain>();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
            check::<Avx2>();
            check_rounding::<Avx2>();
        }
        if is_x86_feature_detected!("avx512bw") {
            check::<Avx512>();
            check_rounding::<Avx512>();
        }
    }
}
