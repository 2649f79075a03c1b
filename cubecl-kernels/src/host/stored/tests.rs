//! Stored weights against the plain form, and against the products of their values in FP32.

use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::definition::{LinearShape, ProductFormat, StoredRows, tiles};
use crate::host::{embedding, grouped_linear, linear, linear_cross_entropy};
use crate::reference;
use crate::test_inputs::{assert_thread_independent, offsets_of, random, random_indices};

const F32: ProductFormat = ProductFormat::F32;

/// A tensor of a checkpoint.
enum Tensor {
    Bf16(Vec<bf16>),
    E4m3 { codes: Vec<u8>, scales: Vec<f32> },
}

/// Which form the tensors of a weight have.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Bf16,
    E4m3,
    Mixed,
}

const FORMS: [Form; 3] = [Form::Bf16, Form::E4m3, Form::Mixed];

/// Tensors of so many rows.
struct Weight {
    inputs: usize,
    tensors: Vec<(usize, Tensor)>,
}

impl Weight {
    fn random(form: Form, inputs: usize, rows: &[usize]) -> Self {
        let tensor = |(index, &rows): (usize, &usize)| {
            let seed = 10 + index as u64;
            let values = random(seed, rows * inputs);
            let tensor = if form == Form::Bf16 || (form == Form::Mixed && index % 2 == 0) {
                Tensor::Bf16(values.iter().map(|&x| bf16::from_f32(x)).collect())
            } else {
                Tensor::E4m3 {
                    // Every code but the two that are NaN.
                    codes: values.iter().map(|&x| (x * 127.0) as i8 as u8 & 0xFE).collect(),
                    scales: random(seed + 1000, tiles(rows) * tiles(inputs)),
                }
            };
            (rows, tensor)
        };
        Self { inputs, tensors: rows.iter().enumerate().map(tensor).collect() }
    }

    fn pieces(&self) -> impl Iterator<Item = (usize, StoredRows<'_>)> {
        self.tensors.iter().map(|(rows, tensor)| {
            let stored = match tensor {
                Tensor::Bf16(values) => StoredRows::Bf16(values),
                Tensor::E4m3 { codes, scales } => StoredRows::E4m3 { codes, scales },
            };
            (*rows, stored)
        })
    }

    fn matrix(&self) -> StoredMatrix<'_> {
        StoredMatrix::new(self.inputs, self.pieces()).unwrap()
    }

    /// Its values by the plain form.
    fn values(&self) -> Vec<f32> {
        self.pieces()
            .flat_map(|(rows, stored)| reference::widen(&stored, rows, self.inputs))
            .collect()
    }
}

#[track_caller]
fn assert_bits(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(a.to_bits() == e.to_bits(), "{what}[{i}]: {a:e} against {e:e}");
    }
}

fn check(form: Form, rows: usize, inputs: usize, pieces: &[usize]) {
    let weight = Weight::random(form, inputs, pieces);
    let (w, values) = (weight.matrix(), weight.values());
    let what = format!("{form:?} {rows} {inputs} {pieces:?}");
    assert_bits(&what, &widen(&w), &values);
    let shape = LinearShape { rows, inputs, outputs: w.rows() };
    let x = random(1, rows * inputs);
    let expected = linear(&x, &values, &shape, F32).unwrap();
    assert_bits(&what, &stored_linear(&x, &w, rows).unwrap(), &expected);
}

fn check_grouped(form: Form, counts: &[usize], inputs: usize, pieces: &[usize]) {
    let (experts, outputs) = (counts.len(), pieces.iter().sum());
    let weight = Weight::random(form, inputs, &pieces.repeat(experts));
    let (w, values) = (weight.matrix(), weight.values());
    let offsets = offsets_of(counts);
    let shape = GroupedLinearShape { rows: offsets[experts], experts, inputs, outputs };
    let x = random(1, shape.rows * inputs);
    let expected = grouped_linear(&x, &values, &offsets, &shape, F32).unwrap();
    let y = stored_grouped_linear(&x, &w, &offsets, &shape).unwrap();
    assert_bits(&format!("{form:?} {counts:?} {inputs} {pieces:?}"), &y, &expected);
}

