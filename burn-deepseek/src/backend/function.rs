//! Functions with a backward pass given by a closure, for what is computed outside any one backend.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, BackendTensor, DispatchKindConversion, DispatchTensor, backend_extension,
};
use burn::tensor::Tensor;

use super::autodiff::Graph;
use super::table::WithoutAutodiff;

/// From the gradient of a function's result to that of its argument.
#[derive(Clone)]
pub struct InputGradient(Arc<dyn Fn(Tensor<2>) -> Tensor<2> + Send + Sync>);

impl InputGradient {
    /// The gradient that a closure computes, on tensors without autodiff.
    pub fn new(gradient: impl Fn(Tensor<2>) -> Tensor<2> + Send + Sync + 'static) -> Self {
        Self(Arc::new(gradient))
    }
}

impl std::fmt::Debug for InputGradient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InputGradient")
    }
}

/// What [`crate::ops::with_gradient`] calls.
#[backend_extension(
    Autodiff,
    Cube: cfg(feature = "cube"),
    Flex,
    Remote: cfg(feature = "remote")
)]
pub trait FunctionOps: Backend {
    /// `y`, as a function of `x`.
    fn with_gradient(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gradient: InputGradient,
    ) -> FloatTensor<Self>;
}

impl<B: WithoutAutodiff> FunctionOps for B {
    fn with_gradient(
        _: FloatTensor<Self>,
        y: FloatTensor<Self>,
        _: InputGradient,
    ) -> FloatTensor<Self> {
        y
    }
}

impl<B: Backend, C: CheckpointStrategy> FunctionOps for Autodiff<B, C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn with_gradient(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gradient: InputGradient,
    ) -> FloatTensor<Self> {
        Graph::<B, C>::record(
            [x.node()],
            y.into_primitive(),
            |_| gradient,
            |graph, dy, gradient| {
                let dy = BackendTensor::Float(dy);
                let dy = Tensor::from_dispatch(DispatchTensor::from_backend(dy));
                let dx = (gradient.0)(dy).try_into_primitive::<B>();
                let dx = dx.expect("invariant: a gradient stays on its device, without autodiff");
                graph.register_all([dx]);
            },
        )
    }
}
