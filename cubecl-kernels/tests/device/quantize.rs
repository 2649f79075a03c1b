//! Codes and scales, bit for bit.

use crate::client::{client, download, upload, words as read_words};
use crate::oracle::{self, assert_codes, assert_scales, spread};
use cubecl::prelude::Client;
use cubecl_kernels::KernelError;
use cubecl_kernels::definition::{
    Fp8Format, Granularity, QuantizeOptions, ScaleFormat, decode_fp8, tiles, words,
};
use cubecl_kernels::device::{DeviceGroups, Element};
use cubecl_kernels::quantize::{
    dequantize_blocks, dequantize_columns, dequantize_rows, quantize_blocks, quantize_both,
    quantize_columns, quantize_rows,
};

fn every_option() -> Vec<QuantizeOptions> {
    let mut all = Vec::new();
    for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
        for scale in [ScaleFormat::F32, ScaleFormat::PowerOfTwo] {
            // Each is a few kernels to compile: the format and what shares a scale do not meet in
            // the code.
            let shared: &[Granularity] = match format {
                Fp8Format::E4M3 => &[Granularity::Tile, Granularity::Block, Granularity::Tensor],
                Fp8Format::E5M2 => &[Granularity::Tile],
            };
            for &granularity in shared {
                all.push(QuantizeOptions { format, scale, granularity });
            }
        }
    }
    all
}

fn check(
    client: &Client,
    name: &str,
    x: &[f32],
    offsets: &[usize],
    columns: usize,
    o: &QuantizeOptions,
) {
    let rows = *offsets.last().unwrap();
    let name = &format!("{name} {rows}x{columns} {offsets:?} {o:?}");
    let handle = upload(client, x);
    let groups = DeviceGroups::new(client, offsets, rows).unwrap();
    let expected_rows = oracle::rows(x, rows, columns, o);
    let expected_columns = oracle::columns(x, offsets, columns, o);

    let alone = quantize_rows(client, &handle, Element::F32, rows, columns, o).unwrap();
    let alone_columns =
        quantize_columns(client, &handle, Element::F32, &groups, columns, o).unwrap();
    let (both, both_columns) =
        quantize_both(client, &handle, Element::F32, &groups, columns, o).unwrap();
    for q in [&alone, &both] {
        assert_codes(
            name,
            &read_words(client, &q.codes, rows * words(columns)),
            &expected_rows.codes,
        );
        assert_scales(
            name,
            &download(client, &q.scales, rows * tiles(columns)),
            &expected_rows.scales,
        );
    }
    for q in [&alone_columns, &both_columns] {
        assert_codes(
            name,
            &read_words(client, &q.codes, columns * groups.words()),
            &expected_columns.codes,
        );
        assert_scales(
            name,
            &download(client, &q.scales, columns * groups.tiles()),
            &expected_columns.scales,
        );
    }

    let expected: Vec<f32> = (0..rows * columns)
        .map(|i| {
            let (r, c) = (i / columns, i % columns);
            expected_rows.scales[r * tiles(columns) + c / 128]
                * decode_fp8(oracle::code(&expected_rows.codes, words(columns), r, c), o.format)
        })
        .collect();
    let values = dequantize_rows(client, &alone, rows, columns, o.format).unwrap();
    assert_scales(name, &download(client, &values, rows * columns), &expected);
    let values = download(
        client,
        &dequantize_columns(client, &alone_columns, &groups, columns, o.format).unwrap(),
        rows * columns,
    );
    let layout = groups.layout().unwrap();
    for g in 0..groups.len() {
        let (start, end) = (offsets[g], offsets[g + 1]);
        for r in start..end {
            for c in 0..columns {
                let code = oracle::code(
                    &expected_columns.codes,
                    groups.words(),
                    c,
                    layout.words[g] * 4 + r - start,
                );
                let scale = expected_columns.scales
                    [c * groups.tiles() + layout.tiles[g] + (r - start) / 128];
                let (actual, expected) =
                    (values[r * columns + c], scale * decode_fp8(code, o.format));
                assert!(
                    actual.to_bits() == expected.to_bits()
                        || (actual.is_nan() && expected.is_nan()),
                    "{name}: [{r}, {c}]"
                );
            }
        }
    }
}

