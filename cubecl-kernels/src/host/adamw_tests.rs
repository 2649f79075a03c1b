//! AdamW against the reference, in both forms of its moments.

use super::*;
use crate::reference;
use crate::test_inputs::{assert_close, assert_thread_independent, random, widen};

fn config(step: u64) -> AdamWConfig {
    AdamWConfig {
        lr: 2.2e-2,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step,
        gradient_scale: 0.37,
    }
}

fn check(len: usize) {
    let (mut p, mut m, mut v) = (random(1, len), vec![0.0; len], vec![0.0; len]);
    let (mut p64, mut m64, mut v64) = (widen(&p), widen(&m), widen(&v));
    for step in 1..=5 {
        let g = random(10 + step, len);
        adamw(&mut p, &g, &mut m, &mut v, &config(step)).unwrap();
        reference::adamw(&mut p64, &widen(&g), &mut m64, &mut v64, &config(step));
    }
    assert_close("param", &p, &p64, 1e-5);
    assert_close("m", &m, &m64, 1e-5);
    assert_close("v", &v, &v64, 1e-5);
    let exact: f64 = widen(&p).iter().map(|x| x * x).sum();
    assert!((sum_of_squares(&p) - exact).abs() <= 1e-12 * exact);
}

/// One step at a time from the same rounded moments: then what differs is one step's arithmetic
/// and one rounding.
fn check_bf16(len: usize) {
    let (mut p, mut m, mut v) = (random(1, len), vec![bf16::ZERO; len], vec![bf16::ZERO; len]);
    let widen_bf16 = |x: &[bf16]| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
    for step in 1..=5 {
        let g = random(10 + step, len);
        let (mut p64, mut m64, mut v64) = (widen(&p), widen_bf16(&m), widen_bf16(&v));
        adamw(&mut p, &g, &mut m, &mut v, &config(step)).unwrap();
        reference::adamw(&mut p64, &widen(&g), &mut m64, &mut v64, &config(step));
        assert_close("param", &p, &p64, 1e-5);
        for (name, stored, exact) in [("m", &m, &m64), ("v", &v, &v64)] {
            for (&stored, &exact) in stored.iter().zip(exact) {
                // Half a unit in the last of 8 bits, and the F32 rounding of terms that may
                // cancel.
                let half_unit = exact.abs() * 2f64.powi(-8) * (1.0 + 1e-4) + 2e-8;
                assert!(
                    (f64::from(stored) - exact).abs() <= half_unit,
                    "{name}: {stored} against {exact}"
                );
            }
        }
    }
}

#[test]
fn hard_edges() {
    for len in [0, 1, 15, 16, 17, 40_000] {
        check(len);
        check_bf16(len);
    }
}

proptest::proptest! {
    #[test]
    fn random_lengths(len in 0usize..300) {
        check(len);
        check_bf16(len);
    }

    #[test]
    fn any_bits_round_as_half_rounds_them(bits: u32) {
        let x = f32::from_bits(bits);
        assert_eq!(<bf16 as sealed::Moment>::round(x).to_bits(), bf16::from_f32(x).to_bits());
    }
}

#[test]
fn ties_go_to_even_and_the_ends_are_kept() {
    for (bits, expected) in [
        (0x3F80_8000, 0x3F80), // a tie, down to even
        (0x3F81_8000, 0x3F82), // a tie, up to even
        (0x3F80_8001, 0x3F81),
        (0x3F80_7FFF, 0x3F80),
        (0x7F7F_FFFF, 0x7F80), // the largest F32 is beyond the largest BF16
        (0x7F80_0000, 0x7F80),
        (0xFF80_0000, 0xFF80),
        (0x7F80_0001, 0x7FC0), // a NaN whose upper half alone would be an infinity
        (0xFFFF_FFFF, 0xFFFF),
        (0x8000_0000, 0x8000),
        (0x0000_8000, 0x0000), // half the least number, to even
        (0x0000_8001, 0x0001),
    ] {
        let x = f32::from_bits(bits);
        assert_eq!(<bf16 as sealed::Moment>::round(x).to_bits(), expected, "{bits:08x}");
        assert_eq!(bf16::from_f32(x).to_bits(), expected, "{bits:08x}: half");
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let (mut p, mut m, mut v) = ([1.0, 1.0], [bf16::ONE; 2], [bf16::ONE; 2]);
    adamw(&mut p, &[f32::NAN, f32::INFINITY], &mut m, &mut v, &config(1)).unwrap();
    assert!(p[0].is_nan() && m[0].is_nan() && v[0].is_nan());
    assert!(
        p[1].is_nan() && m[1].is_infinite() && v[1].is_infinite(),
        "infinity over infinity: {p:?} {m:?} {v:?}"
    );
}

/// What a moment in BF16 cannot do: a decay of less than half a unit in its last place is
/// rounded away.
#[test]
fn a_slow_decay_stalls_in_bf16() {
    let after = |beta2: f32| {
        let (mut p, mut m, mut v) = ([1.0], [bf16::ZERO], [bf16::ONE]);
        (0..50).for_each(|_| {
            adamw(&mut p, &[0.0], &mut m, &mut v, &AdamWConfig { beta2, ..config(9) }).unwrap()
        });
        f32::from(v[0])
    };
    assert!(after(0.95) < 0.1);
    assert_eq!(after(0.999), 1.0);
}

#[test]
fn the_first_step_is_the_sign_of_the_gradient() {
    let (mut p, mut m, mut v) = ([1.0, 1.0, 1.0], [0.0; 3], [0.0; 3]);
    let config = AdamWConfig { weight_decay: 0.0, lr: 0.1, gradient_scale: 1.0, ..config(1) };
    adamw(&mut p, &[3.0, -0.01, 0.0], &mut m, &mut v, &config).unwrap();
    for (p, expected) in p.iter().zip([0.9, 1.1, 1.0]) {
        assert!((p - expected).abs() < 1e-5, "{p}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (p, g) = (random(1, 300_001), random(2, 300_001));
    assert_thread_independent("adamw", || {
        let (mut p, mut m, mut v) = (p.clone(), vec![0.0; p.len()], vec![0.0; p.len()]);
        adamw(&mut p, &g, &mut m, &mut v, &config(1)).unwrap();
        let squares = sum_of_squares(&g).to_bits();
        let (mut q, mut first, mut second) =
            (p.clone(), vec![bf16::ZERO; p.len()], vec![bf16::ZERO; p.len()]);
        adamw(&mut q, &g, &mut first, &mut second, &config(1)).unwrap();
        let wide = |x: Vec<bf16>| x.into_iter().map(f32::from).collect();
        let sum = vec![f32::from_bits(squares as u32), f32::from_bits((squares >> 32) as u32)];
        vec![p, m, v, sum, q, wide(first), wide(second)]
    });
}

#[test]
fn wrong_arguments_are_named() {
    let step = |len, step| {
        adamw(&mut [0.0; 2], &[0.0; 2], &mut vec![0.0; len], &mut [0.0; 2], &config(step))
    };
    assert!(matches!(step(1, 1), Err(KernelError::Length { argument: "m", .. })));
    assert!(matches!(step(2, 0), Err(KernelError::Invalid { .. })));
}
