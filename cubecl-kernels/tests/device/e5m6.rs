//! E5M6 codes and scales, bit for bit.

use crate::client::{client, download, upload, upload_words, words as read_words};
use crate::oracle::{assert_scales, spread};
use cubecl::prelude::Client;
use cubecl_kernels::KernelError;
use cubecl_kernels::definition::{ScaleFormat, decode_e5m6, e5m6_words, tiles};
use cubecl_kernels::device::Element;
use cubecl_kernels::quantize::{DeviceCodes, dequantize_e5m6, quantize_e5m6};
use cubecl_kernels::reference;

/// Codes and scales, values from them.
fn check(client: &Client, name: &str, x: &[f32], rows: usize, columns: usize) {
    for scale in [ScaleFormat::F32, ScaleFormat::PowerOfTwo] {
        let name = &format!("{name} {rows}x{columns} {scale:?}");
        let expected = reference::quantize_e5m6(x, rows, columns, scale);
        let x = upload(client, x);
        let q = quantize_e5m6(client, &x, Element::F32, rows, columns, scale).unwrap();
        let codes = read_words(client, &q.codes, rows * e5m6_words(columns));
        assert_words(name, &codes, &expected.codes);
        assert_scales(name, &download(client, &q.scales, rows * tiles(columns)), &expected.scales);
        let values = dequantize_e5m6(client, &q, rows, columns).unwrap();
        let expected = reference::dequantize_e5m6(&expected.codes, &expected.scales, rows, columns);
        assert_scales(name, &download(client, &values, rows * columns), &expected);
    }
}

#[track_caller]
fn assert_words(name: &str, actual: &[u32], expected: &[u32]) {
    assert_eq!(actual.len(), expected.len(), "{name}: words");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert_eq!(a, e, "{name}: word {i}: {a:08x} against {e:08x}");
    }
}

