//! The dense SwiGLU feed-forward layer, also the shape of the shared experts.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, assert_shape};

use crate::{WeightInit, ops};

/// `y = (silu(x gate^T) * (x up^T)) down^T`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Gate and up projections stacked, `[2 * inter, d]`, gate first: one product instead of two.
    pub gate_up: Param<Tensor<2>>,
    /// `[d, inter]`.
    pub down: Param<Tensor<2>>,
}

impl Mlp {
    /// A new layer of width `d` and inner width `inter`.
    pub fn new(d: usize, inter: usize, init: &mut WeightInit) -> Self {
        Self { gate_up: init.weight([2 * inter, d]), down: init.weight([d, inter]) }
    }

    /// Applies the layer to rows.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows, d]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate_up = self.gate_up.val();
        let [_, d] = gate_up.dims();
        assert_shape!(x, [_, d]);
        let hidden = ops::swiglu(ops::linear(x, gate_up, None));
        ops::linear(hidden, self.down.val(), None)
    }
}
