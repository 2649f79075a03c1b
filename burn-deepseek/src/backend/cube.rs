//! The fused operations on CubeCL's runtimes: those that a device's set names (`Supported::CUBE`
//! and those beside it) have kernels, and the others are composed there.
//!
//! A kernel goes in here as a method; once an operation has all of its kernels, its name goes into
//! the sets of the devices that are the faster for it.

use burn::backend::TensorMetadata;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::server::Handle;
use cubecl_kernels::KernelError;
use cubecl_kernels::all_to_all::{self, DeviceIndex, DeviceSums};
use cubecl_kernels::attention::{self, DeviceAttention};
use cubecl_kernels::definition::{
    AttentionShape, GroupedLinearShape, LinearShape, RopeShape, RouteShape, WireFormat,
};
use cubecl_kernels::device::{DeviceGroups, Element};
use cubecl_kernels::embedding::embedding_backward;
use cubecl_kernels::matrix_product::LinearPath;
use cubecl_kernels::{adamw, cross_entropy, grouped_linear, linear, rms_norm, rope, route, swiglu};

use super::cube_tensor::{Place, dims, handle, own, slots};
use super::kernels::{
    AdamWOutput, AttentionGradients, AttentionOutput, CombineGradients, FusedKernels, HeadLoss,
    NormGradients, NormOutput, RoutedTokens, RowTables, attention_shape, done, rope_shape,
};
use crate::definition::AdamWScalars;
use crate::precision::{AttentionOptions, ProductFormat};

/// The groups of `rows` rows that a table has.
fn groups(bounds: CubeTensor, rows: usize) -> DeviceGroups {
    let [_, ends] = dims(&bounds);
    done(DeviceGroups::of_table(handle(bounds), ends - 1, rows))
}

/// Choice by score alone, without groups.
fn ungrouped(shape: RouteShape) -> RouteShape {
    RouteShape { groups: 1, kept_groups: 1, ..shape }
}

/// The numbers of tokens as 32-bit words.
fn ids(tokens: CubeTensor) -> Handle {
    let tokens = match tokens.dtype {
        DType::I32 | DType::U32 => tokens,
        _ => CubeBackend::int_cast(tokens, DType::I32.into()),
    };
    handle(tokens)
}

fn linear_shape(rows: &CubeTensor, w: [usize; 2]) -> LinearShape {
    let [rows, _] = dims(rows);
    let [outputs, inputs] = w;
    LinearShape { rows, inputs, outputs }
}

/// The path of a dense product; none where the format leaves it to Burn, whose own product is the
/// faster one where this crate has none of that format.
fn dense_path(place: &Place, format: ProductFormat) -> Option<LinearPath> {
    let path = LinearPath::of(&place.client, format);
    (format == ProductFormat::F32 || path != LinearPath::F32).then_some(path)
}

impl FusedKernels for CubeBackend {
    fn linear_forward(x: CubeTensor, w: CubeTensor, format: ProductFormat) -> CubeTensor {
        let (place, shape) = (Place::of(&x), linear_shape(&x, dims(&w)));
        let Some(path) = dense_path(&place, format) else {
            return Self::float_matmul(x, Self::float_transpose(w));
        };
        let y = linear::linear(&place.client, &handle(x), &handle(w), &shape, path);
        place.floats(done(y), [shape.rows, shape.outputs])
    }

    fn linear_input_gradient(dy: CubeTensor, w: CubeTensor, format: ProductFormat) -> CubeTensor {
        let (place, shape) = (Place::of(&dy), linear_shape(&dy, dims(&w)));
        let Some(path) = dense_path(&place, format) else {
            return Self::float_matmul(dy, w);
        };
        let (dy, w) = (handle(dy), handle(w));
        let dx = linear::linear_input_gradient(&place.client, &dy, &w, &shape, path);
        place.floats(done(dx), [shape.rows, shape.inputs])
    }

    fn linear_weight_gradient(dy: CubeTensor, x: CubeTensor, format: ProductFormat) -> CubeTensor {
        let ([_, outputs], [_, inputs]) = (dims(&dy), dims(&x));
        let (place, shape) = (Place::of(&dy), linear_shape(&dy, [outputs, inputs]));
        let Some(path) = dense_path(&place, format) else {
            return Self::float_matmul(Self::float_transpose(dy), x);
        };
        let (dy, x) = (handle(dy), handle(x));
        let dw = linear::linear_weight_gradient(&place.client, &dy, &x, &shape, path);
        place.floats(done(dw), [outputs, inputs])
    }