#[test]
fn every_shape_has_the_definitions_bits() {
    let client = client();
    let shapes = [
        (0, 5),
        (3, 0),
        (1, 1),
        (1, 128),
        (33, 130),
        (16, 256),
        (17, 8),
        (200, 33),
        (5, 1031),
        (130, 132),
        // More cubes than one dimension of a launch holds.
        (600_000, 1),
    ];
    for (i, (rows, columns)) in shapes.into_iter().enumerate() {
        check(&client, "random", &spread(i as u64, rows * columns), rows, columns);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
    #[test]
    fn random_shapes(
        rows in 0usize..60,
        columns in 0usize..300,
        seed in 0u64..1000,
        size in -40i32..60,
    ) {
        let size = f64::from(size).exp2() as f32;
        let x: Vec<f32> = spread(seed, rows * columns).into_iter().map(|x| x * size).collect();
        check(&client(), "random", &x, rows, columns);
    }
}

#[test]
fn hard_edges() {
    let client = client();
    let with = |entries: &[(usize, f32)]| {
        let mut row = spread(77, 128);
        entries.iter().for_each(|&(at, value)| row[at] = value);
        row
    };
    let rows = [
        ("zero", vec![0.0; 128]),
        ("negative zero", vec![-0.0; 128]),
        ("under the floor", vec![1e-6; 128]),
        ("the floor", vec![-1e-4; 128]),
        ("tiny", vec![1e-30; 128]),
        ("subnormal input", vec![-1e-40; 128]),
        ("largest", with(&[(3, f32::MAX)])),
        ("saturating", with(&[(3, -1e4)])),
        ("nan", with(&[(5, f32::NAN)])),
        ("negative nan", with(&[(6, -f32::NAN)])),
        ("signalling nan", with(&[(7, f32::from_bits(0x7F80_0001))])),
        ("infinity", with(&[(8, f32::INFINITY)])),
        ("negative infinity", with(&[(9, f32::NEG_INFINITY)])),
        // The scale is 2^127 here: what divides by it must not be flushed to zero.
        (
            "infinity beside the largest",
            with(&[(9, f32::NEG_INFINITY), (10, f32::MAX), (11, -1e38), (12, 1e33)]),
        ),
        (
            "nan beside infinity and the largest",
            with(&[(9, f32::NAN), (10, f32::MAX), (11, f32::INFINITY)]),
        ),
    ];
    for (name, row) in rows {
        check(&client, name, &row, 1, 128);
        // A ragged tile beside a whole one, padding bits included.
        let ragged: Vec<f32> = row.iter().chain(&row[..33]).copied().collect();
        check(&client, name, &ragged, 1, 161);
        check(&client, name, &ragged, 161, 1);
    }
}

/// One entry a tile: its scale is where the definition's division and rounding put it, around each
/// step of the significand.
#[test]
fn every_scale_boundary_is_where_the_definition_has_it() {
    let mut amax = Vec::new();
    for exponent in -16..128 {
        for significand in [1.0f32, 1.5, 1.984375] {
            let value = f64::from(significand) * f64::from(exponent).exp2();
            for off in -2i32..=2 {
                amax.push(f32::from_bits(
                    (value as f32).to_bits().saturating_add_signed(off).min(f32::MAX.to_bits()),
                ));
            }
        }
    }
    check(&client(), "amax", &amax, amax.len(), 1);
}

#[test]
fn every_code_boundary_is_where_the_definition_has_it() {
    // Each code's value, each midpoint and their FP32 neighbours, beside the largest, so that the
    // scale is 1 exactly.
    let mut x = Vec::new();
    for code in 0..0x7BFu16 {
        let (low, high) = (decode_e5m6(code), decode_e5m6(code + 1));
        for value in [low, (low + high) / 2.0, high] {
            for bits in [value.to_bits().saturating_sub(1), value.to_bits(), value.to_bits() + 1] {
                let value = f32::from_bits(bits).min(65024.0);
                x.extend([value, -value]);
            }
        }
    }
    let rows: Vec<f32> = x
        .chunks(127)
        .flat_map(|chunk| chunk.iter().copied().chain([65024.0; 127]).take(127).chain([65024.0]))
        .collect();
    check(&client(), "boundaries", &rows, rows.len() / 128, 128);
}

#[test]
fn every_code_is_decoded_as_defined() {
    let client = client();
    // 4096 codes in one row, each at the next 12 bits.
    let mut codes = vec![0u32; e5m6_words(4096)];
    for code in 0..4096usize {
        let (word, place) = (code * 12 / 32, code * 12 % 32);
        let wide = (code as u64) << (52 - place);
        codes[word] |= (wide >> 32) as u32;
        if place > 20 {
            codes[word + 1] |= wide as u32;
        }
    }
    let q = DeviceCodes {
        codes: upload_words(&client, &codes),
        scales: upload(&client, &vec![0.5; tiles(4096)]),
    };
    let values = download(&client, &dequantize_e5m6(&client, &q, 1, 4096).unwrap(), 4096);
    let expected: Vec<f32> = (0..4096).map(|code| 0.5 * decode_e5m6(code)).collect();
    assert_scales("codes", &values, &expected);
}

/// Where it does not matter.
const SCALE: ScaleFormat = ScaleFormat::PowerOfTwo;

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let x = upload(&client, &[0.0; 12]);
    let error = quantize_e5m6(&client, &x, Element::F32, 4, 4, SCALE).unwrap_err();
    assert!(
        matches!(error, KernelError::Length { argument: "x", expected: 16, actual: 12, .. }),
        "{error}"
    );
    let error = quantize_e5m6(&client, &x, Element::F32, usize::MAX, 4, SCALE).unwrap_err();
    assert!(matches!(error, KernelError::Overflow { argument: "x", .. }), "{error}");
    let q = quantize_e5m6(&client, &x, Element::F32, 3, 4, SCALE).unwrap();
    assert!(matches!(
        dequantize_e5m6(&client, &q, 3, 400),
        Err(KernelError::Length { argument: "codes", .. })
    ));
    let q = DeviceCodes {
        codes: upload_words(&client, &vec![0; 3 * e5m6_words(400)]),
        scales: q.scales,
    };
    assert!(matches!(
        dequantize_e5m6(&client, &q, 3, 400),
        Err(KernelError::Length { argument: "scales", .. })
    ));
}

#[test]
fn bf16_is_read_or_refused() {
    use half::bf16;
    let client = client();
    let x: Vec<bf16> = spread(5, 130 * 40).into_iter().map(bf16::from_f32).collect();
    let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    let bytes = client.create_from_slice(&bytes);
    match quantize_e5m6(&client, &bytes, Element::Bf16, 40, 130, SCALE) {
        Ok(q) => {
            let expected = reference::quantize_e5m6(
                &x.iter().map(|v| v.to_f32()).collect::<Vec<_>>(),
                40,
                130,
                SCALE,
            );
            assert_words(
                "bf16",
                &read_words(&client, &q.codes, 40 * e5m6_words(130)),
                &expected.codes,
            );
            assert_scales("bf16", &download(&client, &q.scales, 40 * tiles(130)), &expected.scales);
        }
        Err(error) => {
            assert!(matches!(error, KernelError::Invalid { argument: "element", .. }), "{error}")
        }
    }
}