#[test]
fn every_shape_has_the_definitions_bits() {
    let client = client();
    let shapes: &[(&[usize], usize)] = &[
        (&[0, 1], 1),
        (&[0, 0], 5),
        (&[0, 3], 0),
        (&[0, 1], 128),
        (&[0, 33], 130),
        (&[0, 128], 256),
        (&[0, 130], 33),
        (&[0, 200], 200),
        (&[0, 0, 5, 5, 134, 134], 131),
        (&[0, 127, 128, 257], 132),
        (&[0, 0, 0], 7),
        // By planes on a software renderer: whole and broken tiles, and groups.
        (&[0, 33], 16),
        (&[0, 0, 5, 5, 134, 134, 263], 144),
    ];
    for (i, (offsets, columns)) in shapes.iter().enumerate() {
        let x = spread(i as u64, offsets.last().unwrap() * columns);
        check(&client, "random", &x, offsets, *columns, &QuantizeOptions::default());
    }
}

#[test]
fn every_option_has_the_definitions_bits() {
    let client = client();
    for (i, o) in every_option().iter().enumerate() {
        let offsets = [0, 5, 5, 150, 160];
        // Each option is a kernel to compile, each width another: one of the two for each.
        let columns = if i % 2 == 0 { 141 } else { 136 };
        check(&client, "option", &spread(100 + i as u64, 160 * columns), &offsets, columns, o);
    }
}

/// Rows that catch what a cast gets wrong: zero tiles, amax under the floor, ties, subnormal codes,
/// saturation, NaN, infinities.
fn hard_rows() -> Vec<(&'static str, Vec<f32>)> {
    let tie = |scale: f32| {
        (0..128).map(move |i| scale * (f32::from(i as u8) * 0.5 + 1.0)).collect::<Vec<_>>()
    };
    let with = |at: usize, value: f32| {
        let mut row = spread(77, 128);
        row[at] = value;
        row
    };
    vec![
        ("zero", vec![0.0; 128]),
        ("negative zero", vec![-0.0; 128]),
        ("under the floor", vec![1e-6; 128]),
        ("tiny", vec![1e-30; 128]),
        ("subnormal input", vec![1e-40; 128]),
        ("ties", tie(1.0).into_iter().map(|x| x.min(448.0)).chain([448.0]).take(128).collect()),
        (
            "448 and ties of subnormals",
            (0..128).map(|i| if i == 0 { 448.0 } else { i as f32 / 1024.0 }).collect(),
        ),
        ("largest", with(3, f32::MAX)),
        ("nan", with(5, f32::NAN)),
        ("negative nan", with(6, -f32::NAN)),
        ("signalling nan", with(7, f32::from_bits(0x7F80_0001))),
        ("infinity", with(8, f32::INFINITY)),
        ("negative infinity", with(9, f32::NEG_INFINITY)),
        ("nan and infinity", {
            let mut row = with(10, f32::NAN);
            row[11] = f32::INFINITY;
            row
        }),
        ("negative", with(0, -1e4)),
    ]
}

#[test]
fn hard_edges() {
    let client = client();
    for (name, row) in hard_rows() {
        for o in every_option() {
            if o.granularity == Granularity::Block {
                continue;
            }
            check(&client, name, &row, &[0, 1], 128, &o);
        }
        // A ragged tile beside a whole one, padding codes included.
        let ragged: Vec<f32> = row.iter().chain(&row[..33]).copied().collect();
        check(&client, name, &ragged, &[0, 161], 1, &QuantizeOptions::default());
        check(&client, name, &ragged, &[0, 1], 161, &QuantizeOptions::default());
    }
}

#[test]
fn every_code_boundary_is_where_the_definition_has_it() {
    let client = client();
    for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
        // Each code's value, each midpoint and their FP32 neighbours, beside the largest, so that
        // the scale is 1 exactly.
        let mut x = Vec::new();
        for code in 0..0x7Bu8 {
            let (low, high) = (decode_fp8(code, format), decode_fp8(code + 1, format));
            for value in [low, (low + high) / 2.0] {
                for bits in
                    [value.to_bits().saturating_sub(1), value.to_bits(), value.to_bits() + 1]
                {
                    let value = f32::from_bits(bits);
                    x.extend([value, -value]);
                }
            }
        }
        let mut rows = Vec::new();
        for chunk in x.chunks(127) {
            let mut row = chunk.to_vec();
            row.resize(127, 0.0);
            row.push(format.max());
            rows.extend(row);
        }
        let count = rows.len() / 128;
        check(
            &client,
            "boundaries",
            &rows,
            &[0, count],
            128,
            &QuantizeOptions { format, ..Default::default() },
        );
    }
}

