//! What the FP8 functions and layers accept, refuse, and give for numbers that are none.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use cubecl_kernels::metric::calc_diff;

use super::{
    Accumulation, Fp8Error, Fp8GroupedLinearConfig, Fp8LinearConfig, QuantizeOptions, ScaleFormat,
    matmul_nt, quantize_rows, quantize_weight,
};
use crate::definition::ExpertGroups;

fn random(rows: usize, columns: usize) -> Tensor<2> {
    crate::WeightInit::normal((rows * 1000 + columns) as u64, 1.0, &Device::flex())
        .weight([rows, columns])
        .val()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

#[test]
fn products_are_near_those_of_the_numbers() {
    for (m, n, k) in [(1, 1, 1), (33, 130, 200), (7, 40, 24), (0, 5, 8), (5, 0, 8)] {
        let (x, w) = (random(m, k), random(n, k));
        let options = QuantizeOptions::default();
        let (qx, qw) = (quantize_rows(&x, options).unwrap(), quantize_weight(&w, options).unwrap());
        let y = matmul_nt(&qx, &qw, Accumulation::Promoted).unwrap();
        assert_eq!(y.dims(), [m, n]);
        let dequantized = qx.dequantize().matmul(qw.dequantize().transpose());
        assert!(calc_diff(&values(y.clone()), &values(dequantized)).abs() < 1e-10, "{m} {n} {k}");
        assert!(
            calc_diff(&values(y), &values(x.matmul(w.transpose()))).abs() < 1e-3,
            "{m} {n} {k}"
        );
    }
}

#[test]
fn errors_name_the_argument() {
    let options = QuantizeOptions::default();
    let half = random(2, 8).cast(DType::F64);
    let error = quantize_rows(&half, options).unwrap_err();
    assert_eq!(error, Fp8Error::Dtype { argument: "x", actual: DType::F64 });
    assert!(error.to_string().contains("`x` is F64"), "{error}");
    let (x, w) = (
        quantize_rows(&random(2, 8), options).unwrap(),
        quantize_weight(&random(3, 9), options).unwrap(),
    );
    let error = matmul_nt(&x, &w, Accumulation::Promoted).unwrap_err();
    assert_eq!(error.to_string(), "`w` has 9 inputs, it must have 8");
}

#[test]
fn what_is_not_a_number_stays_none() {
    let mut rows = [[1.0f32; 256]; 3];
    rows[0][3] = f32::NAN;
    rows[1][200] = f32::INFINITY;
    let x = Tensor::<2>::from_data(rows, &Device::flex());
    for scale in [ScaleFormat::F32, ScaleFormat::PowerOfTwo] {
        let back = values(
            quantize_rows(&x, QuantizeOptions { scale, ..QuantizeOptions::default() })
                .unwrap()
                .dequantize(),
        );
        assert!(back[3].is_nan(), "{scale:?}: a NaN stays one");
        assert!(
            !back[256 + 200].is_finite() || back[256 + 200] > 1e38,
            "{scale:?}: an infinity is no small number"
        );
        // The other tiles know nothing of it.
        assert!(
            back[128..256].iter().chain(&back[256..384]).chain(&back[512..]).all(|&v| v == 1.0),
            "{scale:?}"
        );
    }
}

#[test]
fn layers_take_any_rank_and_count_their_parameters() {
    let device = Device::flex();
    let layer = Fp8LinearConfig::new(20, 6).init(&device).unwrap();
    assert_eq!(layer.num_params(), 20 * 6 + 6);
    let x = random(12, 20);
    let flat = layer.forward(x.clone());
    assert_eq!(values(layer.forward(x.reshape([2, 2, 3, 20]))), values(flat));
    let bare = Fp8LinearConfig::new(20, 6).without_bias().init(&device).unwrap();
    assert_eq!(bare.num_params(), 20 * 6);

    let experts = Fp8GroupedLinearConfig::new(3, 20, 6).init(&device).unwrap();
    let groups = ExpertGroups::new(&[0, 2, 2, 0], 1, 3);
    assert_eq!(experts.forward(random(4, 20), &groups).dims(), [4, 6]);
}
