//! Functions with a backward pass given by a closure, for what is computed outside any one backend.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, BackendTensor, DispatchKindConversion, DispatchTensor, backend_extension,
};
use burn::tensor::Tensor;

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

impl<B: WithoutAutodiff, C: CheckpointStrategy> FunctionOps for Autodiff<B, C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn with_gradient(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gradient: InputGradient,
    ) -> FloatTensor<Self> {
        let y = y.into_primitive();
        match Function.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gradient, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[derive(Debug)]
struct Function;

impl<B: Backend> Backward<B, 1> for Function
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = InputGradient;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |dy| {
            let dy = Tensor::from_dispatch(DispatchTensor::from_backend(BackendTensor::Float(dy)));
            (gradient.0)(dy)
                .try_into_primitive::<B>()
                .expect("invariant: a gradient stays on its device, without autodiff")
        });
    }
}
