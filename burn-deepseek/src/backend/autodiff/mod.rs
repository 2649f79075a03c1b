//! The operations on the autodiff decorator: forward by the kernels of the backend inside, backward
//! by hand.
//!
//! Where gradient checkpointing is on, RMSNorm, SwiGLU, rope and the linears that ask for it keep
//! nothing: what a backward pass needs of their results is computed again from their inputs
//! (3.2.3). An operation therefore asks the graph for its inputs ([`Backprop::value`]) rather than
//! keeping them itself.

mod graph;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::{Backward, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, DispatchKindConversion, DispatchTensor, TensorMetadata};

pub(super) use self::graph::{Backprop, Graph, Step};
use super::fused::{FusedOps, PlainLinear};
use super::kernels::{
    AttentionGradients, CombineGradients, FusedKernels, HeadLoss, NormGradients, RowTables,
};
use super::table::WithoutAutodiff;
use crate::precision::{AttentionOptions, ProductFormat};

/// Out of the decorator: numbers of rows have no gradient.
pub(in crate::backend) fn inner_rows<B: Backend, C: CheckpointStrategy>(
    rows: RowTables<Autodiff<B, C>>,
) -> RowTables<B> {
    RowTables {
        bounds: rows.bounds,
        row_of_slot: rows.row_of_slot,
        token_of_row: rows.token_of_row,
        slot_of_row: rows.slot_of_row,
    }
}