    fn rms_norm(x: CubeTensor, gamma: CubeTensor, eps: f64) -> NormOutput<Self> {
        let (place, [rows, width]) = (Place::of(&x), dims(&x));
        let (x, gamma) = (handle(x), handle(gamma));
        let norm = done(rms_norm::rms_norm(&place.client, &x, &gamma, eps as f32, rows, width));
        NormOutput { y: place.floats(norm.y, [rows, width]), rstd: place.floats(norm.rstd, [rows]) }
    }

    fn rms_norm_backward(
        x: CubeTensor,
        gamma: CubeTensor,
        rstd: CubeTensor,
        dy: CubeTensor,
    ) -> NormGradients<Self> {
        let (place, [rows, width]) = (Place::of(&x), dims(&x));
        let [x, gamma, rstd, dy] = [x, gamma, rstd, dy].map(handle);
        let gradients =
            rms_norm::rms_norm_backward(&place.client, &x, &gamma, &rstd, &dy, rows, width);
        let (dx, dgamma) = done(gradients);
        NormGradients { dx: place.floats(dx, [rows, width]), dgamma: place.floats(dgamma, [width]) }
    }

    fn swiglu(gate_up: CubeTensor) -> CubeTensor {
        let (place, [rows, width]) = (Place::of(&gate_up), dims(&gate_up));
        let inter = width / 2;
        let y = done(swiglu::swiglu(&place.client, &handle(gate_up), rows, inter));
        place.floats(y, [rows, inter])
    }

    fn swiglu_backward(gate_up: CubeTensor, dy: CubeTensor) -> CubeTensor {
        let (place, [rows, width]) = (Place::of(&gate_up), dims(&gate_up));
        let (gate_up, dy) = (handle(gate_up), handle(dy));
        let dx = swiglu::swiglu_backward(&place.client, &gate_up, &dy, rows, width / 2);
        place.floats(done(dx), [rows, width])
    }

    fn rope(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, interleaved: bool) -> CubeTensor {
        rotate(rope::rope, x, cos, sin, interleaved)
    }

    fn rope_backward(
        dy: CubeTensor,
        cos: CubeTensor,
        sin: CubeTensor,
        interleaved: bool,
    ) -> CubeTensor {
        rotate(rope::rope_backward, dy, cos, sin, interleaved)
    }

    fn mla_attention(
        q: CubeTensor,
        kv: CubeTensor,
        k_rope: CubeTensor,
        options: AttentionOptions,
    ) -> AttentionOutput<Self> {
        let shape = attention_shape(dims(&q), dims(&kv), dims(&k_rope));
        let place = Place::of(&q);
        let [q, kv, k_rope] = [q, kv, k_rope].map(handle);
        let output = attention::attention(&place.client, &q, &kv, &k_rope, &shape, &options);
        let DeviceAttention { out, lse } = done(output);
        let AttentionShape { batch, queries, heads, v_dim, .. } = shape;
        AttentionOutput {
            out: place.floats(out, [batch, queries, heads, v_dim]),
            lse: place.floats(lse, [batch, heads, queries]),
        }
    }

    fn mla_attention_backward(
        q: CubeTensor,
        kv: CubeTensor,
        k_rope: CubeTensor,
        output: AttentionOutput<Self>,
        dout: CubeTensor,
        options: AttentionOptions,
    ) -> AttentionGradients<Self> {
        let shape = attention_shape(dims(&q), dims(&kv), dims(&k_rope));
        let place = Place::of(&q);
        let [q, kv, k_rope, dout] = [q, kv, k_rope, dout].map(handle);
        let output = DeviceAttention { out: handle(output.out), lse: handle(output.lse) };
        let gradients = done(attention::attention_backward(
            &place.client,
            &q,
            &kv,
            &k_rope,
            &output,
            &dout,
            &shape,
            &options,
        ));
        let AttentionShape { batch, queries, keys, heads, rope_dim, .. } = shape;
        AttentionGradients {
            dq: place.floats(gradients.dq, [batch, queries, heads, shape.qk_dim()]),
            dkv: place.floats(gradients.dkv, [batch, keys, heads, shape.kv_dim()]),
            dk_rope: place.floats(gradients.dk_rope, [batch, keys, rope_dim]),
        }
    }

    fn mla_absorbed_attention(
        q: CubeTensor,
        latents: CubeTensor,
        k_rope: CubeTensor,
        kv_b: CubeTensor,
        scale: f64,
    ) -> CubeTensor {
        let [batch, queries, heads, qk_dim] = dims(&q);
        let ([_, keys, rank], [_, _, rope_dim], [kv_rows, _]) =
            (dims(&latents), dims(&k_rope), dims(&kv_b));
        let nope_dim = qk_dim - rope_dim;
        let v_dim = kv_rows / heads - nope_dim;
        let shape = AttentionShape { batch, queries, keys, heads, nope_dim, rope_dim, v_dim };
        let place = Place::of(&q);
        let [q, latents, k_rope, kv_b] = [q, latents, k_rope, kv_b].map(handle);
        let out = attention::absorbed_attention(
            &place.client,
            &q,
            &latents,
            &k_rope,
            &kv_b,
            &shape,
            rank,
            scale as f32,
        );
        place.floats(done(out), [batch, queries, heads, v_dim])
    }

