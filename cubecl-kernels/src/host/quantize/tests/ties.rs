//! Codes where the quotient comes as near to a tie as it can, and over millions of random numbers.

use super::super::amax;
use super::super::divisor::Divisors;
use super::super::encode::{encode_columns, encode_rows};
use super::super::panel::{Element, Matrix, Source};
use super::super::store::CodeRows;
use super::*;
use crate::definition::{TILE, decode_fp8, encode_fp8};
use crate::host::buffer::Buffer;

fn with_scale(x: &[f32], scale: f32, format: Fp8Format) -> (Vec<u8>, Vec<u8>) {
    assert_eq!(x.len(), TILE);
    fn matrix<E: Element>(x: &[E], cols: usize) -> Matrix<'_, E> {
        Matrix { x, cols }
    }
    let (mut buffer, mut divisors) = (Buffer::take(), Divisors::fp8(format));
    let mut codes = vec![0; TILE * TILE];
    divisors.set_scales(&[scale]);
    encode_rows(
        matrix(x, TILE).panel(0..1, 0..TILE, &mut buffer),
        &divisors,
        CodeRows::of(&mut codes, 1, TILE, TILE),
        format,
    );
    let by_rows = codes[..TILE].to_vec();
    encode_columns(matrix(x, 1).panel(0..TILE, 0..1, &mut buffer), &divisors, &mut codes, format);
    (by_rows, codes.into_iter().step_by(TILE).collect())
}

#[track_caller]
fn check_scale(x: &[f32], scale: f32, format: Fp8Format) {
    for x in x.chunks(TILE) {
        let mut tile = [0.0; TILE];
        tile[..x.len()].copy_from_slice(x);
        let expected: Vec<u8> = tile.iter().map(|x| encode_fp8(x / scale, format)).collect();
        assert_eq!(
            with_scale(&tile, scale, format),
            (expected.clone(), expected),
            "{scale:e} {format:?}"
        );
    }
}

/// The FP32 numbers around `tie * scale`.
fn around(tie: f32, scale: f32) -> impl Iterator<Item = f32> {
    let middle = (tie * scale).to_bits();
    (middle.saturating_sub(4)..=middle + 4).map(f32::from_bits)
}

/// Every number halfway between two codes.
fn ties(format: Fp8Format) -> Vec<f32> {
    let largest = if format == Fp8Format::E4M3 { 0x7E } else { 0x7B };
    (0..largest)
        .map(|code| (decode_fp8(code, format) + decode_fp8(code + 1, format)) / 2.0)
        .collect()
}

/// The scales for which the reciprocal in two parts is nearest to wrong (see [`Divisors`]), among
/// them those that are divided by, and just as many on either side.
#[test]
fn scales_at_which_the_proof_is_tight() {
    for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
        let ties = ties(format);
        for multiple in 8..=16u32 {
            for distance in -40..=40i32 {
                let significand = (multiple << 20).wrapping_add_signed(distance);
                if !(1 << 23..1 << 24).contains(&significand) {
                    continue;
                }
                for exponent in [-40, -23, 0, 30] {
                    let scale = significand as f32 * f32::exp2(exponent as f32);
                    let x: Vec<f32> = ties.iter().flat_map(|&tie| around(tie, scale)).collect();
                    check_scale(&x, scale, format);
                }
            }
        }
    }
}

/// Numbers of few bits, as BF16 activations are, whose quotients often are ties exactly.
#[test]
fn tiles_of_few_bits() {
    for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
        for largest in 128..256u32 {
            let scale = largest as f32 / format.max();
            let x: Vec<f32> = (0..=largest)
                .flat_map(|x| [x as f32, -(x as f32) / 16.0, x as f32 / 4096.0])
                .collect();
            check_scale(&x, scale, format);
        }
    }
}

#[test]
fn random_scales_around_every_tie() {
    let ties = ties(Fp8Format::E4M3);
    for largest in random(11, 4000) {
        let scale = (largest.abs() + 1e-3) / 448.0;
        let x: Vec<f32> = ties.iter().flat_map(|&tie| around(tie, scale)).collect();
        check_scale(&x, scale, Fp8Format::E4M3);
    }
}

#[test]
fn millions_of_random_numbers() {
    let options = QuantizeOptions::default();
    for seed in 0..8 {
        // Products have more of a bell's shape than the uniform numbers themselves.
        let x: Vec<f32> = random(seed, 1 << 19)
            .iter()
            .zip(random(seed + 100, 1 << 19))
            .map(|(a, b)| a * b)
            .collect();
        let expected = reference::quantize_rows(&x, 512, 1024, &options);
        assert_same("f32", &quantize_rows(&x, 512, 1024, &options).unwrap(), &expected);
        let x: Vec<bf16> = x.into_iter().map(bf16::from_f32).collect();
        let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        let expected = reference::quantize_rows(&wide, 512, 1024, &options);
        assert_same("bf16", &quantize_rows(&x, 512, 1024, &options).unwrap(), &expected);
    }
}

#[test]
fn largest_magnitudes_order_nan_above_infinity() {
    for (a, b, larger) in [(1.0, -2.0, 2.0), (f32::INFINITY, 3.0, f32::INFINITY), (0.0, -0.0, 0.0)]
    {
        assert_eq!((amax::larger(a, b), amax::larger(b, a)), (larger, larger));
    }
    assert!(
        amax::larger(f32::INFINITY, f32::NAN).is_nan() && amax::larger(-f32::NAN, 1.0).is_nan()
    );
}
