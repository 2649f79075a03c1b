//! Against the plain form, over random routings and hard edges.

use half::bf16;

use super::*;
use crate::KernelError;
use crate::definition::{DispatchPlan, RowSums, WireFormat};
use crate::reference::all_to_all as reference;
use crate::test_inputs::{
    assert_close, assert_gradient, assert_thread_independent, inner, random, random_indices, widen,
};

const FORMATS: [WireFormat; 3] = [WireFormat::F32, WireFormat::Bf16, WireFormat::Fp8];

/// Values whose magnitudes spread over many binades, as activations' do.
fn spread(seed: u64, len: usize) -> Vec<f32> {
    random(seed, len).iter().zip(random(seed + 1, len)).map(|(x, e)| x * (6.0 * e).exp2()).collect()
}

/// Routings of `tokens` tokens to `top_k` different ones of `experts`.
fn routings(tokens: usize, top_k: usize, experts: usize) -> Vec<(&'static str, Vec<u32>)> {
    let distinct = |first: &dyn Fn(usize) -> usize, among: usize| -> Vec<u32> {
        (0..tokens)
            .flat_map(|t| (0..top_k).map(move |j| (t, j)))
            .map(|(t, j)| ((first(t) + j) % among) as u32)
            .collect()
    };
    let starts = random_indices(5, tokens.max(1), experts);
    vec![
        ("random", distinct(&|t| starts[t], experts)),
        ("one rank and empty experts", distinct(&|t| t, (experts / 4).max(top_k))),
        ("one hot expert", distinct(&|_| experts - top_k, experts)),
    ]
}

#[track_caller]
fn assert_bits(name: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{name}: length");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            a.to_bits() == e.to_bits() || (a.is_nan() && e.is_nan()),
            "{name}[{i}]: {a} against {e}"
        );
    }
}

/// Forward and backward of one routing: pack as the plan says, unpack in another order, combine
/// back.
fn check(
    name: &str,
    choices: &[u32],
    top_k: usize,
    experts: usize,
    width: usize,
    format: WireFormat,
) {
    let name = &format!("{name} {format:?} width {width}");
    let plan = DispatchPlan::new(choices, top_k, experts).unwrap();
    let (tokens, rows) = (plan.tokens(), plan.rows());
    let x = spread(1, tokens * width);
    let wire = pack(&x, plan.token_of_row(), tokens, width, format).unwrap();
    assert_eq!(wire, reference::pack(&x, plan.token_of_row(), width, format), "{name}: words");

    let narrow: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    let widened: Vec<f32> = narrow.iter().map(|x| x.to_f32()).collect();
    let of_bf16 = pack(&narrow, plan.token_of_row(), tokens, width, format).unwrap();
    assert_eq!(
        of_bf16,
        reference::pack(&widened, plan.token_of_row(), width, format),
        "{name}: words of BF16"
    );

    let order: Vec<u32> = (0..rows as u32).rev().collect();
    let y = unpack(&wire, &order, rows, width, format).unwrap();
    assert_bits(name, &y, &reference::unpack(&wire, &order, width, format));
    if format == WireFormat::F32 {
        let sent: Vec<f32> = order
            .iter()
            .flat_map(|&row| &x[plan.token_of_row()[row as usize] as usize * width..][..width])
            .copied()
            .collect();
        assert_bits(name, &y, &sent);
    }

    let (weights, dout) = (random(3, rows), random(4, tokens * width));
    let (weights64, dout64) = (widen(&weights), widen(&dout));
    let sums = RowSums::of_slots(plan.row_of_slot(), tokens, top_k, rows).unwrap();
    for weights in [None, Some(&weights)] {
        let out = combine(&wire, weights.map(Vec::as_slice), &sums, width, format).unwrap();
        let weights64 = weights.map(|_| weights64.as_slice());
        assert_close(name, &out, &reference::combine(&wire, weights64, &sums, width, format), 2e-6);
        let (dy, dweights) =
            combine_backward(&wire, weights.map(Vec::as_slice), &sums, &dout, width, format)
                .unwrap();
        let (dy64, dweights64) =
            reference::combine_backward(&wire, weights64, &sums, &dout64, width, format);
        assert_close(name, &dy, &dy64, 2e-6);
        assert_close(name, &dweights, &dweights64, 2e-5);
    }
    let d = random(6, rows * width);
    let dx = pack_backward(&d, plan.token_of_row(), tokens, width).unwrap();
    assert_close(
        name,
        &dx,
        &reference::gather_backward(&widen(&d), plan.token_of_row(), tokens, width),
        2e-6,
    );
    assert_bits(name, &unpack_backward(&d, plan.token_of_row(), tokens, width).unwrap(), &dx);
}

