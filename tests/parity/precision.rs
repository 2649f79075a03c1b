//! Whole models in FP8 and BF16: near FP32, and the same on every device.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_deepseek::precision::Fp8Recipe;
use burn_deepseek::weights::{self, LoadOptions};
use burn_deepseek::{Compute, DeepSeek, LossWeights, Precision, recomputing};
use cubecl_kernels::metric::calc_diff;
use deepseek_tests::{devices, fixture};

const WEIGHTS: LossWeights = LossWeights { mtp: 0.3, sequence_balance: 1e-4 };

/// The loss and the gradients by name.
fn run(
    model: &DeepSeek,
    tokens: &[i32],
    dims: [usize; 2],
    precision: Precision,
) -> (f64, BTreeMap<String, TensorData>) {
    let device = model.device();
    let compute = Compute::new(precision, &device).expect("the devices of the tests have FP8");
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens.to_vec(), dims), &device);
    let [batch, seq] = dims;
    let (inputs, targets) =
        (tokens.clone().slice([0..batch, 0..seq - 1]), tokens.slice([0..batch, 1..seq]));
    let total = model.loss(inputs, targets, &WEIGHTS, &compute).total;
    let loss = total.clone().into_data().iter::<f64>().next().expect("a loss");
    (loss, weights::named_gradients(model, &total.backward()))
}

/// [`calc_diff`] of all gradients together.
fn difference(a: &BTreeMap<String, TensorData>, b: &BTreeMap<String, TensorData>) -> f64 {
    let all = |gradients: &BTreeMap<String, TensorData>| {
        gradients.values().flat_map(|data| data.iter::<f64>()).collect::<Vec<_>>()
    };
    calc_diff(&all(a), &all(b))
}

#[test]
fn parity_precision() {
    let fp8 = Precision::Fp8(Fp8Recipe::default());
    for case in fixture::cases("hf").expect("fixtures") {
        let name = case.file_name().expect("a name").to_string_lossy().into_owned();
        let expected = fixture::read(&case.join("expected.safetensors")).expect("a case");
        let ids = &expected["input_ids"];
        let (tokens, dims) = (
            ids.ints().iter().map(|&id| id as i32).collect::<Vec<_>>(),
            [ids.shape[0], ids.shape[1]],
        );
        let mut first: Option<(f64, BTreeMap<String, TensorData>)> = None;
        for (device_name, device) in devices::all() {
            let model = weights::load_model(&case, &device, &LoadOptions::default())
                .expect("a checkpoint")
                .train();
            let exact = run(&model, &tokens, dims, Precision::F32);
            let bf16 = run(&model, &tokens, dims, Precision::Bf16);
            let got = run(&model, &tokens, dims, fp8);
            println!(
                "{name} on {device_name}: loss {:.6}, BF16 {:.6}, FP8 {:.6}; gradients differ by \
                 {:.1e} and {:.1e}",
                exact.0,
                bf16.0,
                got.0,
                difference(&bf16.1, &exact.1),
                difference(&got.1, &exact.1)
            );
            // Tokens whose scores nearly tie may be routed elsewhere in another precision, and loss
            // and gradients follow them.
            assert!(
                (bf16.0 / exact.0 - 1.0).abs() < 1e-2,
                "{name} on {device_name}: BF16 {} against {}",
                bf16.0,
                exact.0
            );
            assert!(
                (got.0 / exact.0 - 1.0).abs() < 2e-2,
                "{name} on {device_name}: FP8 {} against {}",
                got.0,
                exact.0
            );
            assert!(
                difference(&got.1, &exact.1) < 0.15,
                "{name} on {device_name}: {}",
                difference(&got.1, &exact.1)
            );
            match &first {
                None => first = Some(got),
                Some(flex) => {
                    let (loss, gradients) =
                        ((got.0 / flex.0 - 1.0).abs(), difference(&got.1, &flex.1));
                    println!(
                        "{name}: {device_name} and flex in FP8: loss {loss:.1e}, gradients \
                         {gradients:.1e}"
                    );
                    assert!(
                        loss < 5e-3 && gradients < 5e-2,
                        "{name}: {device_name} and flex in FP8 differ by {loss} and {gradients}"
                    );
                }
            }
            if device == Device::flex() {
                let again = run(&recomputing(model), &tokens, dims, fp8);
                assert_eq!(
                    again.0.to_bits(),
                    first.as_ref().map_or(0, |first| first.0.to_bits()),
                    "{name}"
                );
                assert_eq!(
                    again.1,
                    first.as_ref().expect("flex was first").1,
                    "{name}: recomputed gradients"
                );
            }
        }
    }
}
