//! How a new model's weights are drawn: on the host and from one seed, so that every device starts
//! from the same numbers.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Source of initial weights: `N(0, std)` from a seed, or zeros for a model whose weights are about
/// to be loaded.
#[derive(Debug)]
pub struct WeightInit {
    normal: Option<(ChaCha8Rng, f64)>,
    device: Device,
}

impl WeightInit {
    /// Weights drawn from `N(0, std)`; parameters are drawn in the order in which the model is
    /// built.
    pub fn normal(seed: u64, std: f64, device: &Device) -> Self {
        Self { normal: Some((ChaCha8Rng::seed_from_u64(seed), std)), device: device.clone() }
    }

    /// All weights zero, to be overwritten.
    pub fn zeros(device: &Device) -> Self {
        Self { normal: None, device: device.clone() }
    }

    /// Where the weights are placed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A weight of the given shape.
    pub fn weight<const D: usize>(&mut self, shape: [usize; D]) -> Param<Tensor<D>> {
        match &mut self.normal {
            None => {
                // Made when it is first asked for: not at all where a checkpoint's is put there.
                let zeros = move |device: &Device, require_grad| {
                    Tensor::zeros(shape, device).set_require_grad(require_grad)
                };
                Param::uninitialized(ParamId::new(), zeros, self.device.clone(), true, shape.into())
            }
            Some((rng, std)) => {
                let count = shape.iter().product();
                let values = TensorData::new(normals(rng, *std, count), shape);
                Param::from_tensor(Tensor::from_data(values, &self.device))
            }
        }
    }

    /// A vector of ones (norms) as a trainable parameter.
    pub fn ones(&self, len: usize) -> Param<Tensor<1>> {
        Param::from_tensor(Tensor::ones([len], &self.device))
    }

    /// A vector of zeros (biases) as a trainable parameter.
    pub fn zero_bias(&self, len: usize) -> Param<Tensor<1>> {
        Param::from_tensor(Tensor::zeros([len], &self.device))
    }
}

/// `count` draws from `N(0, std)` by Box and Muller's transform.
fn normals(rng: &mut ChaCha8Rng, std: f64, count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
        let (sin, cos) = (2.0 * std::f64::consts::PI * rng.random::<f64>()).sin_cos();
        values.push((radius * cos) as f32);
        values.push((radius * sin) as f32);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_the_asked_moments_and_repeat() {
        let draw = || normals(&mut ChaCha8Rng::seed_from_u64(7), 0.006, 20_001);
        let values = draw();
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        let variance =
            values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 2e-4, "{mean}");
        assert!((variance.sqrt() / 0.006 - 1.0).abs() < 0.02, "{variance}");
        assert_eq!(values, draw());
    }
}
