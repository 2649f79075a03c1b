//! The fused operations on a server's device: the calls of the client, and what the server does for
//! each.

use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, Remote, TensorMetadata};
use burn::server::CustomOpRegistry;
use burn::tensor::{DType, Int, Tensor};

use super::client::{Call, RemoteTensor, dims};
use super::server::serve;
use crate::backend::flex_tensor::{Contiguous, word_tensor};
use crate::backend::kernels::{
    AttentionOutput, FusedKernels, HeadLoss, HeadLossGradients, NormOutput,
};
use crate::backend::{AdamWOutput, FusedOps, PlainLinear};
use crate::definition::{AdamWScalars, ExpertGroups};
use crate::precision::{AttentionOptions, ProductFormat};

/// A call of one tensor more, which the caller keeps.
fn call<const N: usize>(id: &'static str, inputs: [&RemoteTensor; N]) -> Call {
    let mut inputs = inputs.into_iter().cloned();
    let first = inputs.next().expect("invariant: an operation takes a tensor");
    inputs.fold(Call::new(id, first), Call::with)
}

impl FusedOps for Remote {
    fn fused_linear(x: RemoteTensor, w: RemoteTensor, call: PlainLinear) -> RemoteTensor {
        Self::linear_forward(&x, &w, call.format)
    }

    fn fused_residual(x: RemoteTensor, y: RemoteTensor) -> RemoteTensor {
        Self::float_add(x, y)
    }

    fn fused_rms_norm(x: RemoteTensor, gamma: RemoteTensor, eps: f64) -> RemoteTensor {
        Self::rms_norm(&x, &gamma, eps).y
    }

    fn fused_swiglu(gate_up: RemoteTensor) -> RemoteTensor {
        Self::swiglu(&gate_up)
    }

    fn fused_rope(
        x: RemoteTensor,
        cos: RemoteTensor,
        sin: RemoteTensor,
        interleaved: bool,
    ) -> RemoteTensor {
        Self::rope(&x, &cos, &sin, interleaved, false)
    }

    fn fused_mla_attention(
        q: RemoteTensor,
        kv: RemoteTensor,
        k_rope: RemoteTensor,
        options: AttentionOptions,
    ) -> RemoteTensor {
        Self::mla_attention(&q, &kv, &k_rope, options).out
    }

    fn fused_permute(x: RemoteTensor, groups: ExpertGroups) -> RemoteTensor {
        Self::permute(&x, &groups)
    }

    fn fused_combine(y: RemoteTensor, weights: RemoteTensor, groups: ExpertGroups) -> RemoteTensor {
        Self::combine(&y, &weights, &groups)
    }

    fn fused_grouped_linear(
        x: RemoteTensor,
        w: RemoteTensor,
        groups: ExpertGroups,
        call: PlainLinear,
    ) -> RemoteTensor {
        Self::grouped_linear(&x, &w, &groups, call.format)
    }

    fn fused_embedding(table: RemoteTensor, tokens: RemoteTensor) -> RemoteTensor {
        Self::embedding_forward(&table, &tokens)
    }

    fn fused_linear_cross_entropy(
        x: RemoteTensor,
        w: RemoteTensor,
        targets: RemoteTensor,
        format: ProductFormat,
    ) -> RemoteTensor {
        Self::linear_cross_entropy(&x, &w, &targets, false, format).loss
    }

    fn fused_adamw(
        value: RemoteTensor,
        grad: RemoteTensor,
        first: RemoteTensor,
        second: RemoteTensor,
        scalars: AdamWScalars,
    ) -> AdamWOutput<Self> {
        let [count] = dims(&value);
        let (first_dtype, second_dtype) = (first.dtype(), second.dtype());
        let call =
            Call::new("deepseek/adamw", value).with(grad).with(first).with(second).given(&scalars);
        let [value, first, second] =
            call.floats([count]).gives([count], first_dtype).gives([count], second_dtype).run();
        AdamWOutput { value, first, second }
    }
}

impl FusedKernels for Remote {
    fn linear_forward(x: &RemoteTensor, w: &RemoteTensor, format: ProductFormat) -> RemoteTensor {
        let ([rows, _], [outputs, _]) = (dims(x), dims(w));
        call("deepseek/linear", [x, w]).given(&format).floats([rows, outputs]).one()
    }

    fn linear_input_gradient(
        dy: &RemoteTensor,
        w: &RemoteTensor,
        format: ProductFormat,
    ) -> RemoteTensor {
        let ([rows, _], [_, inputs]) = (dims(dy), dims(w));
        call("deepseek/linear_input_gradient", [dy, w]).given(&format).floats([rows, inputs]).one()
    }

