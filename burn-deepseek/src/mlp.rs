//! The dense SwiGLU feed-forward layer, also the shape of the shared experts.

use burn::module::Module;
use burn::tensor::{Tensor, assert_shape};

use crate::{Compute, Weight, WeightInit};

/// `y = (silu(x gate^T) * (x up^T)) down^T`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Gate and up projections stacked, `[2 * inter, d]`, gate first: one product instead of two.
    pub gate_up: Weight<2>,
    /// Down projection, `[d, inter]`.
    pub down: Weight<2>,
}

impl Mlp {
    /// A new layer of width `d` and inner width `inter`.
    pub fn new(d: usize, inter: usize, init: &mut WeightInit) -> Self {
        Self { gate_up: init.weight([2 * inter, d]).into(), down: init.weight([d, inter]).into() }
    }

    /// Applies the layer to rows.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows, d]`
    pub fn forward(&self, x: Tensor<2>, compute: &Compute) -> Tensor<2> {
        let [_, d] = self.gate_up.dims();
        assert_shape!(x, [_, d]);
        compute.mlp(x, &self.gate_up, &self.down)
    }
}