impl<B: FusedKernels + WithoutAutodiff, C: CheckpointStrategy> FusedOps for Autodiff<B, C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn fused_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        call: PlainLinear,
    ) -> FloatTensor<Self> {
        let PlainLinear { format, recompute, deferred } = call;
        let forward = move |[x, w]: [FloatTensor<B>; 2]| B::linear_forward(x, w, format);
        let backward = move |mut graph: Backprop<B, 2>, dy: FloatTensor<B>, (x, w)| {
            let [x_wanted, w_wanted] = graph.inputs;
            if let Some(input) = x_wanted {
                graph.register(input, B::linear_input_gradient(dy.clone(), w, format));
            }
            if let Some(weight) = w_wanted {
                let x = graph.value(x);
                graph.register_weight(weight, deferred, 2, move || {
                    B::linear_weight_gradient(dy, x, format)
                });
            }
        };
        let (node, weight) = (x.id(), w.primitive().clone());
        let y = forward([x.primitive().clone(), weight.clone()]);
        if recompute {
            let again = ([node, w.id()], forward);
            Graph::<B, C>::record_again(
                [&x, &w],
                again,
                y,
                |step| (step.checkpoint(&x), weight),
                backward,
            )
        } else {
            let inputs = [x.node(), w.node()];
            Graph::<B, C>::record(inputs, y, |step| (step.checkpoint(&x), weight), backward)
        }
    }

    fn fused_rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let forward = move |[x, gamma]: [FloatTensor<B>; 2]| B::rms_norm(x, gamma, eps);
        let scale = gamma.primitive().clone();
        let output = forward([x.primitive().clone(), scale.clone()]);
        Graph::<B, C>::record_again(
            [&x, &gamma],
            ([x.id(), gamma.id()], move |inputs| forward(inputs).y),
            output.y,
            |step| (step.checkpoint(&x), scale, output.rstd),
            |mut graph, dy, (x, gamma, rstd)| {
                let x = graph.value(x);
                let NormGradients { dx, dgamma } = B::rms_norm_backward(x, gamma, rstd, dy);
                graph.register_all([dx, dgamma]);
            },
        )
    }

    fn fused_residual(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, x_node), (y, y_node)) = (x.into_parts(), y.into_parts());
        Graph::<B, C>::record(
            [x_node, y_node],
            B::sum(x, y),
            |_| (),
            |graph, dy, ()| graph.register_all([dy.clone(), dy]),
        )
    }

    fn fused_swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        let forward = |[gate_up]: [FloatTensor<B>; 1]| B::swiglu(gate_up);
        Graph::<B, C>::record_again(
            [&gate_up],
            ([gate_up.id()], forward),
            forward([gate_up.primitive().clone()]),
            |step| step.checkpoint(&gate_up),
            |mut graph, dy, gate_up| {
                let gate_up = graph.value(gate_up);
                graph.register_all([B::swiglu_backward(gate_up, dy)]);
            },
        )
    }

    fn fused_rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        interleaved: bool,
    ) -> FloatTensor<Self> {
        let angles = (cos.into_primitive(), sin.into_primitive());
        let (cos, sin) = angles.clone();
        let forward =
            move |[x]: [FloatTensor<B>; 1]| B::rope(x, cos.clone(), sin.clone(), interleaved);
        let y = forward([x.primitive().clone()]);
        Graph::<B, C>::record_again(
            [&x],
            ([x.id()], forward),
            y,
            |_| angles,
            move |graph, dy, (cos, sin)| {
                graph.register_all([B::rope_backward(dy, cos, sin, interleaved)]);
            },
        )
    }

    fn fused_mla_attention(
        q: FloatTensor<Self>,
        kv: FloatTensor<Self>,
        k_rope: FloatTensor<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self> {
        let inputs = [&q, &kv, &k_rope];
        let [q, kv, k_rope] = inputs.map(|input| input.primitive().clone());
        let output = B::mla_attention(q, kv, k_rope, options);
        Graph::<B, C>::record(
            inputs.map(|input| input.node()),
            output.out.clone(),
            |step| (inputs.map(|input| step.checkpoint(input)), output),
            move |mut graph, dout, (inputs, output)| {
                let [q, kv, k_rope] = inputs.map(|input| graph.value(input));
                let AttentionGradients { dq, dkv, dk_rope } =
                    B::mla_attention_backward(q, kv, k_rope, output, dout, options);
                graph.register_all([dq, dkv, dk_rope]);
            },
        )
    }

    fn fused_permute(x: FloatTensor<Self>, rows: RowTables<Self>) -> FloatTensor<Self> {
        let ((x, node), rows) = (x.into_parts(), inner_rows(rows));
        Graph::<B, C>::record(
            [node],
            B::permute(x, rows.clone()),
            |_| rows,
            |graph, dy, rows| graph.register_all([B::permute_backward(dy, rows)]),
        )
    }

    fn fused_combine(
        y: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        rows: RowTables<Self>,
    ) -> FloatTensor<Self> {
        let ((y, y_node), (weights, weights_node)) = (y.into_parts(), weights.into_parts());
        let rows = inner_rows(rows);
        Graph::<B, C>::record(
            [y_node, weights_node],
            B::combine(y.clone(), weights.clone(), rows.clone()),
            |_| (y, weights, rows),
            |graph, dout, (y, weights, rows)| {
                let CombineGradients { dy, dweights } = B::combine_backward(y, weights, rows, dout);
                graph.register_all([dy, dweights]);
            },
        )
    }

    fn fused_grouped_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bounds: IntTensor<Self>,
        call: PlainLinear,
    ) -> FloatTensor<Self> {
        let PlainLinear { format, deferred, .. } = call;
        let weights = w.primitive().clone();
        Graph::<B, C>::record(
            [x.node(), w.node()],
            B::grouped_linear(x.primitive().clone(), weights.clone(), bounds.clone(), format),
            |step| (step.checkpoint(&x), weights, bounds),
            move |mut graph, dy, (x, w, bounds)| {
                let [x_wanted, w_wanted] = graph.inputs;
                if let Some(input) = x_wanted {
                    let bounds = bounds.clone();
                    let dx = B::grouped_linear_input_gradient(dy.clone(), w, bounds, format);
                    graph.register(input, dx);
                }
                if let Some(weight) = w_wanted {
                    let x = graph.value(x);
                    graph.register_weight(weight, deferred, 3, move || {
                        B::grouped_linear_weight_gradient(dy, x, bounds, format)
                    });
                }
            },
        )
    }

    fn fused_embedding(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self> {
        let (table, node) = table.into_parts();
        let vocab = table.shape()[0];
        Graph::<B, C>::record(
            [node],
            B::embedding_forward(table, tokens.clone()),
            |_| tokens,
            move |graph, dy, tokens| {
                graph.register_all([B::embedding_table_gradient(dy, tokens, vocab)]);
            },
        )
    }

    fn fused_linear_cross_entropy(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        format: ProductFormat,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (w, w_node)) = (x.into_parts(), w.into_parts());
        let step = Step::new(|graph: Backprop<B, 2>, upstream: FloatTensor<B>, (dx, dw)| {
            graph.register_all([B::scaled(dx, upstream.clone()), B::scaled(dw, upstream)]);
        });
        match step.prepare::<C>([x_node, w_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let HeadLoss { loss, dx, dw } =
                    B::linear_cross_entropy_gradients(x, w, targets, format);
                step.finish((dx, dw), loss)
            }
            OpsKind::UnTracked(step) => step.finish(B::linear_cross_entropy(x, w, targets, format)),
        }
    }
}
