//! Composed and fused forms beside each other: AdamW, sums of squares, averages.

use super::*;

fn tensor(values: &[f32]) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &Device::flex())
}

fn values(tensor: Tensor<1>) -> Vec<f32> {
    tensor.cast(DType::F32).into_data().iter::<f32>().collect()
}

/// Both forms of AdamW, with moments in both types: the same parameter, and moments rounded the
/// same way.
#[test]
fn adamw_s_forms_agree_with_moments_in_either_type() {
    for kept in [DType::F32, DType::BF16] {
        let start = || {
            [
                tensor(&[0.5, -0.25, 1.0, 0.0]),
                tensor(&[0.0; 4]).cast(kept),
                tensor(&[0.0; 4]).cast(kept),
            ]
        };
        let (mut fused, mut composed) = (start(), start());
        for step in 1..=4 {
            let scalars = AdamWScalars {
                lr: 1e-2,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                step,
                grad_scale: 0.5,
            };
            let grad = || tensor(&[0.3, -1e-3 * step as f32, 7.0, 0.0]);
            let [value, first, second] = fused;
            fused = crate::ops::adamw(value, grad(), first, second, &scalars).into();
            let [value, first, second] = composed;
            composed = adamw(value, grad(), first, second, &scalars).into();
            assert_eq!((fused[1].dtype(), composed[2].dtype()), (kept, kept));
        }
        // A rounding of the last bit before the moments are rounded may decide a tie: one unit
        // of BF16.
        let tolerances = if kept == DType::BF16 { [1e-6, 8e-3, 8e-3] } else { [1e-6; 3] };
        for ((fused, composed), tolerance) in fused.into_iter().zip(composed).zip(tolerances) {
            for (a, b) in values(fused).into_iter().zip(values(composed)) {
                assert!(
                    (a - b).abs() <= tolerance * b.abs().max(1e-3),
                    "{kept:?}: {a} against {b}"
                );
            }
        }
    }
}

#[test]
fn sums_of_several_are_those_of_each() {
    let xs = || vec![tensor(&[3.0, 4.0]), tensor(&[0.1; 5]), tensor(&[])];
    let each: Vec<f64> = xs().into_iter().map(sum_of_squares).collect();
    assert_eq!(sums_of_squares(xs()), each);
    let fused: Vec<f64> = xs().into_iter().map(crate::ops::sum_of_squares).collect();
    assert_eq!(crate::ops::sums_of_squares(xs()), fused);
    assert_eq!(sums_of_squares(Vec::new()), [0.0f64; 0]);
}

#[test]
fn averages_agree() {
    let (average, value) = ([1.0, -2.0, 0.5], [3.0, -2.0, f32::INFINITY]);
    let fused = values(crate::ops::average_into(tensor(&average), tensor(&value), 0.125));
    assert_eq!(fused, values(average_into(tensor(&average), tensor(&value), 0.125)));
    assert_eq!(fused, [1.25, -2.0, f32::INFINITY]);
}
