//! Every cast against its plain form, bit for bit.

mod arguments;
mod counts;
mod edges;
mod fused;
mod gathered;
mod ties;

use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::definition::{Fp8Format, Granularity, QuantizeOptions, Quantized, ScaleFormat};
use crate::reference;
use crate::test_inputs::{offsets_of, random};

/// Fails at the first code or scale that differs; any NaN is the same.
#[track_caller]
fn assert_same(name: &str, ours: &Quantized, expected: &Quantized) {
    assert_words(name, &ours.codes, &expected.codes);
    assert_floats(name, &ours.scales, &expected.scales);
}

#[track_caller]
fn assert_words(name: &str, ours: &[u32], expected: &[u32]) {
    assert_eq!(ours.len(), expected.len(), "{name}: words");
    if let Some(i) = (0..ours.len()).find(|&i| ours[i] != expected[i]) {
        panic!("{name}: word {i} of {} is {:08x}, not {:08x}", ours.len(), ours[i], expected[i]);
    }
}

#[track_caller]
fn assert_floats(name: &str, ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len(), "{name}: length");
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    if let Some(i) = (0..ours.len()).find(|&i| !same(ours[i], expected[i])) {
        panic!("{name}: {i} of {} is {:e}, not {:e}", ours.len(), ours[i], expected[i]);
    }
}

/// Every combination of settings.
fn all_options() -> impl Iterator<Item = QuantizeOptions> {
    let formats = [Fp8Format::E4M3, Fp8Format::E5M2];
    let scales = [ScaleFormat::F32, ScaleFormat::PowerOfTwo];
    let granularities = [Granularity::Tile, Granularity::Block, Granularity::Tensor];
    formats.into_iter().flat_map(move |format| {
        scales.into_iter().flat_map(move |scale| {
            granularities.into_iter().map(move |granularity| QuantizeOptions {
                format,
                scale,
                granularity,
            })
        })
    })
}

/// Checks every cast of `x [rows of all groups, cols]` and every way back.
#[track_caller]
fn check(x: &[f32], offsets: &[usize], cols: usize, options: &QuantizeOptions) {
    let (rows, format) = (offsets[offsets.len() - 1], options.format);
    let name = |what: &str| format!("{what} {offsets:?} x {cols} {options:?}");
    let by_rows = reference::quantize_rows(x, rows, cols, options);
    let by_columns = reference::quantize_columns(x, offsets, cols, options);
    assert_same(&name("rows"), &quantize_rows(x, rows, cols, options).unwrap(), &by_rows);
    assert_same(
        &name("columns"),
        &quantize_columns(x, offsets, cols, options).unwrap(),
        &by_columns,
    );
    let both = quantize_both(x, offsets, cols, options).unwrap();
    assert_same(&name("rows of both"), &both.0, &by_rows);
    assert_same(&name("columns of both"), &both.1, &by_columns);

    let Quantized { codes, scales } = &by_rows;
    let back = reference::dequantize_rows(codes, scales, rows, cols, format);
    assert_floats(
        &name("rows back"),
        &dequantize_rows(codes, scales, rows, cols, format).unwrap(),
        &back,
    );
    let again = reference::quantize_columns(&back, offsets, cols, options);
    assert_same(
        &name("again"),
        &requantize_columns(codes, scales, format, offsets, cols, options).unwrap(),
        &again,
    );
    let Quantized { codes, scales } = &by_columns;
    let back = reference::dequantize_columns(codes, scales, offsets, cols, format);
    assert_floats(
        &name("columns back"),
        &dequantize_columns(codes, scales, offsets, cols, format).unwrap(),
        &back,
    );
}

#[track_caller]
fn check_blocks(w: &[f32], experts: usize, n: usize, k: usize, options: &QuantizeOptions) {
    let name = |what: &str| format!("{what} {experts} x {n} x {k} {options:?}");
    let expected = reference::quantize_blocks(w, experts, n, k, options);
    let blocks = quantize_blocks(w, experts, n, k, options).unwrap();
    assert_words(&name("blocks"), &blocks.codes, &expected.codes);
    assert_words(&name("transposed"), &blocks.transposed, &expected.transposed);
    assert_floats(&name("scales"), &blocks.scales, &expected.scales);
    let back =
        reference::dequantize_blocks(&blocks.codes, &blocks.scales, experts, n, k, options.format);
    let ours =
        dequantize_blocks(&blocks.codes, &blocks.scales, experts, n, k, options.format).unwrap();
    assert_floats(&name("back"), &ours, &back);
}

