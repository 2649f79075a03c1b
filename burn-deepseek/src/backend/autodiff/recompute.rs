//! Results that are computed again in the backward pass, each from the inputs of its operation.

use burn::backend::Backend;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::retro_forward::RetroForward;
use burn::backend::autodiff::checkpoint::state::BackwardStates;
use burn::backend::tensor::FloatTensor;

use crate::backend::kernels::FusedKernels;
use crate::precision::ProductFormat;

/// `norm(x)`.
#[derive(Debug)]
pub(super) struct RetroRmsNorm<B: Backend> {
    x: NodeId,
    gamma: NodeId,
    eps: f64,
    backend: std::marker::PhantomData<B>,
}

impl<B: Backend> RetroRmsNorm<B> {
    pub(super) fn new(x: NodeId, gamma: NodeId, eps: f64) -> Self {
        Self { x, gamma, eps, backend: std::marker::PhantomData }
    }
}

impl<B: FusedKernels> RetroForward for RetroRmsNorm<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<FloatTensor<B>>(&self.x);
        let gamma = states.get_state::<FloatTensor<B>>(&self.gamma);
        states.save(out_node, B::rms_norm(x, gamma, self.eps).y);
    }
}

/// `silu(gate) * up`.
#[derive(Debug)]
pub(super) struct RetroSwiglu<B: Backend> {
    gate_up: NodeId,
    backend: std::marker::PhantomData<B>,
}

impl<B: Backend> RetroSwiglu<B> {
    pub(super) fn new(gate_up: NodeId) -> Self {
        Self { gate_up, backend: std::marker::PhantomData }
    }
}

impl<B: FusedKernels> RetroForward for RetroSwiglu<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let gate_up = states.get_state::<FloatTensor<B>>(&self.gate_up);
        states.save(out_node, B::swiglu(gate_up));
    }
}

/// The rotated heads.
#[derive(Debug)]
pub(super) struct RetroRope<B: Backend> {
    x: NodeId,
    cos: FloatTensor<B>,
    sin: FloatTensor<B>,
    interleaved: bool,
}

impl<B: Backend> RetroRope<B> {
    pub(super) fn new(
        x: NodeId,
        cos: FloatTensor<B>,
        sin: FloatTensor<B>,
        interleaved: bool,
    ) -> Self {
        Self { x, cos, sin, interleaved }
    }
}

impl<B: FusedKernels> RetroForward for RetroRope<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<FloatTensor<B>>(&self.x);
        states.save(out_node, B::rope(x, self.cos.clone(), self.sin.clone(), self.interleaved));
    }
}

/// `x w^T`.
#[derive(Debug)]
pub(super) struct RetroLinear<B: Backend> {
    x: NodeId,
    w: NodeId,
    format: ProductFormat,
    backend: std::marker::PhantomData<B>,
}

impl<B: Backend> RetroLinear<B> {
    pub(super) fn new(x: NodeId, w: NodeId, format: ProductFormat) -> Self {
        Self { x, w, format, backend: std::marker::PhantomData }
    }
}

impl<B: FusedKernels> RetroForward for RetroLinear<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<FloatTensor<B>>(&self.x);
        let w = states.get_state::<FloatTensor<B>>(&self.w);
        states.save(out_node, B::linear_forward(x, w, self.format));
    }
}
