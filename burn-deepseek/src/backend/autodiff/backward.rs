//! The backward pass of each operation.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, DispatchKindConversion, DispatchTensor};

use crate::backend::{AttentionOutput, DeferredWeight, FusedKernels};
use crate::definition::ExpertGroups;
use crate::precision::{AttentionOptions, ProductFormat};

/// The gradient of a weight of `rank` dims, now or later: the same computation on the same numbers.
fn weight_gradient<B: FusedKernels>(
    deferred: Option<DeferredWeight>,
    node: NodeId,
    grads: &mut Gradients,
    rank: usize,
    product: impl FnOnce() -> FloatTensor<B> + Send + 'static,
) where
    DispatchTensor: DispatchKindConversion<B>,
{
    match deferred {
        None => grads.register::<B>(node, product()),
        Some(deferred) => deferred.push::<B>(rank, product),
    }
}

#[derive(Debug)]
pub(super) struct Linear {
    pub(super) format: ProductFormat,
    pub(super) deferred: Option<DeferredWeight>,
}

impl<B: FusedKernels> Backward<B, 2> for Linear
where
    DispatchTensor: DispatchKindConversion<B>,
{
    /// The input's node, the weight.
    type State = (NodeId, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, w) = ops.state;
        let [x_node, w_node] = ops.parents;
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::linear_input_gradient(&dy, &w, self.format));
        }
        if let Some(node) = w_node {
            let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
            let format = self.format;
            weight_gradient::<B>(self.deferred, node.id, grads, 2, move || {
                B::linear_weight_gradient(&dy, &x, format)
            });
        }
    }
}

#[derive(Debug)]
pub(super) struct RmsNorm;

impl<B: FusedKernels> Backward<B, 2> for RmsNorm {
    /// The input's node, gamma, the reciprocal roots.
    type State = (NodeId, FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, gamma, rstd) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let (dx, dgamma) = B::rms_norm_backward(&x, &gamma, &rstd, &dy);
        register::<B, 2>(grads, ops.parents.map(|node| node.map(|n| n.id)), [dx, dgamma]);
    }
}

#[derive(Debug)]
pub(super) struct Swiglu;

impl<B: FusedKernels> Backward<B, 1> for Swiglu {
    /// The input's node.
    type State = NodeId;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gate_up = checkpointer.retrieve_node_output::<FloatTensor<B>>(ops.state);
        unary::<B, _>(ops.parents, ops.node, grads, |dy| B::swiglu_backward(&gate_up, &dy));
    }
}

#[derive(Debug)]
pub(super) struct Rope;

impl<B: FusedKernels> Backward<B, 1> for Rope {
    type State = (FloatTensor<B>, FloatTensor<B>, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (cos, sin, interleaved) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |dy| {
            B::rope(&dy, &cos, &sin, interleaved, true)
        });
    }
}

#[derive(Debug)]
pub(super) struct Residual;

impl<B: FusedKernels> Backward<B, 2> for Residual {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        register::<B, 2>(grads, ops.parents.map(|node| node.map(|n| n.id)), [dy.clone(), dy]);
    }
}

#[derive(Debug)]
pub(super) struct MlaAttention {
    pub(super) options: AttentionOptions,
}

impl<B: FusedKernels> Backward<B, 3> for MlaAttention {
    /// The nodes of queries, keys with values, and rotated keys; the result.
    type State = ([NodeId; 3], AttentionOutput<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dout = grads.consume::<B>(&ops.node);
        let (inputs, output) = ops.state;
        let [q, kv, k_rope] =
            inputs.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let (dq, dkv, dk_rope) =
            B::mla_attention_backward(&q, &kv, &k_rope, &output, &dout, self.options);
        register::<B, 3>(grads, ops.parents.map(|node| node.map(|n| n.id)), [dq, dkv, dk_rope]);
    }
}

#[derive(Debug)]
pub(super) struct Permute;

impl<B: FusedKernels> Backward<B, 1> for Permute {
    type State = ExpertGroups;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |dy| B::permute_backward(&dy, &ops.state));
    }
}

#[derive(Debug)]
pub(super) struct Combine;

impl<B: FusedKernels> Backward<B, 2> for Combine {
    type State = (FloatTensor<B>, FloatTensor<B>, ExpertGroups);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dout = grads.consume::<B>(&ops.node);
        let (y, weights, groups) = ops.state;
        let (dy, dweights) = B::combine_backward(&y, &weights, &groups, &dout);
        register::<B, 2>(grads, ops.parents.map(|node| node.map(|n| n.id)), [dy, dweights]);
    }
}

#[derive(Debug)]
pub(super) struct GroupedLinear {
    pub(super) format: ProductFormat,
    pub(super) deferred: Option<DeferredWeight>,
}

impl<B: FusedKernels> Backward<B, 2> for GroupedLinear
where
    DispatchTensor: DispatchKindConversion<B>,
{
    /// The input's node, the weights, the rows of each expert.
    type State = (NodeId, FloatTensor<B>, ExpertGroups);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, w, groups) = ops.state;
        let [x_node, w_node] = ops.parents;
        if let Some(node) = x_node {
            grads.register::<B>(
                node.id,
                B::grouped_linear_input_gradient(&dy, &w, &groups, self.format),
            );
        }
        if let Some(node) = w_node {
            let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
            let format = self.format;
            weight_gradient::<B>(self.deferred, node.id, grads, 3, move || {
                B::grouped_linear_weight_gradient(&dy, &x, &groups, format)
            });
        }
    }
}

#[derive(Debug)]
pub(super) struct Embedding {
    pub(super) vocab: usize,
}

impl<B: FusedKernels> Backward<B, 1> for Embedding {
    type State = IntTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |dy| {
            B::embedding_table_gradient(&dy, &ops.state, self.vocab)
        });
    }
}

#[derive(Debug)]
pub(super) struct HeadLossStep;

impl<B: FusedKernels> Backward<B, 2> for HeadLossStep {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let upstream = grads.consume::<B>(&ops.node);
        let (dx, dw) = ops.state;
        let scaled = [B::scaled(dx, &upstream), B::scaled(dw, &upstream)];
        register::<B, 2>(grads, ops.parents.map(|node| node.map(|n| n.id)), scaled);
    }
}

fn register<B: Backend, const N: usize>(
    grads: &mut Gradients,
    nodes: [Option<NodeId>; N],
    values: [FloatTensor<B>; N],
) {
    for (node, value) in nodes.into_iter().zip(values) {
        if let Some(node) = node {
            grads.register::<B>(node, value);
        }
    }
}
