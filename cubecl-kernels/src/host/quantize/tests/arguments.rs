//! Wrong arguments are refused by name.

use super::*;
use crate::KernelError;

/// The argument that an error names.
#[track_caller]
fn named<T: std::fmt::Debug>(result: Result<T, KernelError>) -> &'static str {
    match result.unwrap_err() {
        KernelError::Length { argument, .. }
        | KernelError::Overflow { argument, .. }
        | KernelError::Invalid { argument, .. } => argument,
        other => panic!("{other}"),
    }
}

#[test]
fn wrong_lengths_name_the_argument() {
    let options = QuantizeOptions::default();
    let format = options.format;
    let x = [0.0f32; 6];
    assert_eq!(named(quantize_rows(&x, 2, 2, &options)), "x");
    assert_eq!(named(quantize_columns(&x, &[0, 2], 2, &options)), "x");
    assert_eq!(named(quantize_both(&x, &[0, 2], 2, &options)), "x");
    assert_eq!(named(quantize_gathered_rows(&x, &[0], 2, 2, &options)), "x");
    assert_eq!(named(quantize_gathered(&x, &[0, 1], &[0, 2], 2, 2, &options)), "x");
    assert_eq!(named(quantize_gathered(&x, &[0, 1], &[0, 3], 3, 2, &options)), "index");
    assert_eq!(named(quantize_blocks(&x, 1, 2, 2, &options)), "w");
    assert_eq!(named(quantize_e5m6(&x, 2, 2, ScaleFormat::F32)), "x");
    assert_eq!(named(swiglu_quantize_rows(&x, 2, 3, &options)), "gate_up");
    assert_eq!(named(swiglu_quantize_columns(&x, &[0, 2], 3, &options)), "gate_up");
    assert_eq!(named(swiglu_quantize_rows_and_input(&x, 2, 3, &options)), "gate_up");
    for (codes, scales, name) in [(3, 2, "codes"), (2, 3, "scales")] {
        let (codes, scales) = (vec![0; codes], vec![1.0; scales]);
        assert_eq!(named(dequantize_rows(&codes, &scales, 2, 4, format)), name);
        assert_eq!(named(dequantize_columns(&codes, &scales, &[0, 4], 2, format)), name);
        assert_eq!(named(dequantize_blocks(&codes, &scales, 2, 1, 4, format)), name);
        assert_eq!(named(requantize_columns(&codes, &scales, format, &[0, 2], 4, &options)), name);
        assert_eq!(named(dequantize_e5m6(&codes, &scales, 2, 2)), name);
        assert_eq!(named(quantize_columns_from_e5m6(&codes, &scales, &[0, 2], 2, &options)), name);
        assert_eq!(
            named(swiglu_quantize_rows_from_codes(&codes, &scales, format, 2, 2, &options)),
            name
        );
        assert_eq!(
            named(swiglu_quantize_columns_from_codes(
                &codes,
                &scales,
                format,
                &[0, 2],
                2,
                &options
            )),
            name
        );
        assert_eq!(
            named(swiglu_backward_from_codes(&codes, &scales, format, &[0.0; 4], 2, 2)),
            name
        );
    }
    assert_eq!(
        named(swiglu_backward_from_codes(&[0; 2], &[1.0; 2], format, &[0.0; 3], 2, 2)),
        "dy"
    );
}

#[test]
fn offsets_must_rise_from_zero_to_the_rows() {
    let options = QuantizeOptions::default();
    let x = [0.0f32; 12];
    for offsets in [&[0, 4, 2, 6][..], &[1, 6], &[3, 6]] {
        assert_eq!(named(quantize_columns(&x, offsets, 2, &options)), "offsets");
        assert_eq!(named(quantize_both(&x, offsets, 2, &options)), "offsets");
        assert_eq!(named(quantize_gathered(&x, &[0; 6], offsets, 6, 2, &options)), "offsets");
        assert_eq!(named(swiglu_quantize_columns(&[0.0; 24], offsets, 2, &options)), "offsets");
        assert_eq!(
            named(dequantize_columns(&[0; 4], &[0.0; 2], offsets, 2, options.format)),
            "offsets"
        );
        assert_eq!(
            named(requantize_columns(&[0; 6], &[0.0; 6], options.format, offsets, 2, &options)),
            "offsets"
        );
        assert_eq!(
            named(quantize_columns_from_e5m6(&[0; 6], &[0.0; 6], offsets, 2, &options)),
            "offsets"
        );
    }
    assert_eq!(named(quantize_columns::<f32>(&[], &[], 2, &options)), "offsets");
}

#[test]
fn absurd_shapes_are_refused() {
    let options = QuantizeOptions::default();
    let (empty, absurd): (&[f32], _) = (&[], usize::MAX);
    assert_eq!(named(quantize_rows(empty, absurd, absurd, &options)), "x");
    assert_eq!(named(quantize_rows(empty, 0, absurd, &options)), "x");
    assert_eq!(named(quantize_both(empty, &[0, absurd], absurd, &options)), "x");
    assert_eq!(named(quantize_blocks(empty, absurd, 0, absurd, &options)), "w");
    assert_eq!(named(quantize_e5m6(empty, absurd, absurd, ScaleFormat::F32)), "x");
    assert_eq!(named(swiglu_quantize_rows(empty, absurd, absurd, &options)), "gate_up");
    assert_eq!(named(swiglu_quantize_rows_and_input(empty, 0, absurd, &options)), "gate_up");
    assert_eq!(
        named(swiglu_quantize_rows_from_codes(&[], &[], options.format, 0, absurd, &options)),
        "gate_up"
    );
    assert_eq!(named(dequantize_rows(&[], &[], absurd, absurd, options.format)), "codes");
    assert_eq!(named(dequantize_columns(&[], &[], &[0], absurd, options.format)), "x");
}
