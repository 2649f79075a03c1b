//! Packing, unpacking and combining against the plain form: words bit for bit, sums up to rounding.

use crate::client::{client, download, upload, upload_words, words as read_words};
use crate::oracle::{random, spread};
use cubecl::prelude::Client;
use cubecl_kernels::KernelError;
use cubecl_kernels::all_to_all::{
    DeviceIndex, DeviceSums, combine, combine_backward, pack, pack_backward, unpack,
    unpack_backward,
};
use cubecl_kernels::definition::{DispatchPlan, RowSums, WireFormat};
use cubecl_kernels::metric::calc_diff;
use cubecl_kernels::reference::all_to_all as reference;

const FORMATS: [WireFormat; 3] = [WireFormat::F32, WireFormat::Bf16, WireFormat::Fp8];

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[track_caller]
fn assert_close(name: &str, actual: &[f32], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len(), "{name}: length");
    let largest = expected.iter().fold(0.05f64, |m, x| m.max(x.abs()));
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(a) - e).abs() <= 1e-5 * largest,
            "{name}[{i}]: {a} against {e}, largest {largest}"
        );
    }
    let diff = calc_diff(actual, expected);
    assert!(diff < 1e-9, "{name}: calc_diff {diff}");
}

/// Fails unless words are equal, the sign of a NaN's code or value aside.
#[track_caller]
fn assert_words(name: &str, actual: &[u32], expected: &[u32], format: WireFormat, width: usize) {
    assert_eq!(actual.len(), expected.len(), "{name}: words");
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let is_code = format == WireFormat::Fp8 && i % format.row_words(width) < width.div_ceil(4);
        let same_nan = |byte: u8| if byte == 0xFF { 0x7F } else { byte };
        let equal = if is_code {
            a.to_le_bytes().map(same_nan) == e.to_le_bytes().map(same_nan)
        } else {
            a == e
        };
        assert!(equal, "{name}: word {i}: {a:08x} against {e:08x}");
    }
}

/// The choices of `tokens` tokens, `top_k` different experts each, from `first(t)` on among the
/// first `among`.
fn choices(tokens: usize, top_k: usize, among: usize, first: impl Fn(usize) -> usize) -> Vec<u32> {
    (0..tokens * top_k).map(|slot| ((first(slot / top_k) + slot % top_k) % among) as u32).collect()
}

fn check(
    client: &Client,
    name: &str,
    choices: &[u32],
    top_k: usize,
    experts: usize,
    width: usize,
    format: WireFormat,
) {
    let name = &format!("{name} {format:?} width {width}");
    let plan = DispatchPlan::new(choices, top_k, experts).unwrap();
    let (tokens, rows, row_words) = (plan.tokens(), plan.rows(), format.row_words(width));
    let x = spread(1, tokens * width);
    let index = DeviceIndex::new(client, plan.token_of_row(), tokens).unwrap();
    let wire = pack(client, &upload(client, &x), &index, width, format).unwrap();
    let expected = reference::pack(&x, plan.token_of_row(), width, format);
    assert_words(name, &read_words(client, &wire, rows * row_words), &expected, format, width);

    let order: Vec<u32> = (0..rows as u32).rev().collect();
    let y = unpack(client, &wire, &DeviceIndex::new(client, &order, rows).unwrap(), width, format)
        .unwrap();
    assert_eq!(
        download(client, &y, rows * width),
        reference::unpack(&expected, &order, width, format),
        "{name}: rows"
    );

    let (weights, dout, d) = (random(3, rows), random(4, tokens * width), random(5, rows * width));
    let sums = RowSums::of_slots(plan.row_of_slot(), tokens, top_k, rows).unwrap();
    let device_sums = DeviceSums::new(client, &sums).unwrap();
    let (weights_here, dout_here) = (upload(client, &weights), upload(client, &dout));
    for weighted in [false, true] {
        let here = weighted.then_some(&weights_here);
        let weights64 = widen(&weights);
        let weights64 = weighted.then_some(weights64.as_slice());
        let out = combine(client, &wire, here, &device_sums, width, format).unwrap();
        let expected_out = reference::combine(&expected, weights64, &sums, width, format);
        assert_close(
            &format!("out {name}"),
            &download(client, &out, tokens * width),
            &expected_out,
        );
        let (dy, dweights) =
            combine_backward(client, &wire, here, &device_sums, &dout_here, width, format).unwrap();
        let (dy64, dweights64) =
            reference::combine_backward(&expected, weights64, &sums, &widen(&dout), width, format);
        assert_close(&format!("dy {name}"), &download(client, &dy, rows * width), &dy64);
        assert_close(&format!("dweights {name}"), &download(client, &dweights, rows), &dweights64);
    }
    let d_here = upload(client, &d);
    let dx64 = reference::gather_backward(&widen(&d), plan.token_of_row(), tokens, width);
    for dx in [
        pack_backward(client, &d_here, &index, width),
        unpack_backward(client, &d_here, &index, width),
    ] {
        assert_close(&format!("dx {name}"), &download(client, &dx.unwrap(), tokens * width), &dx64);
    }
}

