//! Loads a Hugging Face checkpoint, computes logits, and continues a prompt of token numbers
//! greedily.
//!
//! `cargo run --release -p burn-deepseek --example generate -- path/to/model`
//!
//! The program of README.md, here so that it is compiled.

use std::{error::Error, ops::ControlFlow};

use burn::tensor::{Device, Int, Tensor};
use burn_deepseek::attention::AttentionForm;
use burn_deepseek::generate::{GenerateOptions, Sampling};
use burn_deepseek::weights::{LoadOptions, load_model};

fn main() -> Result<(), Box<dyn Error>> {
    let folder =
        std::env::args().nth(1).ok_or("give the folder of a model: config.json and safetensors")?;
    let device = Device::flex();
    let model = load_model(folder, &device, &LoadOptions::default())?;

    // [batch, seq, vocab]
    let logits = model.forward(Tensor::<2, Int>::from_data([[1, 2, 3]], &device));
    println!("logits {:?}, {} parameters", logits.dims(), model.config().parameter_counts().total);

    let (sampling, stop, form) =
        (Sampling::GREEDY, model.config().eos_token_id.clone(), AttentionForm::Auto);
    let options = GenerateOptions { max_new_tokens: 8, sampling, stop, form, speculative: false };
    let generation = model.generate(&[1, 2, 3], &options, |token| {
        println!("{token}");
        ControlFlow::Continue(())
    })?;
    println!("{} passes after the prompt", generation.passes);
    Ok(())
}
