//! A linear layer with its weight stored `[d_out, d_in]`, as checkpoints and the FP8 GEMMs want it.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::{Weight, WeightInit};

/// `y = x w^T (+ b)`, applied by [`Compute::linear`](crate::Compute::linear) in the pass's
/// precision.
#[derive(Module, Debug)]
pub struct Linear {
    /// The matrix `w`, `[d_out, d_in]`.
    pub weight: Weight<2>,
    /// The bias `b`, `[d_out]`, where the config asks for one.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A new layer from `d_in` to `d_out`.
    pub fn new(d_in: usize, d_out: usize, bias: bool, init: &mut WeightInit) -> Self {
        let weight = init.weight([d_out, d_in]).into();
        Self { weight, bias: bias.then(|| init.zero_bias(d_out)) }
    }
}