#[test]
fn every_routing_and_width_has_the_plain_form() {
    let client = client();
    for width in [1, 33, 128, 130, 200, 516, 1153] {
        for format in FORMATS {
            check(&client, "random", &choices(37, 3, 12, |t| t * 7 + t / 3), 3, 12, width, format);
            check(
                &client,
                "one rank and empty experts",
                &choices(20, 2, 3, |t| t),
                2,
                12,
                width,
                format,
            );
            check(&client, "one hot expert", &choices(19, 1, 12, |_| 5), 1, 12, width, format);
        }
    }
    for format in FORMATS {
        check(&client, "no tokens", &[], 2, 8, 130, format);
        check(&client, "no width", &[0, 1, 1, 0], 2, 8, 0, format);
        // More cubes than one dimension of a launch holds.
        check(&client, "many rows", &choices(40_000, 2, 8, |t| t), 2, 8, 5, format);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(30))]
    #[test]
    fn random_routings(
        seed in 0usize..1000,
        tokens in 0usize..20,
        top_k in 1usize..4,
        width in 0usize..300,
        format in 0usize..3,
    ) {
        let choices = choices(tokens, top_k, 6, |t| t * seed + seed / 7);
        check(&client(), "proptest", &choices, top_k, 6, width, FORMATS[format]);
    }
}

/// Zeros of both signs, subnormals, what lies under the floor of a scale, the largest number, NaN
/// and infinities, each among others.
#[test]
fn hard_rows_are_cast_as_the_definition_says() {
    let client = client();
    let with = |at: usize, value: f32| {
        let mut row = spread(77, 161);
        row[at] = value;
        row
    };
    let rows = [
        vec![0.0; 161],
        vec![-0.0; 161],
        vec![1e-40; 161],
        vec![1e-6; 161],
        with(3, f32::MAX),
        with(5, f32::NAN),
        with(160, -f32::NAN),
        with(8, f32::INFINITY),
        with(9, f32::NEG_INFINITY),
    ];
    let x: Vec<f32> = rows.concat();
    let index: Vec<u32> = (0..rows.len() as u32).rev().chain([0, 0]).collect();
    for format in FORMATS {
        let device_index = DeviceIndex::new(&client, &index, rows.len()).unwrap();
        let wire = pack(&client, &upload(&client, &x), &device_index, 161, format).unwrap();
        let expected = reference::pack(&x, &index, 161, format);
        assert_words(
            &format!("{format:?}"),
            &read_words(&client, &wire, expected.len()),
            &expected,
            format,
            161,
        );
        let back = unpack(
            &client,
            &upload_words(&client, &expected),
            &DeviceIndex::new(&client, &index, 11).unwrap(),
            161,
            format,
        )
        .unwrap();
        let values = download(&client, &back, index.len() * 161);
        for (i, (a, e)) in
            values.iter().zip(reference::unpack(&expected, &index, 161, format)).enumerate()
        {
            assert!(
                a.to_bits() == e.to_bits() || (a.is_nan() && e.is_nan()),
                "{format:?}[{i}]: {a} against {e}"
            );
        }
    }
}

#[test]
fn sums_without_terms_are_zero_and_rows_without_sums_get_no_gradient() {
    let client = client();
    let none = RowSums::NONE;
    let sums =
        DeviceSums::new(&client, &RowSums::of_slots(&[none, none, 1, none], 2, 2, 3).unwrap())
            .unwrap();
    let (wire, weights) = (upload(&client, &[1.0, 2.0, 3.0]), upload(&client, &[5.0]));
    let out = combine(&client, &wire, Some(&weights), &sums, 1, WireFormat::F32).unwrap();
    assert_eq!(download(&client, &out, 2), [0.0, 10.0]);
    let dout = upload(&client, &[7.0, 11.0]);
    let (dy, dweights) =
        combine_backward(&client, &wire, Some(&weights), &sums, &dout, 1, WireFormat::F32).unwrap();
    assert_eq!(
        (download(&client, &dy, 3), download(&client, &dweights, 1)),
        (vec![0.0, 55.0, 0.0], vec![22.0])
    );
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let fp8 = WireFormat::Fp8;
    let x = upload(&client, &[0.0; 5]);
    let error = DeviceIndex::new(&client, &[0, 2], 2).unwrap_err();
    assert_eq!(error.to_string(), "device_index: `index[1]` is 2, it must lie in 0..2");
    let index = DeviceIndex::new(&client, &[0, 1], 2).unwrap();
    assert!(matches!(
        pack(&client, &x, &index, 3, fp8),
        Err(KernelError::Length { argument: "x", expected: 6, actual: 5, .. })
    ));
    assert!(matches!(
        unpack(&client, &x, &index, 9, fp8),
        Err(KernelError::Length { argument: "wire", expected: 8, actual: 5, .. })
    ));
    let sums = DeviceSums::new(&client, &RowSums::of_slots(&[0, 1], 1, 2, 2).unwrap()).unwrap();
    assert!(matches!(
        combine(&client, &x, None, &sums, 9, fp8),
        Err(KernelError::Length { argument: "wire", .. })
    ));
    let one = upload(&client, &[1.0]);
    assert!(matches!(
        combine(&client, &x, Some(&one), &sums, 2, fp8),
        Err(KernelError::Length { argument: "weights", expected: 2, .. })
    ));
    let error = combine_backward(&client, &x, None, &sums, &one, 2, fp8).unwrap_err();
    assert!(
        matches!(error, KernelError::Length { argument: "dout", expected: 2, actual: 1, .. }),
        "{error}"
    );
    assert!(matches!(
        pack_backward(&client, &x, &index, 3),
        Err(KernelError::Length { argument: "d", expected: 6, .. })
    ));
    assert!(matches!(
        unpack_backward(&client, &x, &index, 3),
        Err(KernelError::Length { argument: "d", expected: 6, .. })
    ));
    assert!(matches!(
        pack(&client, &x, &index, usize::MAX, fp8),
        Err(KernelError::Overflow { .. })
    ));
}