    fn linear_weight_gradient(
        dy: &RemoteTensor,
        x: &RemoteTensor,
        format: ProductFormat,
    ) -> RemoteTensor {
        let ([_, outputs], [_, inputs]) = (dims(dy), dims(x));
        call("deepseek/linear_weight_gradient", [dy, x])
            .given(&format)
            .floats([outputs, inputs])
            .one()
    }

    fn rms_norm(x: &RemoteTensor, gamma: &RemoteTensor, eps: f64) -> NormOutput<Self> {
        let [rows, width] = dims(x);
        let [y, rstd] = call("deepseek/rms_norm", [x, gamma])
            .given(&eps)
            .floats([rows, width])
            .floats([rows])
            .run();
        NormOutput { y, rstd }
    }

    fn rms_norm_backward(
        x: &RemoteTensor,
        gamma: &RemoteTensor,
        rstd: &RemoteTensor,
        dy: &RemoteTensor,
    ) -> (RemoteTensor, RemoteTensor) {
        let [rows, width] = dims(x);
        let [dx, dgamma] = call("deepseek/rms_norm_backward", [x, gamma, rstd, dy])
            .floats([rows, width])
            .floats([width])
            .run();
        (dx, dgamma)
    }

    fn swiglu(gate_up: &RemoteTensor) -> RemoteTensor {
        let [rows, width] = dims(gate_up);
        call("deepseek/swiglu", [gate_up]).floats([rows, width / 2]).one()
    }

    fn swiglu_backward(gate_up: &RemoteTensor, dy: &RemoteTensor) -> RemoteTensor {
        call("deepseek/swiglu_backward", [gate_up, dy]).floats(gate_up.shape()).one()
    }

    fn rope(
        x: &RemoteTensor,
        cos: &RemoteTensor,
        sin: &RemoteTensor,
        interleaved: bool,
        backward: bool,
    ) -> RemoteTensor {
        call("deepseek/rope", [x, cos, sin])
            .given(&interleaved)
            .given(&backward)
            .floats(x.shape())
            .one()
    }

    fn mla_attention(
        q: &RemoteTensor,
        kv: &RemoteTensor,
        k_rope: &RemoteTensor,
        options: AttentionOptions,
    ) -> AttentionOutput<Self> {
        let ([batch, queries, heads, qk_dim], [_, _, _, kv_dim], [_, _, rope_dim]) =
            (dims(q), dims(kv), dims(k_rope));
        let v_dim = kv_dim - (qk_dim - rope_dim);
        let call = call("deepseek/mla_attention", [q, kv, k_rope]).given(&options);
        let [out, lse] =
            call.floats([batch, queries, heads, v_dim]).floats([batch, heads, queries]).run();
        AttentionOutput { out, lse }
    }

    fn mla_attention_backward(
        q: &RemoteTensor,
        kv: &RemoteTensor,
        k_rope: &RemoteTensor,
        output: &AttentionOutput<Self>,
        dout: &RemoteTensor,
        options: AttentionOptions,
    ) -> (RemoteTensor, RemoteTensor, RemoteTensor) {
        let call = call(
            "deepseek/mla_attention_backward",
            [q, kv, k_rope, &output.out, &output.lse, dout],
        )
        .given(&options);
        let [dq, dkv, dk_rope] =
            call.floats(q.shape()).floats(kv.shape()).floats(k_rope.shape()).run();
        (dq, dkv, dk_rope)
    }

    fn permute(x: &RemoteTensor, groups: &ExpertGroups) -> RemoteTensor {
        let [_, width] = dims(x);
        call("deepseek/permute", [x]).routed(groups).floats([groups.rows(), width]).one()
    }

    fn permute_backward(dy: &RemoteTensor, groups: &ExpertGroups) -> RemoteTensor {
        let [_, width] = dims(dy);
        call("deepseek/permute_backward", [dy])
            .routed(groups)
            .floats([groups.tokens(), width])
            .one()
    }

    fn combine(y: &RemoteTensor, weights: &RemoteTensor, groups: &ExpertGroups) -> RemoteTensor {
        let [_, width] = dims(y);
        call("deepseek/combine", [y, weights]).routed(groups).floats([groups.tokens(), width]).one()
    }

    fn combine_backward(
        y: &RemoteTensor,
        weights: &RemoteTensor,
        groups: &ExpertGroups,
        dout: &RemoteTensor,
    ) -> (RemoteTensor, RemoteTensor) {
        let call = call("deepseek/combine_backward", [y, weights, dout]).routed(groups);
        let [dy, dweights] = call.floats(y.shape()).floats([groups.tokens(), groups.top_k()]).run();
        (dy, dweights)
    }

