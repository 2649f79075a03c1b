//! The codec on a device where it cannot be seen from outside: quotients and codes from worse
//! divisions than this device's.

use super::codec::{Minifloat, decode, encode, quotient_code, round_quotient};
use crate::definition::{Fp8Format, decode_fp8, encode_fp8};
use crate::test_inputs::random;
use cubecl::prelude::*;

#[cube(launch_unchecked)]
fn correct(x: &[u32], s: &[u32], approximate: &[u32], corrected: &mut [u32]) {
    let i = ABSOLUTE_POS;
    if i < corrected.len() {
        corrected[i] = round_quotient(x[i], s[i], approximate[i]);
    }
}

#[cube(launch_unchecked)]
fn codes_from(
    x: &[u32],
    s: &[u32],
    approximate: &[u32],
    codes: &mut [u32],
    #[comptime] format: Fp8Format,
) {
    let i = ABSOLUTE_POS;
    if i < codes.len() {
        let format = comptime!(Minifloat::fp8(format));
        codes[i] = quotient_code(x[i], s[i], approximate[i], format);
    }
}

/// Bits of the scale 1.
const ONE: u32 = 0x3F80_0000;

#[cube(launch_unchecked)]
fn every_code(values: &mut [u32], codes: &mut [u32], #[comptime] format: Fp8Format) {
    let i = ABSOLUTE_POS;
    if i < values.len() {
        let value = u32::reinterpret(decode(i as u32, format));
        values[i] = value;
        codes[i] = encode(value, ONE, format);
    }
}

fn words(client: &Client, x: cubecl::server::Handle) -> Vec<u32> {
    u32::from_bytes(&client.read_one(x).expect("the device answers")).to_vec()
}

fn upload(client: &Client, x: &[u32]) -> BufferArg {
    // SAFETY: the buffer was made from as many elements.
    unsafe { BufferArg::from_raw_parts(client.create_from_slice(u32::as_bytes(x)), x.len()) }
}

#[test]
fn a_quotient_that_is_three_units_off_is_corrected() {
    let client = cubecl::Device::default().client();
    let (mut x, mut s, mut approximate, mut exact) = (vec![], vec![], vec![], vec![]);
    let mut add = |a: f32, b: f32| {
        for off in -3i32..=3 {
            x.push(a.to_bits());
            s.push(b.to_bits());
            exact.push((a / b).to_bits());
            approximate.push((a / b).to_bits().wrapping_add_signed(off));
        }
    };
    for (a, b) in random(1, 40_000).chunks(2).map(|pair| (pair[0].abs(), pair[1].abs())) {
        if a > 1e-6 && b > 1e-6 {
            add(a * 1e4, b);
        }
    }
    // Quotients at and beside powers of two, where the spacing changes.
    for exponent in -9..9 {
        for bits in -3i32..=3 {
            let s = 0.37f32;
            add(
                f32::from_bits((s * (exponent as f32).exp2()).to_bits().wrapping_add_signed(bits)),
                s,
            );
        }
    }
    add(f32::MAX, 448.0);
    let count = x.len();
    let corrected = client.create_from_slice(u32::as_bytes(&vec![0; count]));
    // SAFETY: all four buffers hold `count` words, and a unit past the last does nothing.
    unsafe {
        correct::launch_unchecked(
            &client,
            CubeCount::new_1d(count.div_ceil(256) as u32),
            CubeDim::new_1d(256),
            upload(&client, &x),
            upload(&client, &s),
            upload(&client, &approximate),
            BufferArg::from_raw_parts(corrected.clone(), count),
        );
    }
    for (i, (actual, expected)) in words(&client, corrected).iter().zip(&exact).enumerate() {
        assert_eq!(
            actual,
            expected,
            "{:e} / {:e} from {:x}",
            f32::from_bits(x[i]),
            f32::from_bits(s[i]),
            approximate[i]
        );
    }
}

#[test]
fn a_code_whose_quotient_is_three_units_off_is_right() {
    let client = cubecl::Device::default().client();
    for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
        let (mut x, mut s, mut approximate, mut expected) = (vec![], vec![], vec![], vec![]);
        let scales = random(2, 50);
        let mut add = |a: f32, b: f32| {
            for off in -3i32..=3 {
                let near = (a / b).to_bits();
                x.push(a.to_bits());
                s.push(b.to_bits());
                expected.push(u32::from(encode_fp8(a / b, format)));
                approximate.push(if near > 3 { near.wrapping_add_signed(off) } else { near });
            }
        };
        for scale in scales.into_iter().map(f32::abs).filter(|&scale| scale > 1e-6) {
            // Each code and each tie, and their neighbours.
            for code in 0..0x7Au8 {
                let (low, high) = (decode_fp8(code, format), decode_fp8(code + 1, format));
                for quotient in [low, (low + high) / 2.0] {
                    for bits in -2i32..=2 {
                        let near = (quotient * scale).to_bits().saturating_add_signed(bits);
                        add(f32::from_bits(near), scale);
                    }
                }
            }
            // Far below the least code, and above the largest.
            for quotient in [1e-40f32, 1e-30, 2f32.powi(-17), 2f32.powi(-18), 449.0, 1e6, 1e30] {
                add(quotient * scale, scale);
            }
        }
        let count = x.len();
        let codes = client.create_from_slice(u32::as_bytes(&vec![0; count]));
        // SAFETY: all four buffers hold `count` words, and a unit past the last does nothing.
        unsafe {
            codes_from::launch_unchecked(
                &client,
                CubeCount::new_1d(count.div_ceil(256) as u32),
                CubeDim::new_1d(256),
                upload(&client, &x),
                upload(&client, &s),
                upload(&client, &approximate),
                BufferArg::from_raw_parts(codes.clone(), count),
                format,
            );
        }
        for (i, (actual, expected)) in words(&client, codes).iter().zip(&expected).enumerate() {
            assert_eq!(
                actual,
                expected,
                "{format:?} {:e} / {:e} from {:x}",
                f32::from_bits(x[i]),
                f32::from_bits(s[i]),
                approximate[i]
            );
        }
    }
}

#[test]
fn every_code_is_decoded_and_encoded_as_defined() {
    let client = cubecl::Device::default().client();
    for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
        let [values, codes] = [0, 1].map(|_| client.create_from_slice(u32::as_bytes(&[0; 256])));
        // SAFETY: both buffers hold 256 words, and a unit past the last does nothing.
        unsafe {
            every_code::launch_unchecked(
                &client,
                CubeCount::new_single(),
                CubeDim::new_1d(256),
                BufferArg::from_raw_parts(values.clone(), 256),
                BufferArg::from_raw_parts(codes.clone(), 256),
                format,
            );
        }
        for (code, (value, back)) in
            words(&client, values).into_iter().zip(words(&client, codes)).enumerate()
        {
            let expected = decode_fp8(code as u8, format);
            let value = f32::from_bits(value);
            assert!(
                value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()),
                "{format:?} {code:#x}: {value}"
            );
            assert_eq!(back as u8, encode_fp8(expected, format), "{format:?} {code:#x}");
        }
    }
}