/// Beside them, the lengths at which few-row products and others part ways.
#[test]
fn hard_edges() {
    for form in FORMS {
        for rows in [0, 1, 3, 4, 5, 6, 64, 65, 130] {
            for (inputs, pieces) in [
                (0, &[3, 2][..]),
                (5, &[3, 0, 2]),
                (3, &[]),
                (1, &[1]),
                (7, &[129, 5]),
                (130, &[1, 64, 66]),
                (2100, &[120, 143, 1]),
                (600, &[700]),
            ] {
                check(form, rows, inputs, pieces);
            }
        }
        for counts in [&[][..], &[0], &[0, 0, 9], &[3, 0, 40], &[5; 7], &[700, 0, 3], &[256, 258]] {
            for (inputs, pieces) in [(1, &[1][..]), (70, &[45, 45]), (300, &[129, 200])] {
                check_grouped(form, counts, inputs, pieces);
            }
        }
    }
}

/// Sums over 2048 and more are cut in several places, and panels are a fraction of the outputs.
#[test]
fn large_products_have_the_bits_of_the_whole() {
    for form in FORMS {
        for rows in [1, 5, 33, 200] {
            check(form, rows, 2048, &[1000, 531]);
            check(form, rows, 5000, &[300, 17]);
        }
        check_grouped(form, &[300, 1, 0, 9], 2048, &[352, 352]);
    }
}

proptest! {
    #[test]
    fn random_shapes(
        rows in 0usize..70,
        inputs in 0usize..700,
        pieces in proptest::collection::vec(0usize..150, 0..4),
        counts in proptest::collection::vec(0usize..12, 0..6),
    ) {
        for form in FORMS {
            check(form, rows, inputs, &pieces);
            check_grouped(form, &counts, inputs, &pieces);
        }
    }
}

#[test]
fn every_code_has_its_value_and_nan_passes_through() {
    let codes: Vec<u8> = (0..=255).collect();
    let stored = StoredRows::E4m3 { codes: &codes, scales: &[0.75, 3.0] };
    let w = StoredMatrix::new(256, [(1, stored)]).unwrap();
    let (values, expected) = (widen(&w), reference::widen(&stored, 1, 256));
    for (code, (value, expected)) in values.iter().zip(&expected).enumerate() {
        let same = value.to_bits() == expected.to_bits();
        assert!(same || (value.is_nan() && expected.is_nan()), "{code:#x}: {value}");
    }
    for rows in [1, 5] {
        assert!(stored_linear(&vec![1.0; rows * 256], &w, rows).unwrap()[0].is_nan());
    }
}

#[test]
fn lookups_and_losses_are_those_of_the_values() {
    for form in FORMS {
        let weight = Weight::random(form, 140, &[300, 211]);
        let (w, values) = (weight.matrix(), weight.values());
        let ids: Vec<i64> = random_indices(3, 50, 511).into_iter().map(|id| id as i64).collect();
        let expected = embedding(&values, &ids, 511, 140).unwrap();
        assert_bits("embedding", &stored_embedding(&w, &ids).unwrap(), &expected);

        let (x, mut targets) = (random(1, 50 * 140), ids);
        targets[7] = -1;
        let shape = LinearShape { rows: 50, inputs: 140, outputs: 511 };
        let expected = linear_cross_entropy(&x, &values, &targets, None, &shape, F32).unwrap();
        assert_eq!(stored_linear_cross_entropy(&x, &w, &targets, 50).unwrap(), expected);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let weight = Weight::random(Form::Mixed, 512, &[500, 531, 40]);
    let w = weight.matrix();
    for rows in [1, 4, 300] {
        let x = random(1, rows * 512);
        assert_thread_independent("stored_linear", || vec![stored_linear(&x, &w, rows).unwrap()]);
    }
}

#[test]
fn wrong_arguments_are_named() {
    let weight = Weight::random(Form::Bf16, 3, &[2, 2]);
    let w = weight.matrix();
    let error = stored_linear(&[0.0; 5], &w, 2).unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "x", expected: 6, actual: 5, .. }));
    let shape = GroupedLinearShape { rows: 1, experts: 3, inputs: 3, outputs: 2 };
    let error = stored_grouped_linear(&[0.0; 3], &w, &[0, 1, 1, 1], &shape).unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "w", expected: 18, actual: 12, .. }));
    let shape = GroupedLinearShape { experts: 2, ..shape };
    let error = stored_grouped_linear(&[0.0; 3], &w, &[0, 2, 1], &shape).unwrap_err();
    assert!(matches!(error, KernelError::Invalid { argument: "offsets", .. }));
    let error = stored_embedding(&w, &[0, 4]).unwrap_err();
    assert_eq!(error.to_string(), "stored_embedding: `ids[1]` is 4, it must lie in 0..4");
    let error = stored_linear_cross_entropy(&[0.0; 3], &w, &[4], 1).unwrap_err();
    assert!(matches!(error, KernelError::Index { argument: "targets", bound: 4, .. }));
}
