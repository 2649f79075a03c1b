//! SwiGLU with its cast: the codes of the two steps done one after the other.

use super::*;
use crate::host::{swiglu, swiglu_backward};
use crate::metric::calc_diff;
use crate::test_inputs::{assert_thread_independent, widen};

fn check_swiglu(counts: &[usize], inter: usize, options: &QuantizeOptions) {
    let offsets = offsets_of(counts);
    let rows = offsets[counts.len()];
    let gate_up: Vec<f32> = random(1, rows * 2 * inter).iter().map(|x| x * 6.0).collect();
    let dy = random(2, rows * inter);
    let h = swiglu(&gate_up, rows, inter).unwrap();
    assert_eq!(
        swiglu_quantize_rows(&gate_up, rows, inter, options).unwrap(),
        quantize_rows(&h, rows, inter, options).unwrap()
    );
    assert_eq!(
        swiglu_quantize_columns(&gate_up, &offsets, inter, options).unwrap(),
        quantize_columns(&h, &offsets, inter, options).unwrap()
    );

    let input = quantize_rows(&gate_up, rows, 2 * inter, options).unwrap();
    let by_rows = swiglu_quantize_rows(&gate_up, rows, inter, options).unwrap();
    let both = swiglu_quantize_rows_and_input(&gate_up, rows, inter, options).unwrap();
    assert_eq!(both, (by_rows, input.clone()));

    let Quantized { codes, scales } = input;
    let kept = dequantize_rows(&codes, &scales, rows, 2 * inter, options.format).unwrap();
    let h = swiglu(&kept, rows, inter).unwrap();
    let of_codes =
        swiglu_quantize_rows_from_codes(&codes, &scales, options.format, rows, inter, options)
            .unwrap();
    assert_eq!(of_codes, quantize_rows(&h, rows, inter, options).unwrap());
    let of_codes = swiglu_quantize_columns_from_codes(
        &codes,
        &scales,
        options.format,
        &offsets,
        inter,
        options,
    )
    .unwrap();
    assert_eq!(of_codes, quantize_columns(&h, &offsets, inter, options).unwrap());
    let gradient =
        swiglu_backward_from_codes(&codes, &scales, options.format, &dy, rows, inter).unwrap();
    assert_eq!(gradient, swiglu_backward(&kept, &dy, rows, inter).unwrap());
}

#[test]
fn hard_edges() {
    // Gate and up share tiles and words where `inter` is no multiple of 128 or 4.
    for counts in [&[0][..], &[1], &[3, 0, 5], &[33, 100, 2]] {
        for inter in [0, 1, 2, 7, 64, 128, 130, 256, 300, 2100, 2176] {
            check_swiglu(counts, inter, &QuantizeOptions::default());
        }
    }
}

proptest! {
    #[test]
    fn random_shapes(
        counts in proptest::collection::vec(0usize..60, 1..4),
        inter in 0usize..200,
        options in any_options(),
    ) {
        check_swiglu(&counts, inter, &options);
    }
}

/// Against the plain SwiGLU in f64, the error is that of the cast.
#[test]
fn the_result_is_swiglu() {
    let (rows, inter, options) = (40, 300, QuantizeOptions::default());
    let gate_up: Vec<f32> = random(1, rows * 2 * inter).iter().map(|x| x * 6.0).collect();
    let expected = reference::swiglu(&widen(&gate_up), rows, inter);
    let Quantized { codes, scales } =
        swiglu_quantize_rows(&gate_up, rows, inter, &options).unwrap();
    let diff = calc_diff(
        &dequantize_rows(&codes, &scales, rows, inter, options.format).unwrap(),
        &expected,
    );
    assert!((1e-5..1e-3).contains(&diff), "{diff}");
}

#[test]
fn extreme_gates_give_what_swiglu_gives() {
    let options = QuantizeOptions::default();
    let gate_up = [f32::NEG_INFINITY, -1e30, 1e30, 0.0, 1.0, 1.0, 1.0, f32::NAN];
    let h = swiglu(&gate_up, 1, 4).unwrap();
    assert_same(
        "rows",
        &swiglu_quantize_rows(&gate_up, 1, 4, &options).unwrap(),
        &quantize_rows(&h, 1, 4, &options).unwrap(),
    );
    let mut gate_up = [1.0; 256];
    (gate_up[3], gate_up[5], gate_up[200]) = (f32::NAN, f32::INFINITY, -1e30);
    let h = swiglu(&gate_up, 1, 128).unwrap();
    let (hidden, input) = swiglu_quantize_rows_and_input(&gate_up, 1, 128, &options).unwrap();
    assert_same("both", &hidden, &quantize_rows(&h, 1, 128, &options).unwrap());
    assert_same("input", &input, &quantize_rows(&gate_up, 1, 256, &options).unwrap());
}

#[test]
fn threads_do_not_change_a_bit() {
    let (rows, inter, options) = (600, 1000, QuantizeOptions::default());
    let (gate_up, dy) = (random(1, rows * 2 * inter), random(2, rows * inter));
    let kept = quantize_rows(&gate_up, rows, 2 * inter, &options).unwrap();
    let floats = |q: Quantized| vec![q.scales, q.codes.into_iter().map(f32::from_bits).collect()];
    assert_thread_independent("swiglu and its input", || {
        let (whole, inter) = (&gate_up[..rows * 2 * 896], 896);
        let (hidden, input) = swiglu_quantize_rows_and_input(whole, rows, inter, &options).unwrap();
        floats(hidden).into_iter().chain(floats(input)).collect()
    });
    assert_thread_independent("swiglu", || {
        let by_rows = swiglu_quantize_rows(&gate_up, rows, inter, &options).unwrap();
        let Quantized { codes, scales } = &kept;
        let by_columns = swiglu_quantize_columns_from_codes(
            codes,
            scales,
            options.format,
            &[0, 129, rows],
            inter,
            &options,
        )
        .unwrap();
        let gradient =
            swiglu_backward_from_codes(codes, scales, options.format, &dy, rows, inter).unwrap();
        floats(by_rows).into_iter().chain(floats(by_columns)).chain([gradient]).collect()
    });
}
