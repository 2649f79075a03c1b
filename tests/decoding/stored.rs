//! Weights that stay as they are stored, on every device.

use burn::tensor::{Int, Tensor, TensorData};
use burn_deepseek::weights::{
    LoadOptions, SaveDType, SaveOptions, WeightForm, load_model, save_model,
};

use super::*;
use deepseek_tests::devices;

#[test]
fn a_kept_model_has_the_logits_of_the_same_in_f32_on_every_device() {
    let (model, data) = trained(1);
    let folder = tempfile::tempdir().unwrap();
    let options = SaveOptions { dtype: SaveDType::Bf16, ..SaveOptions::default() };
    save_model(model, folder.path(), &options).unwrap();
    let tokens: Vec<i32> = data.train.window(5).tokens.iter().map(|&t| t as i32).collect();
    let logits = |device: &Device, weights| {
        let options = LoadOptions { weights, ..LoadOptions::default() };
        let model = load_model(folder.path(), device, &options).unwrap().no_grad();
        let count = tokens.len();
        let tokens = TensorData::new(tokens.clone(), [1, count]);
        let logits = model.forward(Tensor::<2, Int>::from_data(tokens, device));
        let generation = generate(&model, &prompts(data)[3], &GREEDY);
        (logits.into_data().try_to_vec::<f32>().unwrap(), generation.tokens)
    };
    let (expected, said) = logits(&Device::flex(), WeightForm::F32);
    for (name, device) in devices::all() {
        let (found, tokens) = logits(&device, WeightForm::AsStored);
        let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // On the host the same bits; elsewhere products are summed in another order.
        let allowed = if name == "flex" { 0.0 } else { 1e-3 };
        assert!(worst <= allowed, "{name}: {worst}");
        assert_eq!(tokens, said, "{name}");
    }
}