#[test]
fn weights_in_both_orientations() {
    let client = client();
    for (experts, n, k) in [
        (1, 1, 1),
        (0, 5, 5),
        (2, 0, 7),
        (2, 7, 0),
        (1, 128, 128),
        (3, 33, 130),
        (2, 200, 300),
        (1, 257, 64),
    ] {
        for o in every_option() {
            if n * k > 20_000 && o.format == Fp8Format::E5M2 {
                continue;
            }
            let name = &format!("{experts}x{n}x{k} {o:?}");
            let mut w = spread((n * k) as u64, experts * n * k);
            if let Some(first) = w.first_mut() {
                *first = 3000.0;
            }
            let q = quantize_blocks(&client, &upload(&client, &w), Element::F32, experts, n, k, &o)
                .unwrap();
            let (codes, transposed, scales) = (
                read_words(&client, &q.codes, experts * n * words(k)),
                read_words(&client, &q.transposed, experts * k * words(n)),
                download(&client, &q.scales, experts * tiles(n) * tiles(k)),
            );
            let values = download(
                &client,
                &dequantize_blocks(&client, &q, experts, n, k, o.format).unwrap(),
                experts * n * k,
            );
            for e in 0..experts {
                let mut own = w[e * n * k..][..n * k].to_vec();
                // One scale for all experts: the largest value is in the first.
                if e > 0 && o.granularity == Granularity::Tensor && !own.is_empty() {
                    own[0] = 3000.0;
                }
                let (c, t, s) = oracle::blocks(&own, n, k, &o);
                assert_scales(name, &scales[e * tiles(n) * tiles(k)..][..tiles(n) * tiles(k)], &s);
                if e == 0 || o.granularity != Granularity::Tensor {
                    assert_codes(name, &codes[e * n * words(k)..][..n * words(k)], &c);
                    assert_codes(name, &transposed[e * k * words(n)..][..k * words(n)], &t);
                }
                for (i, value) in values[e * n * k..][..n * k].iter().enumerate() {
                    let (r, c) = (i / k, i % k);
                    let code = oracle::code(&codes[e * n * words(k)..], words(k), r, c);
                    assert_eq!(
                        *value,
                        s[r / 128 * tiles(k) + c / 128] * decode_fp8(code, o.format),
                        "{name}: [{e}, {r}, {c}]"
                    );
                }
            }
        }
    }
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let x = upload(&client, &[0.0; 12]);
    let o = QuantizeOptions::default();
    let error = quantize_rows(&client, &x, Element::F32, 4, 4, &o).unwrap_err();
    assert!(
        matches!(error, KernelError::Length { argument: "x", expected: 16, actual: 12, .. }),
        "{error}"
    );
    let error = quantize_blocks(&client, &x, Element::F32, usize::MAX, 4, 4, &o).unwrap_err();
    assert!(matches!(error, KernelError::Overflow { argument: "x", .. }), "{error}");
    for (offsets, rows) in
        [(&[][..], 0), (&[0, 2][..], 3), (&[1, 3][..], 3), (&[0, 2, 1, 3][..], 3)]
    {
        let error = DeviceGroups::new(&client, offsets, rows).unwrap_err();
        assert!(matches!(error, KernelError::Invalid { argument: "offsets", .. }), "{error}");
    }
    let groups = DeviceGroups::single(&client, 5).unwrap();
    assert!(matches!(
        quantize_columns(&client, &x, Element::F32, &groups, 3, &o),
        Err(KernelError::Length { argument: "x", .. })
    ));
    assert!(matches!(
        quantize_both(&client, &x, Element::F32, &groups, 3, &o),
        Err(KernelError::Length { argument: "x", .. })
    ));
    let q = quantize_rows(&client, &x, Element::F32, 3, 4, &o).unwrap();
    let error = dequantize_rows(&client, &q, 4, 400, o.format).unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "codes", .. }), "{error}");
}

#[test]
fn bf16_is_read_or_refused() {
    use half::bf16;
    let client = client();
    let x: Vec<bf16> = spread(5, 130 * 40).into_iter().map(bf16::from_f32).collect();
    let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    let handle = client.create_from_slice(&bytes);
    let o = QuantizeOptions::default();
    match quantize_rows(&client, &handle, Element::Bf16, 40, 130, &o) {
        Ok(q) => {
            let expected =
                oracle::rows(&x.iter().map(|v| v.to_f32()).collect::<Vec<_>>(), 40, 130, &o);
            assert_codes("bf16", &read_words(&client, &q.codes, 40 * words(130)), &expected.codes);
            assert_scales("bf16", &download(&client, &q.scales, 40 * tiles(130)), &expected.scales);
        }
        Err(error) => {
            assert!(matches!(error, KernelError::Invalid { argument: "element", .. }), "{error}")
        }
    }
}
