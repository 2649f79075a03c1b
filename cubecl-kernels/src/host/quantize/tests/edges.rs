//! A table of hard edges, and independence of the number of threads.

use super::*;
use crate::definition::{GroupedColumns, TILE, decode_e5m6, decode_fp8, tiles};
use crate::test_inputs::assert_thread_independent;

#[test]
fn ragged_and_empty_shapes() {
    let tiny: Vec<usize> = (0..40).map(|e| e % 6).collect();
    for counts in [&[0][..], &[0, 0], &[1], &[3, 0, 5], &[128, 0, 129], &[33, 0], &[300], &tiny] {
        for cols in [0, 1, 3, 4, 7, 127, 128, 130, 200, 257] {
            let offsets = offsets_of(counts);
            let x = spread(7, offsets[counts.len()] * cols);
            check_e5m6(&x, &offsets, cols);
            for options in all_options() {
                check(&x, &offsets, cols, &options);
            }
        }
    }
    for (experts, n, k) in [
        (0, 5, 5),
        (2, 0, 7),
        (2, 7, 0),
        (1, 1, 1),
        (1, 33, 130),
        (3, 130, 200),
        (2, 128, 128),
        (1, 257, 5),
    ] {
        for options in all_options() {
            check_blocks(&spread(9, experts * n * k), experts, n, k, &options);
        }
    }
}

#[test]
fn no_group_at_all_is_an_empty_matrix() {
    let options = QuantizeOptions::default();
    let empty = quantize_columns::<f32>(&[], &[0], 5, &options).unwrap();
    assert_eq!((empty.codes.len(), empty.scales.len()), (0, 0));
}

/// Tiles that are hard in themselves, among ordinary ones: in row `i`, and in column `i` of the
/// transposed matrix.
fn hard_tiles() -> Vec<(&'static str, [f32; TILE])> {
    let normal: [f32; TILE] = random(3, TILE).try_into().unwrap();
    let with = |value: f32| {
        let mut tile = normal;
        tile[5] = value;
        tile
    };
    let all = |value: f32| [value; TILE];
    let mut alternating = normal;
    alternating
        .iter_mut()
        .enumerate()
        .for_each(|(i, x)| *x = if i % 2 == 0 { -448.0 } else { 448.0 });
    let mut huge = normal;
    huge.iter_mut().for_each(|x| *x *= 3.4e38);
    let mut half_steps = [0.0; TILE];
    half_steps.iter_mut().enumerate().for_each(|(i, x)| *x = i as f32 * 2f32.powi(-10));
    half_steps[0] = 448.0;
    vec![
        ("zeros", all(0.0)),
        ("negative zeros", all(-0.0)),
        ("below the floor", all(3e-6)),
        ("at the floor", with(1e-4)),
        ("smallest subnormal", all(f32::from_bits(1))),
        ("subnormals", all(-1e-40)),
        ("saturating everywhere", alternating),
        ("largest", all(f32::MAX)),
        ("huge", huge),
        ("outlier", with(1e30)),
        ("2^60", with(2f32.powi(60))),
        ("beyond a slow scale", with(2f32.powi(70))),
        ("infinity", with(f32::INFINITY)),
        ("minus infinity", with(f32::NEG_INFINITY)),
        ("NaN", with(f32::NAN)),
        ("negative NaN with a payload", with(f32::from_bits(0xFF80_0001))),
        ("only NaN", all(f32::NAN)),
        ("half steps", half_steps),
        ("normal", normal),
    ]
}

#[test]
fn hard_tiles_in_rows_columns_and_blocks() {
    let tiles = hard_tiles();
    for (name, tile) in &tiles {
        println!("{name}");
        for options in all_options() {
            check(tile, &[0, 1], TILE, &options);
            check(tile, &[0, TILE], 1, &options);
            check_blocks(tile, 1, 1, TILE, &options);
            check_blocks(tile, 1, TILE, 1, &options);
        }
        check_e5m6(tile, &[0, 1], TILE);
        check_e5m6(tile, &[0, TILE], 1);
    }
    // All in one matrix, as neighbours; and transposed.
    let rows: Vec<f32> = tiles.iter().flat_map(|(_, tile)| *tile).collect();
    let columns: Vec<f32> =
        (0..TILE).flat_map(|i| tiles.iter().map(move |(_, tile)| tile[i])).collect();
    for options in all_options() {
        check(&rows, &[0, tiles.len()], TILE, &options);
        check(&columns, &[0, 3, TILE], tiles.len(), &options);
        check_blocks(&columns, 1, TILE, tiles.len(), &options);
    }
}

