//! FP8 linears on the autodiff decorator: Fprop, Dgrad and Wgrad from the kernels of the backend
//! inside.

use std::marker::PhantomData;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::retro_forward::RetroForward;
use burn::backend::autodiff::checkpoint::state::BackwardStates;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, DispatchKindConversion, DispatchTensor};
use cubecl_kernels::definition::{QuantizeOptions, ScaleFormat};

use super::{Fp8Kernels, Fp8Matrix, Fp8Ops, Fp8Pair, Fp8Weight, LinearCall, Side, SwigluColumns};
use crate::precision::KeptActivation;

/// Out of the decorator: codes have no gradient, and scales are constants.
fn inner<B: Backend, C: CheckpointStrategy>(x: Fp8Matrix<Autodiff<B, C>>) -> Fp8Matrix<B> {
    Fp8Matrix { codes: x.codes, scales: x.scales.into_primitive() }
}

fn inner_weight<B: Backend, C: CheckpointStrategy>(w: Fp8Weight<Autodiff<B, C>>) -> Fp8Weight<B> {
    Fp8Weight { codes: w.codes, transposed: w.transposed, scales: w.scales.into_primitive() }
}

impl<B: Fp8Kernels, C: CheckpointStrategy> Fp8Ops for Autodiff<B, C>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    fn fp8_linear(
        x: FloatTensor<Self>,
        input: Fp8Pair<Self>,
        w: FloatTensor<Self>,
        weight: Fp8Weight<Self>,
        call: LinearCall,
    ) -> FloatTensor<Self> {
        let weight = inner_weight(weight);
        let (rows, columns) = (inner(input.rows), inner(input.columns));
        let y = B::fp8_gemm(
            rows.clone(),
            weight.clone(),
            call.groups.clone(),
            call.shape,
            Side::Fprop,
            call.rule,
        );
        let nodes = [x.node(), w.node()];
        let prepared = if call.recompute {
            let retro = RetroLinear::<B> {
                x: x.id(),
                weight: weight.clone(),
                call: call.clone(),
                backend: PhantomData,
            };
            Linear
                .prepare::<C>(nodes)
                .memory_bound()
                .retro_forward(retro)
                .parents([&x, &w])
                .stateful()
        } else {
            Linear.prepare::<C>(nodes).compute_bound().stateful()
        };
        match prepared {
            OpsKind::Tracked(mut prep) => {
                let kept = match call.rule.kept {
                    _ if call.recompute => KeptInput::Recomputed(prep.checkpoint(&x)),
                    KeptActivation::Rows => KeptInput::Codes(rows),
                    KeptActivation::Columns | KeptActivation::E5m6 => KeptInput::Codes(columns),
                };
                prep.finish((kept, weight, call), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fp8_swiglu_linear(
        gate_up: FloatTensor<Self>,
        w: FloatTensor<Self>,
        weight: Fp8Weight<Self>,
        call: LinearCall,
    ) -> FloatTensor<Self> {
        let weight = inner_weight(weight);
        let (gate_up, node) = gate_up.into_parts();
        let hidden = B::fp8_swiglu_rows(gate_up.clone(), call.rule.activations);
        let y = B::fp8_gemm(
            hidden,
            weight.clone(),
            call.groups.clone(),
            call.shape,
            Side::Fprop,
            call.rule,
        );
        match SwigluLinear.prepare::<C>([node, w.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = B::fp8_quantize_rows(gate_up, call.rule.activations);
                prep.finish((kept, weight, call), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// What Wgrad's input is made from.
#[derive(Clone, Debug)]
enum KeptInput<B: Backend> {
    /// Its codes, as the rule says.
    Codes(Fp8Matrix<B>),
    /// The input itself, which its own operation computes again.
    Recomputed(NodeId),
}

#[derive(Debug)]
struct RetroLinear<B: Backend> {
    x: NodeId,
    weight: Fp8Weight<B>,
    call: LinearCall,
    backend: PhantomData<B>,
}

impl<B: Fp8Kernels> RetroForward for RetroLinear<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<FloatTensor<B>>(&self.x);
        let LinearCall { shape, groups, rule, .. } = &self.call;
        let rows = B::fp8_quantize_rows(x, rule.activations);
        states.save(
            out_node,
            B::fp8_gemm(rows, self.weight.clone(), groups.clone(), *shape, Side::Fprop, *rule),
        );
    }
}

#[derive(Debug)]
struct Linear;

impl<B: Fp8Kernels> Backward<B, 2> for Linear
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = (KeptInput<B>, Fp8Weight<B>, LinearCall);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (kept, weight, call) = ops.state;
        let [x_node, w_node] = ops.parents;
        let dy = B::fp8_quantize_both(dy, call.groups.clone(), call.rule.gradients);
        if let Some(node) = x_node {
            grads.register::<B>(
                node.id,
                B::fp8_gemm(
                    dy.rows,
                    weight,
                    call.groups.clone(),
                    call.shape,
                    Side::Dgrad,
                    call.rule,
                ),
            );
        }
        if let Some(node) = w_node {
            // What the graph holds is taken out now: a deferred product may come after the graph is
            // gone.
            let kept = match kept {
                KeptInput::Recomputed(x) => {
                    let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
                    let columns =
                        B::fp8_quantize_columns(x, call.groups.clone(), call.rule.activations);
                    return weight_gradient(call, node.id, grads, dy.columns, move |_| columns);
                }
                kept => kept,
            };
            weight_gradient(call, node.id, grads, dy.columns, move |call| columns::<B>(kept, call));
        }
    }
}

/// The input in 128x1 tiles.
fn columns<B: Fp8Kernels>(kept: KeptInput<B>, call: &LinearCall) -> Fp8Matrix<B> {
    let (groups, options, inputs) = (call.groups.clone(), call.rule.activations, call.shape.inputs);
    match kept {
        KeptInput::Codes(codes) => match call.rule.kept {
            KeptActivation::Columns => codes,
            // Scales that are powers of two lose nothing from one tile shape to the other (3.3.3).
            KeptActivation::E5m6 => {
                let options = QuantizeOptions { scale: ScaleFormat::PowerOfTwo, ..options };
                B::fp8_requantize(codes, inputs, groups, KeptActivation::E5m6, options)
            }
            KeptActivation::Rows => {
                B::fp8_requantize(codes, inputs, groups, KeptActivation::Rows, options)
            }
        },
        KeptInput::Recomputed(_) => {
            unreachable!("invariant: what is recomputed was taken from the graph")
        }
    }
}

/// Wgrad, now or later: the same computation on the same codes.
fn weight_gradient<B: Fp8Kernels>(
    call: LinearCall,
    node: NodeId,
    grads: &mut Gradients,
    dy: Fp8Matrix<B>,
    x: impl FnOnce(&LinearCall) -> Fp8Matrix<B> + Send + 'static,
) where
    DispatchTensor: DispatchKindConversion<B>,
{
    let LinearCall { weight_dims, deferred, .. } = call.clone();
    let rank = weight_dims.len();
    let product = move || {
        let x = x(&call);
        B::float_reshape(
            B::fp8_weight_gradient(dy, x, call.groups, call.shape, call.rule),
            weight_dims.into(),
        )
    };
    match deferred {
        None => grads.register::<B>(node, product()),
        Some(deferred) => deferred.push::<B>(rank, product),
    }
}

#[derive(Debug)]
struct SwigluLinear;

impl<B: Fp8Kernels> Backward<B, 2> for SwigluLinear
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = (Fp8Matrix<B>, Fp8Weight<B>, LinearCall);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (gate_up, weight, call) = ops.state;
        let [x_node, w_node] = ops.parents;
        let dy = B::fp8_quantize_both(dy, call.groups.clone(), call.rule.gradients);
        if let Some(node) = x_node {
            let dh = B::fp8_gemm(
                dy.rows,
                weight,
                call.groups.clone(),
                call.shape,
                Side::Dgrad,
                call.rule,
            );
            grads.register::<B>(
                node.id,
                B::fp8_swiglu_backward(gate_up.clone(), dh, call.rule.activations),
            );
        }
        if let Some(node) = w_node {
            weight_gradient(call, node.id, grads, dy.columns, move |call| {
                let options = call.rule.activations;
                B::fp8_swiglu_columns(
                    gate_up,
                    SwigluColumns {
                        columns: call.shape.inputs,
                        groups: call.groups.clone(),
                        kept: options,
                        options,
                    },
                )
            });
        }
    }
}