#[track_caller]
fn check_e5m6(x: &[f32], offsets: &[usize], cols: usize) {
    let rows = offsets[offsets.len() - 1];
    for scale in [ScaleFormat::F32, ScaleFormat::PowerOfTwo] {
        let name = |what: &str| format!("{what} {offsets:?} x {cols}, {scale:?}");
        let expected = reference::quantize_e5m6(x, rows, cols, scale);
        let ours = quantize_e5m6(x, rows, cols, scale).unwrap();
        assert_words(&name("codes"), &ours.codes, &expected.codes);
        assert_floats(&name("scales"), &ours.scales, &expected.scales);
        let back = reference::dequantize_e5m6(&ours.codes, &ours.scales, rows, cols);
        assert_floats(
            &name("back"),
            &dequantize_e5m6(&ours.codes, &ours.scales, rows, cols).unwrap(),
            &back,
        );
        let options = QuantizeOptions::default();
        let columns =
            quantize_columns_from_e5m6(&ours.codes, &ours.scales, offsets, cols, &options).unwrap();
        assert_same(
            &name("columns"),
            &columns,
            &reference::quantize_columns(&back, offsets, cols, &options),
        );
    }
}

/// Numbers of many magnitudes, each tile with one of its own, some of them zero or subnormal.
fn spread(seed: u64, len: usize) -> Vec<f32> {
    let (x, exponents) = (random(seed, len), random(seed + 1, len));
    let tile = |i: usize| (exponents[i / 64 * 64] * 30.0).round().exp2();
    x.iter().enumerate().map(|(i, x)| x * tile(i) * (exponents[i] * 8.0).round().exp2()).collect()
}

fn any_options() -> impl Strategy<Value = QuantizeOptions> {
    proptest::sample::select(all_options().collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn activations(
        counts in proptest::collection::vec(0usize..150, 1..5),
        cols in 0usize..300,
        seed in 0u64..1000,
        options in any_options(),
    ) {
        let offsets = offsets_of(&counts);
        check(&spread(seed, offsets[counts.len()] * cols), &offsets, cols, &options);
    }

    #[test]
    fn weights(
        experts in 0usize..4,
        n in 0usize..300,
        k in 0usize..300,
        seed in 0u64..1000,
        options in any_options(),
    ) {
        check_blocks(&spread(seed, experts * n * k), experts, n, k, &options);
    }

    #[test]
    fn wide_rows(rows in 1usize..4, cols in 1900usize..4300, seed in 0u64..1000) {
        let x = spread(seed, rows * cols);
        let options = QuantizeOptions::default();
        assert_same(
            "rows",
            &quantize_rows(&x, rows, cols, &options).unwrap(),
            &reference::quantize_rows(&x, rows, cols, &options),
        );
        check_e5m6(&x, &[0, rows], cols);
    }

    #[test]
    fn e5m6(
        counts in proptest::collection::vec(0usize..40, 1..4),
        cols in 0usize..300,
        seed in 0u64..1000,
    ) {
        let offsets = offsets_of(&counts);
        check_e5m6(&spread(seed, offsets[counts.len()] * cols), &offsets, cols);
    }

    #[test]
    fn bf16_is_cast_as_the_same_numbers_in_f32(
        rows in 0usize..140,
        cols in 0usize..300,
        seed in 0u64..1000,
        options in any_options(),
    ) {
        let x: Vec<bf16> = spread(seed, rows * cols).into_iter().map(bf16::from_f32).collect();
        let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        let (half, full) = (offsets_of(&[rows / 2, rows - rows / 2]), &wide);
        assert_eq!(
            quantize_rows(&x, rows, cols, &options).unwrap(),
            quantize_rows(full, rows, cols, &options).unwrap()
        );
        assert_eq!(
            quantize_columns(&x, &half, cols, &options).unwrap(),
            quantize_columns(full, &half, cols, &options).unwrap()
        );
        assert_eq!(
            quantize_both(&x, &half, cols, &options).unwrap(),
            quantize_both(full, &half, cols, &options).unwrap()
        );
        assert_eq!(
            quantize_blocks(&x, 1, rows, cols, &options).unwrap(),
            quantize_blocks(full, 1, rows, cols, &options).unwrap()
        );
        assert_eq!(
            quantize_e5m6(&x, rows, cols, options.scale).unwrap(),
            quantize_e5m6(full, rows, cols, options.scale).unwrap()
        );
    }
}
