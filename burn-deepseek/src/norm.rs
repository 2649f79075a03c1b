//! RMSNorm (arXiv 1910.07467).

use burn::module::{Module, Param};
use burn::tensor::{Tensor, assert_shape};

use crate::{WeightInit, ops};

/// `y = x / sqrt(mean(x^2) + eps) * weight` of rows.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// What the normed row is multiplied by, `[d]`.
    pub weight: Param<Tensor<1>>,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// A new norm of width `d`, weights one.
    pub fn new(d: usize, eps: f64, init: &mut WeightInit) -> Self {
        Self { weight: init.ones(d), eps }
    }

    /// Normalizes rows.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows, d]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weight.val();
        let [d] = weight.dims();
        assert_shape!(x, [_, d]);
        ops::rms_norm(x, weight, self.eps)
    }
}