#[test]
fn every_routing_and_width_has_the_plain_form() {
    for width in [1, 33, 128, 130, 200, 513] {
        for format in FORMATS {
            for (name, choices) in routings(37, 3, 12) {
                check(name, &choices, 3, 12, width, format);
            }
            // One row a token: cast as it is gathered, not before.
            check("one expert a token", &routings(37, 1, 12)[0].1, 1, 12, width, format);
        }
    }
    for format in FORMATS {
        check("no tokens", &[], 2, 8, 130, format);
        check("no width", &[0, 1, 1, 0], 2, 8, 0, format);
        check("long rows", &routings(5, 2, 4)[0].1, 2, 4, 7168, format);
    }
}

proptest::proptest! {
    #[test]
    fn random_routings(
        seed in 0u64..1000,
        tokens in 0usize..20,
        top_k in 1usize..4,
        width in 0usize..300,
        format in 0usize..3,
    ) {
        let choices: Vec<u32> =
            random_indices(seed, tokens * top_k, 6).into_iter().map(|e| e as u32).collect();
        check("proptest", &choices, top_k, 6, width, FORMATS[format]);
    }
}

/// Zeros of both signs, subnormals, what lies under the floor of a scale, the largest number, NaN
/// and infinities, each among others.
#[test]
fn hard_rows_are_cast_as_the_definition_says() {
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
        let wire = pack(&x, &index, rows.len(), 161, format).unwrap();
        assert_eq!(wire, reference::pack(&x, &index, 161, format), "{format:?}");
        let back = unpack(&wire, &index[..9], index.len(), 161, format).unwrap();
        assert_bits(
            &format!("{format:?}"),
            &back,
            &reference::unpack(&wire, &index[..9], 161, format),
        );
        // Row 5 has its NaN at 5, row 7 its infinity at 8; `index` reverses nine rows, and applied
        // twice it gives them back.
        assert!(
            back[5 * 161 + 5].is_nan()
                && back[7 * 161 + 8] == f32::INFINITY
                && back[8 * 161 + 9] == f32::NEG_INFINITY,
            "{format:?}"
        );
        assert!(back[..2 * 161].iter().all(|&x| x == 0.0), "{format:?}");
    }
}

#[test]
fn fp8_is_idempotent_so_that_a_cast_after_the_wire_changes_nothing() {
    let x = spread(9, 50 * 200);
    let index: Vec<u32> = (0..50).collect();
    let wire = pack(&x, &index, 50, 200, WireFormat::Fp8).unwrap();
    let once = unpack(&wire, &index, 50, 200, WireFormat::Fp8).unwrap();
    let again = pack(&once, &index, 50, 200, WireFormat::Fp8).unwrap();
    assert_bits("twice", &unpack(&again, &index, 50, 200, WireFormat::Fp8).unwrap(), &once);
}

#[test]
fn sums_without_terms_are_zero_and_rows_without_sums_get_no_gradient() {
    let none = RowSums::NONE;
    let sums = RowSums::of_slots(&[none, none, 1, none], 2, 2, 3).unwrap();
    let wire = pack(&[1.0f32, 2.0, 3.0], &[0, 1, 2], 3, 1, WireFormat::F32).unwrap();
    assert_eq!(combine(&wire, Some(&[5.0]), &sums, 1, WireFormat::F32).unwrap(), [0.0, 10.0]);
    let (dy, dweights) =
        combine_backward(&wire, Some(&[5.0]), &sums, &[7.0, 11.0], 1, WireFormat::F32).unwrap();
    assert_eq!((dy, dweights), (vec![0.0, 55.0, 0.0], vec![22.0]));
}

