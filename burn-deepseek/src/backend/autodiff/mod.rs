//! The operations on the autodiff decorator: forward by the inner backend's kernels, backward by
//! hand.
//!
//! Where gradient checkpointing is on, RMSNorm, SwiGLU, rope and the linears that ask for it keep
//! nothing: what a backward pass needs of their results is computed again from their inputs
//! (3.2.3). An operation therefore asks the graph for its inputs ([`Checkpointer`]) rather than
//! keeping them itself.

mod backward;
mod recompute;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::{Backward, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, DispatchKindConversion, DispatchTensor, TensorMetadata};

use self::backward::{
    Combine, Embedding, GroupedLinear, HeadLossStep, Linear, MlaAttention, Permute, Residual,
    RmsNorm, Rope, Swiglu,
};
use self::recompute::{RetroLinear, RetroRmsNorm, RetroRope, RetroSwiglu};
use super::kernels::{AttentionOutput, FusedKernels};
use super::{AdamWOutput, FusedOps, HeadLossGradients, PlainLinear};
use crate::definition::{AdamWScalars, ExpertGroups};
use crate::precision::{AttentionOptions, ProductFormat};

/// Records an operation whose result is kept where somebody needs it. `state` is made only where a
/// gradient will be asked for.
macro_rules! record {
    ($step:expr, $nodes:expr, |$prep:ident| $state:expr, $output:expr) => {
        match $step.prepare::<C>($nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let $prep = &mut prep;
                let state = $state;
                prep.finish(state, $output)
            }
            OpsKind::UnTracked(prep) => prep.finish($output),
        }
    };
}

/// Records an operation whose result is computed again by `retro` where gradient checkpointing is
/// on.
macro_rules! record_recomputed {
    ($step:expr, $retro:expr, $parents:expr, |$prep:ident| $state:expr, $output:expr) => {
        match $step
            .prepare::<C>($parents.map(|parent| parent.node()))
            .memory_bound()
            .retro_forward($retro)
            .parents($parents)
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let $prep = &mut prep;
                let state = $state;
                prep.finish(state, $output)
            }
            OpsKind::UnTracked(prep) => prep.finish($output),
        }
    };
}

impl<B: FusedKernels, C: CheckpointStrategy> FusedOps for Autodiff<B, C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn fused_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        call: PlainLinear,
    ) -> FloatTensor<Self> {
        let y = B::linear_forward(x.primitive(), w.primitive(), call.format);
        let retro = call.recompute.then(|| RetroLinear::<B>::new(x.id(), w.id(), call.format));
        let step = Linear { format: call.format, deferred: call.deferred };
        if let Some(retro) = retro {
            record_recomputed!(
                step,
                retro,
                [&x, &w],
                |prep| (prep.checkpoint(&x), w.primitive().clone()),
                y
            )
        } else {
            record!(
                step,
                [x.node(), w.node()],
                |prep| (prep.checkpoint(&x), w.primitive().clone()),
                y
            )
        }
    }

    fn fused_rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let output = B::rms_norm(x.primitive(), gamma.primitive(), eps);
        let retro = RetroRmsNorm::<B>::new(x.id(), gamma.id(), eps);
        let state = |x, rstd| (x, gamma.primitive().clone(), rstd);
        record_recomputed!(
            RmsNorm,
            retro,
            [&x, &gamma],
            |prep| state(prep.checkpoint(&x), output.rstd),
            output.y
        )
    }

    fn fused_swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        let y = B::swiglu(gate_up.primitive());
        let retro = RetroSwiglu::<B>::new(gate_up.id());
        record_recomputed!(Swiglu, retro, [&gate_up], |prep| prep.checkpoint(&gate_up), y)
    }

    fn fused_rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        interleaved: bool,
    ) -> FloatTensor<Self> {
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let y = B::rope(x.primitive(), &cos, &sin, interleaved, false);
        let retro = RetroRope::<B>::new(x.id(), cos.clone(), sin.clone(), interleaved);
        record_recomputed!(Rope, retro, [&x], |_prep| (cos, sin, interleaved), y)
    }

    fn fused_residual(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (y, y_node) = y.into_parts();
        let sum = B::float_add(x, y);
        record!(Residual, [x_node, y_node], |_prep| (), sum)
    }

    fn fused_mla_attention(
        q: FloatTensor<Self>,
        kv: FloatTensor<Self>,
        k_rope: FloatTensor<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self> {
        let AttentionOutput { out, lse } =
            B::mla_attention(q.primitive(), kv.primitive(), k_rope.primitive(), options);
        let nodes = [q.node(), kv.node(), k_rope.node()];
        record!(
            MlaAttention { options },
            nodes,
            |prep| (
                [&q, &kv, &k_rope].map(|input| prep.checkpoint(input)),
                AttentionOutput { out: out.clone(), lse }
            ),
            out
        )
    }

    fn fused_permute(x: FloatTensor<Self>, groups: ExpertGroups) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = B::permute(&x, &groups);
        record!(Permute, [node], |_prep| groups, y)
    }

    fn fused_combine(
        y: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        groups: ExpertGroups,
    ) -> FloatTensor<Self> {
        let (y, y_node) = y.into_parts();
        let (weights, weights_node) = weights.into_parts();
        let out = B::combine(&y, &weights, &groups);
        record!(Combine, [y_node, weights_node], |_prep| (y, weights, groups), out)
    }

    fn fused_grouped_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        groups: ExpertGroups,
        call: PlainLinear,
    ) -> FloatTensor<Self> {
        let y = B::grouped_linear(x.primitive(), w.primitive(), &groups, call.format);
        let step = GroupedLinear { format: call.format, deferred: call.deferred };
        record!(
            step,
            [x.node(), w.node()],
            |prep| (prep.checkpoint(&x), w.primitive().clone(), groups),
            y
        )
    }

    fn fused_embedding(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self> {
        let (table, node) = table.into_parts();
        let vocab = table.shape()[0];
        let y = B::embedding_forward(&table, &tokens);
        record!(Embedding { vocab }, [node], |_prep| tokens, y)
    }

    fn fused_linear_cross_entropy(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        format: ProductFormat,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (w, w_node) = w.into_parts();
        match HeadLossStep.prepare::<C>([x_node, w_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::linear_cross_entropy(&x, &w, &targets, true, format);
                let HeadLossGradients { dx, dw } =
                    output.gradients.expect("invariant: gradients were asked for");
                prep.finish((dx, dw), output.loss)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::linear_cross_entropy(&x, &w, &targets, false, format).loss)
            }
        }
    }

    fn fused_adamw(
        _value: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _first: FloatTensor<Self>,
        _second: FloatTensor<Self>,
        _scalars: AdamWScalars,
    ) -> AdamWOutput<Self> {
        unreachable!(
            "an optimizer updates the inner tensors of parameters: there is nothing to \
             differentiate"
        )
    }
}
