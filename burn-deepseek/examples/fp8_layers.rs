//! FP8 layers in somebody else's model: a small network with a mixture of experts learns a function
//! of two variables.
//!
//! `cargo run --release -p burn-deepseek --example fp8_layers`

use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor, activation};
use burn_deepseek::definition::ExpertGroups;
use burn_deepseek::fp8::{
    Fp8Error, Fp8GroupedLinear, Fp8GroupedLinearConfig, Fp8Linear, Fp8LinearConfig,
};
use burn_deepseek::ops;

const HIDDEN: usize = 256;
const ROWS: usize = 512;
const EXPERTS: usize = 4;

/// Two linears around a mixture; each row goes to the expert of its quadrant.
#[derive(Module, Debug)]
struct Network {
    input: Fp8Linear,
    experts: Fp8GroupedLinear,
    output: Fp8Linear,
}

impl Network {
    fn new(device: &Device) -> Result<Self, Fp8Error> {
        Ok(Self {
            input: Fp8LinearConfig::new(2, HIDDEN).init(device)?,
            experts: Fp8GroupedLinearConfig::new(EXPERTS, HIDDEN, HIDDEN).init(device)?,
            output: Fp8LinearConfig::new(HIDDEN, 1).init(device)?,
        })
    }

    /// x `[rows, 2]` -> `[rows, 1]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let points: Vec<f32> = x.clone().into_data().iter::<f32>().collect();
        let quadrants: Vec<u32> =
            points.chunks(2).map(|p| u32::from(p[0] > 0.0) + 2 * u32::from(p[1] > 0.0)).collect();
        let groups = ExpertGroups::new(&quadrants, 1, EXPERTS);
        let hidden = activation::silu(self.input.forward(x));
        // Sorted by expert, computed in one product, and back in their order.
        let rows = self.experts.forward(ops::permute(hidden.clone(), &groups), &groups);
        let ones = Tensor::ones([groups.tokens(), 1], &rows.device());
        let mixed = ops::combine(activation::silu(rows), ones, &groups);
        self.output.forward(mixed + hidden)
    }
}

fn target(x: Tensor<2>) -> Tensor<2> {
    let (a, b) = (x.clone().narrow(1, 0, 1), x.narrow(1, 1, 1));
    (a * 3.0).sin() * (b * 2.0).cos()
}

fn main() -> Result<(), Fp8Error> {
    let device = Device::flex().autodiff();
    device.seed(1);
    let mut network = Network::new(&device)?;
    let mut adam = AdamConfig::new().init();
    for step in 0..=300 {
        let x = Tensor::random([ROWS, 2], Distribution::Uniform(-1.0, 1.0), &device);
        let error = network.forward(x.clone()) - target(x);
        let loss = error.square().mean();
        if step % 100 == 0 {
            println!("step {step:>3}  mean squared error {:.5}", loss.clone().into_scalar::<f32>());
        }
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        network = adam.step(2e-3, network, grads);
    }
    Ok(())
}