/// A NaN makes its own tile NaN and no other; an infinity saturates to NaN against an infinite
/// scale.
#[test]
fn what_nan_and_infinity_give() {
    let options = QuantizeOptions::default();
    let mut x = random(1, 2 * TILE);
    x[5] = f32::NAN;
    let ours = quantize_rows(&x, 1, 2 * TILE, &options).unwrap();
    assert!(
        ours.codes[..TILE / 4].iter().all(|&word| word == 0x7F7F_7F7F) && ours.scales[0].is_nan()
    );
    assert!(ours.scales[1].is_finite());
    x[5] = f32::INFINITY;
    let power = QuantizeOptions { scale: ScaleFormat::PowerOfTwo, ..options };
    let (f32_scale, power) = (
        quantize_rows(&x, 1, 2 * TILE, &options).unwrap(),
        quantize_rows(&x, 1, 2 * TILE, &power).unwrap(),
    );
    assert_eq!((f32_scale.codes[1] >> 8 & 0xFF, power.codes[1] >> 8 & 0xFF), (0x7F, 0x7E));
    assert_eq!((f32_scale.scales[0], power.scales[0]), (f32::INFINITY, 127f32.exp2()));
}

#[test]
fn every_code_comes_back_exactly() {
    for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
        let codes: Vec<u32> = (0..64u32)
            .map(|w| (4 * w) | (4 * w + 1) << 8 | (4 * w + 2) << 16 | (4 * w + 3) << 24)
            .collect();
        let values = dequantize_rows(&codes, &[1.0, 1.0], 1, 256, format).unwrap();
        for (code, value) in values.iter().enumerate() {
            let expected = decode_fp8(code as u8, format);
            assert!(
                value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()),
                "{format:?} {code:#x}: {value}"
            );
        }
    }
    // A tile with the largest value, whose scale is 1, around every E5M6 value.
    let finite: Vec<f32> = (0..4096).map(decode_e5m6).filter(|x| x.is_finite()).collect();
    let x: Vec<f32> = finite
        .chunks(TILE - 1)
        .flat_map(|x| std::iter::once(65024.0).chain(x.iter().copied()))
        .collect();
    let ours = quantize_e5m6(&x, 1, x.len(), ScaleFormat::PowerOfTwo).unwrap();
    assert!(ours.scales.iter().all(|&scale| scale == 1.0));
    assert_floats("values", &dequantize_e5m6(&ours.codes, &ours.scales, 1, x.len()).unwrap(), &x);
}

#[test]
fn words_of_groups_are_padded_with_zeros() {
    let offsets = [0, 5, 5, 134];
    let ours =
        quantize_columns(&[1.0f32; 134 * 3], &offsets, 3, &QuantizeOptions::default()).unwrap();
    let layout = GroupedColumns::new("test", &offsets, 134).unwrap();
    let (words, tiles) = (layout.words[3], layout.tiles[3]);
    assert_eq!((ours.codes.len(), ours.scales.len()), (3 * words, 3 * tiles));
    for column in ours.codes.chunks(words) {
        assert_eq!(column[..3], [0x7E7E_7E7E, 0x0000_007E, 0x7E7E_7E7E]);
        assert_eq!(column[words - 1], 0x0000_007E);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (rows, cols) = (700, 1100);
    let (x, offsets) = (spread(5, rows * cols), [0, 300, 301, rows]);
    let floats = |q: Quantized| vec![q.scales, q.codes.into_iter().map(f32::from_bits).collect()];
    for granularity in [Granularity::Tile, Granularity::Block, Granularity::Tensor] {
        let options = QuantizeOptions { granularity, ..QuantizeOptions::default() };
        assert_thread_independent("quantize", || {
            let (by_rows, by_columns) = quantize_both(&x, &offsets, cols, &options).unwrap();
            let blocks = quantize_blocks(&x, 1, rows, cols, &options).unwrap();
            let e5m6 = quantize_e5m6(&x, rows, cols, ScaleFormat::PowerOfTwo).unwrap();
            let back = [
                dequantize_rows(&by_rows.codes, &by_rows.scales, rows, cols, options.format)
                    .unwrap(),
                dequantize_columns(
                    &by_columns.codes,
                    &by_columns.scales,
                    &offsets,
                    cols,
                    options.format,
                )
                .unwrap(),
                dequantize_e5m6(&e5m6.codes, &e5m6.scales, rows, cols).unwrap(),
            ];
            let blocks = [
                Quantized { codes: blocks.codes, scales: blocks.scales },
                Quantized { codes: blocks.transposed, scales: Vec::new() },
            ];
            let casts = [
                by_rows,
                by_columns,
                quantize_rows(&x, rows, cols, &options).unwrap(),
                quantize_columns(&x, &offsets, cols, &options).unwrap(),
                Quantized { codes: e5m6.codes, scales: e5m6.scales },
            ];
            casts.into_iter().chain(blocks).flat_map(floats).chain(back).collect()
        });
    }
    assert_eq!(tiles(cols), 9);
}
