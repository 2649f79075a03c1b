//! What casts did, against the codes that they gave.

use super::*;
use crate::definition::{CastCounts, CastLayout, KernelError, TILE, decode_fp8, tiles, words};
use crate::test_inputs::assert_thread_independent;

/// Counts from the codes of a matrix of rows.
fn of_codes(x: &[f32], columns: usize, cast: &Quantized, format: Fp8Format) -> [u64; 2] {
    let (mut saturated, mut underflowed) = (0, 0);
    for (at, &x) in x.iter().enumerate() {
        let (row, column) = (at / columns, at % columns);
        let word = cast.codes[row * words(columns) + column / 4];
        let code = decode_fp8((word >> (8 * (column % 4))) as u8, format);
        let scale = cast.scales[row * tiles(columns) + column / TILE];
        // A value under the largest one, but not by rounding.
        let clipped = code.abs() == format.max() && x.abs() / scale > 1.04 * format.max();
        saturated += u64::from(clipped);
        underflowed += u64::from(code == 0.0 && x != 0.0);
    }
    [saturated, underflowed]
}

fn counted(x: &[f32], columns: usize, cast: &Quantized, format: Fp8Format) -> CastCounts {
    let rows = x.len() / columns;
    count_cast(x, &cast.scales, [rows, columns], CastLayout::Tiles, format, 1).unwrap()
}

#[test]
fn counts_are_those_of_the_codes() {
    for (n, options) in all_options().enumerate() {
        for [rows, columns] in [[1, 1], [3, 128], [7, 130], [40, 300]] {
            let x = spread(n as u64, rows * columns);
            let cast = reference::quantize_rows(&x, rows, columns, &options);
            let counts = counted(&x, columns, &cast, options.format);
            let found = [counts.saturated, counts.underflowed];
            assert_eq!(found, of_codes(&x, columns, &cast, options.format), "{options:?}");
            assert_eq!(counts.values, x.len() as u64);
            let least = cast.scales.iter().copied().fold(f32::INFINITY, f32::min);
            let most = cast.scales.iter().copied().fold(0.0, f32::max);
            assert_eq!((counts.scale_min, counts.scale_max), (least, most));
            assert!(x.len() < 1000 || counts.underflowed > 100, "{counts:?}");
        }
    }
}

/// With scales of somebody else values are clipped; what is not finite has a place of its own.
#[test]
fn what_is_clipped_is_counted() {
    let x = [464.0, 464.1, -1e9, f32::INFINITY, f32::NAN, 1.0 / 1024.0, -1.1 / 1024.0, 0.0];
    let cast = |scale: f32| {
        let codes = x.map(|x| crate::definition::encode_fp8(x / scale, Fp8Format::E4M3));
        let codes = codes.chunks(4).map(|four| u32::from_le_bytes(four.try_into().unwrap()));
        Quantized { codes: codes.collect(), scales: vec![scale] }
    };
    let counts = counted(&x, x.len(), &cast(1.0), Fp8Format::E4M3);
    assert_eq!((counts.saturated, counts.underflowed), (3, 1));
    assert_eq!(counted(&x, x.len(), &cast(4.0), Fp8Format::E4M3).underflowed, 2);
    let none = count_cast(&[], &[], [0, 5], CastLayout::Tiles, Fp8Format::E4M3, 3).unwrap();
    assert_eq!(none, CastCounts::default());
}

/// A row of blocks is that of its own matrix.
#[test]
fn blocks_have_the_scales_of_their_matrix() {
    let (experts, outputs, inputs) = (3, 130, 200);
    let w = spread(9, experts * outputs * inputs);
    let options = QuantizeOptions::default();
    let blocks = reference::quantize_blocks(&w, experts, outputs, inputs, &options);
    let rows = experts * outputs;
    let layout = CastLayout::Blocks { outputs };
    let counts = count_cast(&w, &blocks.scales, [rows, inputs], layout, options.format, 1).unwrap();
    let zeros = |at: usize| {
        let (row, column) = (at / inputs, at % inputs);
        let word = blocks.codes[row * words(inputs) + column / 4];
        (word >> (8 * (column % 4))) & 0x7F == 0 && w[at] != 0.0
    };
    let expected = (0..w.len()).filter(|&at| zeros(at)).count();
    assert!(expected > 1000);
    assert_eq!((counts.underflowed, counts.saturated), (expected as u64, 0));
}

/// Every so-manyth row is counted as it would be alone; scales are those of all rows.
#[test]
fn rows_in_between_are_left_out() {
    let (rows, columns) = (700, 300);
    let x = spread(3, rows * columns);
    let cast = reference::quantize_rows(&x, rows, columns, &QuantizeOptions::default());
    let all = counted(&x, columns, &cast, Fp8Format::E4M3);
    for stride in [1, 4, 7, 699, 700, 5000] {
        let count = |x: &[f32], scales: &[f32], shape, stride| {
            count_cast(x, scales, shape, CastLayout::Tiles, Fp8Format::E4M3, stride).unwrap()
        };
        let found = count(&x, &cast.scales, [rows, columns], stride);
        let mut expected = CastCounts::default();
        for row in (0..rows).step_by(stride) {
            let scales = &cast.scales[row * tiles(columns)..(row + 1) * tiles(columns)];
            let row = &x[row * columns..(row + 1) * columns];
            expected.absorb(&count(row, scales, [1, columns], 1));
        }
        let (scale_min, scale_max) = (all.scale_min, all.scale_max);
        assert_eq!(found, CastCounts { scale_min, scale_max, ..expected }, "{stride}");
    }
    let none = count_cast(&x, &cast.scales, [rows, columns], CastLayout::Tiles, Fp8Format::E4M3, 0);
    assert!(matches!(none, Err(KernelError::Invalid { argument: "stride", .. })));
}

#[test]
fn threads_do_not_change_a_count() {
    let x = spread(5, 700 * 1000);
    let cast = quantize_rows(&x, 700, 1000, &QuantizeOptions::default()).unwrap();
    assert_thread_independent("count_cast", || {
        let counts = counted(&x, 1000, &cast, Fp8Format::E4M3);
        vec![vec![counts.saturated as f32, counts.underflowed as f32, counts.scale_min]]
    });
}

#[test]
fn wrong_arguments_are_named() {
    let count = |x: usize, scales: usize, layout| {
        count_cast(&vec![1.0; x], &vec![1.0; scales], [4, 130], layout, Fp8Format::E4M3, 1)
    };
    for (x, scales, argument) in [(519, 8, "x"), (520, 7, "scales")] {
        let found = count(x, scales, CastLayout::Tiles).unwrap_err();
        assert!(matches!(found, KernelError::Length { argument: a, .. } if a == argument));
    }
    assert!(count(520, 4, CastLayout::Blocks { outputs: 2 }).is_ok());
    for outputs in [0, 3] {
        let found = count(520, 4, CastLayout::Blocks { outputs }).unwrap_err();
        assert!(matches!(found, KernelError::Invalid { argument: "outputs", .. }));
    }
}
