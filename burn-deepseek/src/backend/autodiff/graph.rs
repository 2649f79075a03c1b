//! Operations as steps of Burn's graph, each with its backward pass as a closure.

use std::fmt::{self, Debug, Formatter};
use std::marker::PhantomData;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::retro_forward::RetroForward;
use burn::backend::autodiff::checkpoint::state::BackwardStates;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind, OpsPrep, Tracked};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, DispatchKindConversion, DispatchTensor};

use crate::backend::deferred::DeferredWeight;

/// A step of the graph: what is kept for its backward pass, and that pass.
pub(in crate::backend) struct Step<S, F> {
    backward: F,
    kept: PhantomData<fn() -> S>,
}

impl<S, F> Step<S, F> {
    /// The step whose backward pass is a closure of the graph, of the output's gradient and of what
    /// was kept.
    pub(in crate::backend) fn new<B: Backend, const N: usize>(backward: F) -> Self
    where
        F: FnOnce(Backprop<B, N>, FloatTensor<B>, S) + Send + 'static,
    {
        Self { backward, kept: PhantomData }
    }
}

impl<S, F> Debug for Step<S, F> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<F>())
    }
}

impl<B: Backend, S, F, const N: usize> Backward<B, N> for Step<S, F>
where
    S: Clone + Debug + Send + 'static,
    F: FnOnce(Backprop<B, N>, FloatTensor<B>, S) + Send + 'static,
{
    type State = S;

    fn backward(self, ops: Ops<S, N>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let inputs = ops.parents.map(|parent| parent.map(|node| node.id));
        (self.backward)(
            Backprop { inputs, grads, checkpointer, backend: PhantomData },
            dy,
            ops.state,
        );
    }
}

/// A backward pass as it comes through a step.
pub(in crate::backend) struct Backprop<'a, B: Backend, const N: usize> {
    /// The inputs of which a gradient is wanted.
    pub inputs: [Option<NodeId>; N],
    grads: &'a mut Gradients,
    checkpointer: &'a mut Checkpointer,
    backend: PhantomData<B>,
}

impl<B: Backend, const N: usize> Backprop<'_, B, N> {
    /// The value of an input that was checkpointed.
    pub(in crate::backend) fn value(&mut self, input: NodeId) -> FloatTensor<B> {
        self.checkpointer.retrieve_node_output::<FloatTensor<B>>(input)
    }

    /// Adds to the gradient of one input.
    pub(in crate::backend) fn register(&mut self, input: NodeId, gradient: FloatTensor<B>) {
        self.grads.register::<B>(input, gradient);
    }

    /// Adds to the gradients of all inputs of which one is wanted.
    pub(in crate::backend) fn register_all(mut self, gradients: [FloatTensor<B>; N]) {
        for (input, gradient) in self.inputs.into_iter().zip(gradients) {
            if let Some(input) = input {
                self.register(input, gradient);
            }
        }
    }

    /// Adds to the gradient of a weight of `rank` dims, now or later: the same computation on the
    /// same numbers.
    pub(in crate::backend) fn register_weight(
        &mut self,
        weight: NodeId,
        deferred: Option<DeferredWeight>,
        rank: usize,
        product: impl FnOnce() -> FloatTensor<B> + Send + 'static,
    ) where
        DispatchTensor: DispatchKindConversion<B>,
    {
        match deferred {
            None => self.register(weight, product()),
            Some(deferred) => deferred.push::<B>(rank, product),
        }
    }
}

/// How an output is computed again in the backward pass, from inputs of its operation.
struct Again<B, F, const N: usize> {
    inputs: [NodeId; N],
    forward: F,
    backend: PhantomData<fn() -> B>,
}

impl<B, F, const N: usize> Debug for Again<B, F, N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<F>())
    }
}

impl<B, F, const N: usize> RetroForward for Again<B, F, N>
where
    B: Backend,
    F: Fn([FloatTensor<B>; N]) -> FloatTensor<B> + Send + 'static,
{
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let inputs = self.inputs.map(|input| states.get_state::<FloatTensor<B>>(&input));
        states.save(out_node, (self.forward)(inputs));
    }
}

/// A step of which a gradient will be asked for.
type TrackedStep<B, C, S, F, const N: usize> = OpsPrep<Step<S, F>, B, S, C, N, Tracked>;

/// The graph of a backend whose outputs are kept as `C` says.
pub(in crate::backend) struct Graph<B, C>(PhantomData<fn() -> (B, C)>);

impl<B: Backend, C: CheckpointStrategy> Graph<B, C> {
    /// Records an operation whose output is kept where somebody needs it. `keep` runs only where a
    /// gradient will be asked for.
    pub(in crate::backend) fn record<S, F, const N: usize>(
        inputs: [NodeGuard; N],
        output: FloatTensor<B>,
        keep: impl FnOnce(&mut TrackedStep<B, C, S, F, N>) -> S,
        backward: F,
    ) -> FloatTensor<Autodiff<B, C>>
    where
        S: Clone + Debug + Send + 'static,
        F: FnOnce(Backprop<B, N>, FloatTensor<B>, S) + Send + 'static,
    {
        let step = Step::new(backward).prepare::<C>(inputs);
        Self::finish(step.compute_bound().stateful(), output, keep)
    }

    /// Records an operation whose output is computed again where gradient checkpointing is on: by a
    /// closure, from the values of the nodes beside it.
    pub(in crate::backend) fn record_again<S, F, const N: usize, const M: usize>(
        inputs: [&FloatTensor<Autodiff<B, C>>; N],
        (of, forward): (
            [NodeId; M],
            impl Fn([FloatTensor<B>; M]) -> FloatTensor<B> + Send + 'static,
        ),
        output: FloatTensor<B>,
        keep: impl FnOnce(&mut TrackedStep<B, C, S, F, N>) -> S,
        backward: F,
    ) -> FloatTensor<Autodiff<B, C>>
    where
        S: Clone + Debug + Send + 'static,
        F: FnOnce(Backprop<B, N>, FloatTensor<B>, S) + Send + 'static,
    {
        let again = Again::<B, _, M> { inputs: of, forward, backend: PhantomData };
        let step = Step::new(backward).prepare::<C>(inputs.map(|input| input.node()));
        let step = step.memory_bound().retro_forward(again).parents(inputs);
        Self::finish(step.stateful(), output, keep)
    }

    fn finish<S, F, const N: usize>(
        step: OpsKind<Step<S, F>, B, S, C, N>,
        output: FloatTensor<B>,
        keep: impl FnOnce(&mut TrackedStep<B, C, S, F, N>) -> S,
    ) -> FloatTensor<Autodiff<B, C>>
    where
        S: Clone + Debug + Send + 'static,
        F: FnOnce(Backprop<B, N>, FloatTensor<B>, S) + Send + 'static,
    {
        match step {
            OpsKind::Tracked(mut step) => {
                let kept = keep(&mut step);
                step.finish(kept, output)
            }
            OpsKind::UnTracked(step) => step.finish(output),
        }
    }
}
