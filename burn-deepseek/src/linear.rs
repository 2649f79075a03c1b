//! A linear layer with its weight stored `[d_out, d_in]`, as checkpoints and the FP8 GEMMs want it.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, assert_shape};

use crate::{WeightInit, ops};

/// `y = x w^T (+ b)`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[d_out, d_in]`.
    pub weight: Param<Tensor<2>>,
    /// `[d_out]`, where the config asks for one.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A new layer from `d_in` to `d_out`.
    pub fn new(d_in: usize, d_out: usize, bias: bool, init: &mut WeightInit) -> Self {
        Self { weight: init.weight([d_out, d_in]), bias: bias.then(|| init.zero_bias(d_out)) }
    }

    /// Applies the layer to the last dim.
    ///
    /// # Shapes
    ///
    /// - x: `[..., d_in]`
    /// - output: `[..., d_out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let weight = self.weight.val();
        let [_, d_in] = weight.dims();
        assert_shape!(x, [.., d_in]);
        ops::linear(x, weight, self.bias.as_ref().map(Param::val))
    }
}