    fn grouped_linear(
        x: &RemoteTensor,
        w: &RemoteTensor,
        groups: &ExpertGroups,
        format: ProductFormat,
    ) -> RemoteTensor {
        let ([rows, _], [_, outputs, _]) = (dims(x), dims(w));
        call("deepseek/grouped_linear", [x, w])
            .routed(groups)
            .given(&format)
            .floats([rows, outputs])
            .one()
    }

    fn grouped_linear_input_gradient(
        dy: &RemoteTensor,
        w: &RemoteTensor,
        groups: &ExpertGroups,
        format: ProductFormat,
    ) -> RemoteTensor {
        let ([rows, _], [_, _, inputs]) = (dims(dy), dims(w));
        call("deepseek/grouped_linear_input_gradient", [dy, w])
            .routed(groups)
            .given(&format)
            .floats([rows, inputs])
            .one()
    }

    fn grouped_linear_weight_gradient(
        dy: &RemoteTensor,
        x: &RemoteTensor,
        groups: &ExpertGroups,
        format: ProductFormat,
    ) -> RemoteTensor {
        let ([_, outputs], [_, inputs]) = (dims(dy), dims(x));
        let call =
            call("deepseek/grouped_linear_weight_gradient", [dy, x]).routed(groups).given(&format);
        call.floats([groups.experts(), outputs, inputs]).one()
    }

    fn embedding_forward(table: &RemoteTensor, tokens: &RemoteTensor) -> RemoteTensor {
        let ([_, width], [count]) = (dims(table), dims(tokens));
        call("deepseek/embedding", [table, tokens]).floats([count, width]).one()
    }

    fn embedding_table_gradient(
        dy: &RemoteTensor,
        tokens: &RemoteTensor,
        vocab: usize,
    ) -> RemoteTensor {
        let [_, width] = dims(dy);
        call("deepseek/embedding_table_gradient", [dy, tokens])
            .given(&vocab)
            .floats([vocab, width])
            .one()
    }

    fn linear_cross_entropy(
        x: &RemoteTensor,
        w: &RemoteTensor,
        targets: &RemoteTensor,
        gradients: bool,
        format: ProductFormat,
    ) -> HeadLoss<Self> {
        let call = call("deepseek/linear_cross_entropy", [x, w, targets])
            .given(&gradients)
            .given(&format)
            .floats([1]);
        if !gradients {
            return HeadLoss { loss: call.one(), gradients: None };
        }
        let [loss, dx, dw] = call.floats(x.shape()).floats(w.shape()).run();
        HeadLoss { loss, gradients: Some(HeadLossGradients { dx, dw }) }
    }

    fn scaled(x: RemoteTensor, by: &RemoteTensor) -> RemoteTensor {
        let shape = x.shape();
        Call::new("deepseek/scaled", x).with(by.clone()).floats(shape).one()
    }
}

/// Sums of the squares of all entries of tensors on a server's device, made there in FP64 and read
/// together.
pub(in crate::backend) fn sums_of_squares(xs: Vec<Tensor<1>>) -> Vec<f64> {
    let sum = |x: Tensor<1>| {
        let x = x
            .try_into_primitive::<Remote>()
            .expect("invariant: the tensor is on a remote device, without autodiff");
        Tensor::<1, Int>::from_primitive::<Remote>(
            Call::new("deepseek/sum_of_squares", x).gives([2], DType::U32).one(),
        )
    };
    let halves: Vec<u32> =
        Tensor::cat(xs.into_iter().map(sum).collect(), 0).into_data().iter::<u32>().collect();
    halves
        .chunks_exact(2)
        .map(|bits| f64::from_bits(u64::from(bits[0]) | u64::from(bits[1]) << 32))
        .collect()
}

/// The operations on Flex.
pub(super) fn register(operations: &mut CustomOpRegistry<Flex>) {
    register_dense(operations);
    register_experts(operations);
    register_ends(operations);
}