    fn permute(x: CubeTensor, rows: RowTables<Self>) -> CubeTensor {
        let (place, [_, width]) = (Place::of(&x), dims(&x));
        let index = done(DeviceIndex::of_slots(&slots(rows)));
        let y = all_to_all::pack(&place.client, &handle(x), &index, width, WireFormat::F32);
        place.floats(done(y), [index.len(), width])
    }

    fn permute_backward(dy: CubeTensor, rows: RowTables<Self>) -> CubeTensor {
        let (place, [_, width]) = (Place::of(&dy), dims(&dy));
        let sums = done(DeviceSums::of_slots(&slots(rows)));
        let (dy, format) = (handle(dy), WireFormat::F32);
        let dx = all_to_all::combine(&place.client, &dy, None, &sums, width, format);
        place.floats(done(dx), [sums.results(), width])
    }

    fn combine(y: CubeTensor, weights: CubeTensor, rows: RowTables<Self>) -> CubeTensor {
        let (place, [_, width]) = (Place::of(&y), dims(&y));
        let sums = done(DeviceSums::of_slots(&slots(rows)));
        let (y, weights, format) = (handle(y), handle(weights), WireFormat::F32);
        let out = all_to_all::combine(&place.client, &y, Some(&weights), &sums, width, format);
        place.floats(done(out), [sums.results(), width])
    }

    fn combine_backward(
        y: CubeTensor,
        weights: CubeTensor,
        rows: RowTables<Self>,
        dout: CubeTensor,
    ) -> CombineGradients<Self> {
        let (place, [_, width]) = (Place::of(&y), dims(&y));
        let [tokens, top_k] = dims(&rows.row_of_slot);
        let sums = done(DeviceSums::of_slots(&slots(rows)));
        let (dy, dweights) = done(all_to_all::combine_backward(
            &place.client,
            &handle(y),
            Some(&handle(weights)),
            &sums,
            &handle(dout),
            width,
            WireFormat::F32,
        ));
        CombineGradients {
            dy: place.floats(dy, [tokens * top_k, width]),
            dweights: place.floats(dweights, [tokens, top_k]),
        }
    }

    fn grouped_linear(
        x: CubeTensor,
        w: CubeTensor,
        bounds: CubeTensor,
        format: ProductFormat,
    ) -> CubeTensor {
        let (place, [rows, inputs], [experts, outputs, _]) = (Place::of(&x), dims(&x), dims(&w));
        let shape = GroupedLinearShape { rows, experts, inputs, outputs };
        let (x, w, groups) = (handle(x), handle(w), groups(bounds, rows));
        let path = LinearPath::of(&place.client, format);
        let y = grouped_linear::grouped_linear(&place.client, &x, &w, &groups, &shape, path);
        place.floats(done(y), [rows, outputs])
    }

    fn grouped_linear_input_gradient(
        dy: CubeTensor,
        w: CubeTensor,
        bounds: CubeTensor,
        format: ProductFormat,
    ) -> CubeTensor {
        let (place, [rows, outputs], [experts, _, inputs]) = (Place::of(&dy), dims(&dy), dims(&w));
        let shape = GroupedLinearShape { rows, experts, inputs, outputs };
        let (dy, w, groups) = (handle(dy), handle(w), groups(bounds, rows));
        let path = LinearPath::of(&place.client, format);
        let dx = grouped_linear::grouped_linear_input_gradient(
            &place.client,
            &dy,
            &w,
            &groups,
            &shape,
            path,
        );
        place.floats(done(dx), [rows, inputs])
    }

    fn grouped_linear_weight_gradient(
        dy: CubeTensor,
        x: CubeTensor,
        bounds: CubeTensor,
        format: ProductFormat,
    ) -> CubeTensor {
        let (place, [rows, outputs], [_, inputs]) = (Place::of(&dy), dims(&dy), dims(&x));
        let (dy, x, groups) = (handle(dy), handle(x), groups(bounds, rows));
        let shape = GroupedLinearShape { rows, experts: groups.len(), inputs, outputs };
        let path = LinearPath::of(&place.client, format);
        let dw = grouped_linear::grouped_linear_weight_gradient(
            &place.client,
            &dy,
            &x,
            &groups,
            &shape,
            path,
        );
        place.floats(done(dw), shape.weight_dims())
    }

