//! The operations on the autodiff decorator: forward by the inner backend's kernels, backward by hand.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};

use super::kernels::{AttentionOutput, FusedKernels};
use super::{AdamWOutput, FusedOps, HeadLossGradients};
use crate::ops::{AdamWScalars, ExpertGroups};

/// Records an operation: `forward` runs either way, `state` is kept only where a gradient will be asked for.
macro_rules! record {
    ($step:expr, $nodes:expr, $tracked:expr, $untracked:expr) => {
        match $step.prepare::<C>($nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (state, output) = $tracked;
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish($untracked),
        }
    };
}

impl<B: FusedKernels, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn fused_linear(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (w, w_node) = w.into_parts();
        let y = B::linear_forward(&x, &w);
        record!(Linear, [x_node, w_node], ((x, w), y), y)
    }

    fn fused_rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (gamma, gamma_node) = gamma.into_parts();
        let output = B::rms_norm(&x, &gamma, eps);
        record!(RmsNorm, [x_node, gamma_node], ((x, gamma, output.rstd), output.y), output.y)
    }

    fn fused_swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gate_up, node) = gate_up.into_parts();
        let y = B::swiglu(&gate_up);
        record!(Swiglu, [node], (gate_up, y), y)
    }

    fn fused_rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, interleaved: bool) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let y = B::rope(&x, &cos, &sin, interleaved, false);
        record!(Rope, [node], ((cos, sin, interleaved), y), y)
    }

    fn fused_mla_attention(q: FloatTensor<Self>, kv: FloatTensor<Self>, k_rope: FloatTensor<Self>, scale: f64) -> FloatTensor<Self> {
        let (q, q_node) = q.into_parts();
        let (kv, kv_node) = kv.into_parts();
        let (k_rope, k_rope_node) = k_rope.into_parts();
        let AttentionOutput { out, lse } = B::mla_attention(&q, &kv, &k_rope, scale);
        record!(MlaAttention { scale }, [q_node, kv_node, k_rope_node], ((q, kv, k_rope, out.clone(), lse), out), out)
    }

    fn fused_permute(x: FloatTensor<Self>, groups: ExpertGroups) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = B::permute(&x, &groups);
        record!(Permute, [node], (groups, y), y)
    }

    fn fused_combine(y: FloatTensor<Self>, weights: FloatTensor<Self>, groups: ExpertGroups) -> FloatTensor<Self> {
        let (y, y_node) = y.into_parts();
        let (weights, weights_node) = weights.into_parts();
        let out = B::combine(&y, &weights, &groups);
        record!(Combine, [y_node, weights_node], ((y, weights, groups), out), out)
    }

    fn fused_grouped_linear(x: FloatTensor<Self>, w: FloatTensor<Self>, groups: ExpertGroups) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (w, w_node) = w.into_parts();
        let y = B::grouped_linear(&x, &w, &groups);
        record!(GroupedLinear, [x_node, w_node], ((x, w, groups), y), y)
    }

    fn fused_embedding(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self> {
        let (table, node) = table.into_parts();
        let vocab = table.shape()[0];
        let y = B::embedding_forward(&table, &tokens);
        record!(Embedding { vocab }, [node], (tokens, y), y)
    }

    fn fused_linear_cross_entropy(x: FloatTensor<Self>, w: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (w, w_node) = w.into_parts();
        match HeadLossStep.prepare::<C>([x_node, w_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::linear_cross_entropy(&x, &w, &targets, true);
                let HeadLossGradients { dx, dw } = output.gradients.expect("invariant: gradients were asked for");
                prep.finish((dx, dw), output.loss)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::linear_cross_entropy(&x, &w, &targets, false).loss),
        }
    }

    fn fused_adamw(
        _value: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _first: FloatTensor<Self>,
        _second: FloatTensor<Self>,
        _scalars: AdamWScalars,
    ) -> AdamWOutput<Self> {
        unreachable!("an optimizer updates the inner tensors of parameters: there is nothing to differentiate")
    }
}

#[derive(Debug)]
struct Linear;

impl<B: FusedKernels> Backward<B, 2> for Linear {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, w) = ops.state;
        let [x_node, w_node] = ops.parents;
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::linear_input_gradient(&dy, &w));
        }
        if let Some(node) = w_node {
            grads.register::<B>(node.id, B::linear_weight_gradient(&dy, &x));
        }
    }
}

#[derive(Debug)]
struct RmsNorm;

impl<B: FusedKernels> Backward<B, 2> for RmsNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, gamma, rstd) = ops.state;
        let (dx, dgamma) = B::rms_norm_backward(&x, &gamma, &rstd, &dy);
        register::<B, 2>(grads, ops.parents.map(|node| node.map(|n| n.id)), [dx, dgamma]);
    }
}

#[derive(Debug)]
struct Swiglu;

impl<B: FusedKernels> Backward<B, 1> for Swiglu {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |dy| B::swiglu_backward(&ops.state, &dy));
    }
}

#[derive(Debug)]
struct Rope;

impl<B: FusedKernels> Backward<B, 1> for Rope {
    type State = (FloatTensor<B>, FloatTensor<B>, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (cos, sin, interleaved) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |dy| B::rope(&dy, &cos, &sin, interleaved, true));
    }
}

#[derive(Debug)]
struct MlaAttention {
    scale: f64,
}

impl<B: FusedKernels> Backward<B, 3> for MlaAttention {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dout = grads.consume::<B>(&ops.node);
        let (q, kv, k_rope, out, lse) = ops.state;
        let (dq, dkv, dk_rope) = B::mla_attention_backward(&q, &kv, &k_rope, &AttentionOutput { out, lse }, &dout, self.scale);
        register::<B, 3>(grads, ops.parents.map(|node| node.map(|n| n.id)), [dq, dkv, dk_rope]);
    }
}

#[derive(Debug)]
struct Permute;

impl<B: FusedKernels> Backward<B, 1> for Permute {
    type State = ExpertGroups;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |dy| B::permute_backward(&dy, &ops.state));
    }
}

#[derive(Debug)]
struct Combine;

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
struct GroupedLinear;

impl<B: FusedKernels> Backward<B, 2> for GroupedLinear {
    type State = (FloatTensor<B>, FloatTensor<B>, ExpertGroups);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, w, groups) = ops.state;
        let [x_node, w_node] = ops.parents;
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::grouped_linear_input_gradient(&dy, &w, &groups));
        }
        if let Some(node) = w_node {
            grads.register::<B>(node.id, B::grouped_linear_weight_gradient(&dy, &x, &groups));
        }
    }
}

#[derive(Debug)]
struct Embedding {
    vocab: usize,
}

impl<B: FusedKernels> Backward<B, 1> for Embedding {
    type State = IntTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |dy| B::embedding_table_gradient(&dy, &ops.state, self.vocab));
    }
}

#[derive(Debug)]
struct HeadLossStep;

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
    nodes: [Option<burn::backend::autodiff::NodeId>; N],
    values: [FloatTensor<B>; N],
) {
    for (node, value) in nodes.into_iter().zip(values) {
        if let Some(node) = node {
            grads.register::<B>(node, value);
        }
    }
}