fn register_dense(operations: &mut CustomOpRegistry<Flex>) {
    serve(operations, "deepseek/linear", |r| {
        let y = Flex::linear_forward(&r.float(), &r.float(), r.argument());
        r.give_float(y);
    });
    serve(operations, "deepseek/linear_input_gradient", |r| {
        let dx = Flex::linear_input_gradient(&r.float(), &r.float(), r.argument());
        r.give_float(dx);
    });
    serve(operations, "deepseek/linear_weight_gradient", |r| {
        let dw = Flex::linear_weight_gradient(&r.float(), &r.float(), r.argument());
        r.give_float(dw);
    });
    serve(operations, "deepseek/rms_norm", |r| {
        let norm = Flex::rms_norm(&r.float(), &r.float(), r.argument());
        r.give_float(norm.y);
        r.give_float(norm.rstd);
    });
    serve(operations, "deepseek/rms_norm_backward", |r| {
        let (dx, dgamma) = Flex::rms_norm_backward(&r.float(), &r.float(), &r.float(), &r.float());
        r.give_float(dx);
        r.give_float(dgamma);
    });
    serve(operations, "deepseek/swiglu", |r| {
        let y = Flex::swiglu(&r.float());
        r.give_float(y);
    });
    serve(operations, "deepseek/swiglu_backward", |r| {
        let d = Flex::swiglu_backward(&r.float(), &r.float());
        r.give_float(d);
    });
    serve(operations, "deepseek/rope", |r| {
        let y = Flex::rope(&r.float(), &r.float(), &r.float(), r.argument(), r.argument());
        r.give_float(y);
    });
    serve(operations, "deepseek/mla_attention", |r| {
        let AttentionOutput { out, lse } =
            Flex::mla_attention(&r.float(), &r.float(), &r.float(), r.argument());
        r.give_float(out);
        r.give_float(lse);
    });
    serve(operations, "deepseek/mla_attention_backward", |r| {
        let (q, kv, k_rope) = (r.float(), r.float(), r.float());
        let output = AttentionOutput { out: r.float(), lse: r.float() };
        let (dq, dkv, dk_rope) =
            Flex::mla_attention_backward(&q, &kv, &k_rope, &output, &r.float(), r.argument());
        r.give_float(dq);
        r.give_float(dkv);
        r.give_float(dk_rope);
    });
}

fn register_experts(operations: &mut CustomOpRegistry<Flex>) {
    serve(operations, "deepseek/permute", |r| {
        let y = Flex::permute(&r.float(), &r.groups());
        r.give_float(y);
    });
    serve(operations, "deepseek/permute_backward", |r| {
        let dx = Flex::permute_backward(&r.float(), &r.groups());
        r.give_float(dx);
    });
    serve(operations, "deepseek/combine", |r| {
        let y = Flex::combine(&r.float(), &r.float(), &r.groups());
        r.give_float(y);
    });
    serve(operations, "deepseek/combine_backward", |r| {
        let (y, weights, dout) = (r.float(), r.float(), r.float());
        let (dy, dweights) = Flex::combine_backward(&y, &weights, &r.groups(), &dout);
        r.give_float(dy);
        r.give_float(dweights);
    });
    serve(operations, "deepseek/grouped_linear", |r| {
        let y = Flex::grouped_linear(&r.float(), &r.float(), &r.groups(), r.argument());
        r.give_float(y);
    });
    serve(operations, "deepseek/grouped_linear_input_gradient", |r| {
        let dx =
            Flex::grouped_linear_input_gradient(&r.float(), &r.float(), &r.groups(), r.argument());
        r.give_float(dx);
    });
    serve(operations, "deepseek/grouped_linear_weight_gradient", |r| {
        let dw =
            Flex::grouped_linear_weight_gradient(&r.float(), &r.float(), &r.groups(), r.argument());
        r.give_float(dw);
    });
}

fn register_ends(operations: &mut CustomOpRegistry<Flex>) {
    serve(operations, "deepseek/embedding", |r| {
        let rows = Flex::embedding_forward(&r.float(), &r.int());
        r.give_float(rows);
    });
    serve(operations, "deepseek/embedding_table_gradient", |r| {
        let table = Flex::embedding_table_gradient(&r.float(), &r.int(), r.argument());
        r.give_float(table);
    });
    serve(operations, "deepseek/linear_cross_entropy", |r| {
        let head = Flex::linear_cross_entropy(
            &r.float(),
            &r.float(),
            &r.int(),
            r.argument(),
            r.argument(),
        );
        r.give_float(head.loss);
        if let Some(HeadLossGradients { dx, dw }) = head.gradients {
            r.give_float(dx);
            r.give_float(dw);
        }
    });
    serve(operations, "deepseek/scaled", |r| {
        let y = Flex::scaled(r.float(), &r.float());
        r.give_float(y);
    });
    serve(operations, "deepseek/adamw", |r| {
        let output = Flex::fused_adamw(r.float(), r.float(), r.float(), r.float(), r.argument());
        r.give_float(output.value);
        r.give_float(output.first);
        r.give_float(output.second);
    });
    serve(operations, "deepseek/sum_of_squares", |r| {
        let sum =
            cubecl_kernels::host::sum_of_squares(Contiguous::new(&r.float()).floats()).to_bits();
        r.give_int(word_tensor(vec![sum as u32, (sum >> 32) as u32], [2]));
    });
}