    fn route(scores: CubeTensor, bias: CubeTensor, shape: RouteShape) -> RoutedTokens<Self> {
        let place = Place::of(&scores);
        let tables =
            done(route::route(&place.client, &handle(scores), Some(&handle(bias)), &shape));
        let (slots, rows) = ([shape.tokens, shape.top_k], [shape.slots()]);
        RoutedTokens {
            choices: place.ints(tables.choices, slots),
            loads: place.words(tables.loads, [shape.experts]),
            bounds: place.words(tables.table, [3, shape.experts + 1]),
            row_of_slot: place.words(tables.row_of_slot, slots),
            token_of_row: place.words(tables.token_of_row, rows),
            slot_of_row: place.words(tables.slot_of_row, rows),
        }
    }

    fn sequence_counts(scores: CubeTensor, shape: RouteShape, seq: usize) -> CubeTensor {
        let (place, shape) = (Place::of(&scores), ungrouped(shape));
        let choices = done(route::choose_experts(&place.client, &handle(scores), None, &shape));
        let counts = route::sequence_counts(&place.client, &choices, &shape, seq);
        place.ints(done(counts), [shape.tokens / seq, shape.experts])
    }

    fn embedding_forward(table: CubeTensor, tokens: CubeTensor) -> CubeTensor {
        Self::float_select(table, 0, tokens)
    }

    fn embedding_table_gradient(dy: CubeTensor, tokens: CubeTensor, vocab: usize) -> CubeTensor {
        let (place, [rows, width]) = (Place::of(&dy), dims(&dy));
        let (dy, tokens) = (handle(dy), ids(tokens));
        let table = embedding_backward(&place.client, &dy, &tokens, rows, vocab, width);
        place.floats(done(table), [vocab, width])
    }

    fn linear_cross_entropy(
        x: CubeTensor,
        w: CubeTensor,
        targets: CubeTensor,
        format: ProductFormat,
    ) -> CubeTensor {
        let (place, shape) = (Place::of(&x), linear_shape(&x, dims(&w)));
        let (x, w, targets) = (handle(x), handle(w), ids(targets));
        let path = LinearPath::of(&place.client, format);
        let loss =
            cross_entropy::linear_cross_entropy(&place.client, &x, &w, &targets, &shape, path);
        place.floats(done(loss), [1])
    }

    fn linear_cross_entropy_gradients(
        x: CubeTensor,
        w: CubeTensor,
        targets: CubeTensor,
        format: ProductFormat,
    ) -> HeadLoss<Self> {
        let (place, shape) = (Place::of(&x), linear_shape(&x, dims(&w)));
        let (x, w, targets) = (handle(x), handle(w), ids(targets));
        let head = done(cross_entropy::linear_cross_entropy_with_gradients(
            &place.client,
            &x,
            &w,
            &targets,
            &shape,
            LinearPath::of(&place.client, format),
        ));
        HeadLoss {
            loss: place.floats(head.loss, [1]),
            dx: place.floats(head.dx, [shape.rows, shape.inputs]),
            dw: place.floats(head.dw, [shape.outputs, shape.inputs]),
        }
    }

    fn scaled(x: CubeTensor, by: CubeTensor) -> CubeTensor {
        let rank = x.rank();
        let by = Self::float_reshape(by, vec![1; rank].into());
        Self::float_mul(x, by)
    }

    fn adamw(
        value: CubeTensor,
        grad: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        scalars: AdamWScalars,
    ) -> AdamWOutput<Self> {
        let (place, [count]) = (Place::of(&value), dims(&value));
        let moments = if first.dtype == DType::BF16 { Element::Bf16 } else { Element::F32 };
        let [value, first, second] = [value, first, second].map(own);
        done(adamw::adamw(
            &place.client,
            &value.handle,
            &handle(grad),
            &first.handle,
            &second.handle,
            moments,
            count,
            &scalars.into(),
        ));
        AdamWOutput { value, first, second }
    }

    fn sum_of_squares(x: CubeTensor) -> CubeTensor {
        let (place, [count]) = (Place::of(&x), dims(&x));
        let sum = done(adamw::sum_of_squares(&place.client, &handle(x), count));
        place.words(sum, [2])
    }
}

/// A rotation of heads by cosines and sines: forward or backward.
type Rotation = fn(&Client, &Handle, &Handle, &Handle, &RopeShape) -> Result<Handle, KernelError>;

/// Turns the last entries of each head.
fn rotate(
    rotation: Rotation,
    x: CubeTensor,
    cos: CubeTensor,
    sin: CubeTensor,
    interleaved: bool,
) -> CubeTensor {
    let (place, head_dims) = (Place::of(&x), dims(&x));
    let shape = rope_shape(head_dims, dims(&cos), interleaved);
    let [x, cos, sin] = [x, cos, sin].map(handle);
    place.floats(done(rotation(&place.client, &x, &cos, &sin, &shape)), head_dims)
}