#[test]
fn the_reference_gradients_are_slopes() {
    let sums = RowSums::of_slots(&[2, 0, RowSums::NONE, 2, 1, 3], 3, 2, 4).unwrap();
    let (y, weights, dout) = (random(1, 12), widen(&random(2, 5)), widen(&random(3, 9)));
    let wire: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
    let (_, dweights) =
        reference::combine_backward(&wire, Some(&weights), &sums, &dout, 3, WireFormat::F32);
    assert_gradient("dweights", &weights, &dweights, |w| {
        inner(&reference::combine(&wire, Some(w), &sums, 3, WireFormat::F32), &dout)
    });
    // Linear in y: what a unit step of one entry changes is its gradient.
    let (dy, _) =
        reference::combine_backward(&wire, Some(&weights), &sums, &dout, 3, WireFormat::F32);
    let at = |y: &[f32]| {
        let wire: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
        inner(&reference::combine(&wire, Some(&weights), &sums, 3, WireFormat::F32), &dout)
    };
    for i in 0..12 {
        let mut moved = y.clone();
        moved[i] += 1.0;
        let step = f64::from(moved[i]) - f64::from(y[i]);
        assert!((at(&moved) - at(&y) - step * dy[i]).abs() < 1e-12, "dy[{i}]");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (tokens, top_k, width) = (1500, 4, 300);
    let choices: Vec<u32> =
        random_indices(7, tokens * top_k, 16).into_iter().map(|e| e as u32).collect();
    let plan = DispatchPlan::new(&choices, top_k, 16).unwrap();
    let sums = RowSums::of_slots(plan.row_of_slot(), tokens, top_k, plan.rows()).unwrap();
    let (x, weights, dout) =
        (spread(1, tokens * width), random(2, plan.rows()), random(3, tokens * width));
    for format in FORMATS {
        assert_thread_independent("all_to_all", || {
            let wire = pack(&x, plan.token_of_row(), tokens, width, format).unwrap();
            let (dy, dweights) =
                combine_backward(&wire, Some(&weights), &sums, &dout, width, format).unwrap();
            let out = combine(&wire, Some(&weights), &sums, width, format).unwrap();
            let back = unpack(&wire, sums.rows(), plan.rows(), width, format).unwrap();
            let dx = pack_backward(&dy, plan.token_of_row(), tokens, width).unwrap();
            vec![wire.into_iter().map(f32::from_bits).collect(), dy, dweights, out, back, dx]
        });
    }
}

#[test]
fn wrong_arguments_are_named() {
    let fp8 = WireFormat::Fp8;
    let error = pack(&[0.0f32; 5], &[0], 2, 3, fp8).unwrap_err();
    assert_eq!(error.to_string(), "pack: `x` has 5 elements, its shape [2, 3] needs 6");
    let error = pack(&[0.0f32; 6], &[0, 2], 2, 3, fp8).unwrap_err();
    assert_eq!(error.to_string(), "pack: `index[1]` is 2, it must lie in 0..2");
    let error = unpack(&[0; 3], &[0], 2, 3, fp8).unwrap_err();
    assert_eq!(error.to_string(), "unpack: `wire` has 3 elements, its shape [2, 2] needs 4");
    assert!(matches!(
        unpack(&[0; 4], &[2], 2, 3, fp8),
        Err(KernelError::Index { argument: "index", value: 2, bound: 2, .. })
    ));
    let sums = RowSums::of_slots(&[0, 1], 1, 2, 2).unwrap();
    assert!(matches!(
        combine(&[0; 3], None, &sums, 3, fp8),
        Err(KernelError::Length { argument: "wire", expected: 4, .. })
    ));
    assert!(matches!(
        combine(&[0; 4], Some(&[1.0]), &sums, 3, fp8),
        Err(KernelError::Length { argument: "weights", expected: 2, .. })
    ));
    let error = combine_backward(&[0; 4], None, &sums, &[0.0; 2], 3, fp8).unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "dout", expected: 3, .. }), "{error}");
    assert!(matches!(
        pack_backward(&[0.0; 2], &[0], 1, 3),
        Err(KernelError::Length { argument: "d", expected: 3, .. })
    ));
    assert!(matches!(
        unpack_backward(&[0.0; 3], &[1], 1, 3),
        Err(KernelError::Index { argument: "index", .. })
    ));
    assert!(matches!(
        pack(&[0.0f32; 0], &[], 0, usize::MAX, fp8),
        Err(KernelError::Overflow { .. })
    ));
}
