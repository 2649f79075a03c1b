//! Flex's kernels: those of `cubecl_kernels::host`, on tensors that are plain memory.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use cubecl_kernels::KernelError;
use cubecl_kernels::definition::{
    AttentionShape, GroupedLinearShape, LinearShape, PermuteShape, RopeShape,
};
use cubecl_kernels::host;
use half::bf16;

use super::flex_tensor::{Contiguous, dims, first_rows, ints, tensor, whole, word_tensor};
use super::kernels::{
    AdamWOutput, AttentionGradients, AttentionOutput, CombineGradients, FusedKernels, HeadLoss,
    NormGradients, NormOutput, RowTables, attention_shape, done, rope_shape,
};
use crate::definition::AdamWScalars;
use crate::precision::{AttentionOptions, ProductFormat};

impl FusedKernels for Flex {
    fn linear_forward(x: FlexTensor, w: FlexTensor, format: ProductFormat) -> FlexTensor {
        let ([rows, inputs], [outputs, _]) = (dims(&x), dims(&w));
        let shape = LinearShape { rows, inputs, outputs };
        let (x, w) = (Contiguous::new(x), Contiguous::new(w));
        let y = host::linear(x.floats(), w.floats(), &shape, format);
        tensor(done(y), [rows, outputs])
    }

    fn linear_input_gradient(dy: FlexTensor, w: FlexTensor, format: ProductFormat) -> FlexTensor {
        let ([rows, outputs], [_, inputs]) = (dims(&dy), dims(&w));
        let shape = LinearShape { rows, inputs, outputs };
        let (dy, w) = (Contiguous::new(dy), Contiguous::new(w));
        let dx = host::linear_input_gradient(dy.floats(), w.floats(), &shape, format);
        tensor(done(dx), [rows, inputs])
    }

    fn linear_weight_gradient(dy: FlexTensor, x: FlexTensor, format: ProductFormat) -> FlexTensor {
        let ([rows, outputs], [_, inputs]) = (dims(&dy), dims(&x));
        let shape = LinearShape { rows, inputs, outputs };
        let (dy, x) = (Contiguous::new(dy), Contiguous::new(x));
        let dw = host::linear_weight_gradient(dy.floats(), x.floats(), &shape, format);
        tensor(done(dw), [outputs, inputs])
    }

    fn rms_norm(x: FlexTensor, gamma: FlexTensor, eps: f64) -> NormOutput<Self> {
        let [rows, width] = dims(&x);
        let norm = done(host::rms_norm(
            Contiguous::new(x).floats(),
            Contiguous::new(gamma).floats(),
            eps as f32,
            rows,
            width,
        ));
        NormOutput { y: tensor(norm.y, [rows, width]), rstd: tensor(norm.rstd, [rows]) }
    }

    fn rms_norm_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        rstd: FlexTensor,
        dy: FlexTensor,
    ) -> NormGradients<Self> {
        let [rows, width] = dims(&x);
        let (x, gamma, rstd, dy) = (
            Contiguous::new(x),
            Contiguous::new(gamma),
            Contiguous::new(rstd),
            Contiguous::new(dy),
        );
        let (dx, dgamma) = done(host::rms_norm_backward(
            x.floats(),
            gamma.floats(),
            rstd.floats(),
            dy.floats(),
            rows,
            width,
        ));
        NormGradients { dx: tensor(dx, [rows, width]), dgamma: tensor(dgamma, [width]) }
    }

    fn swiglu(gate_up: FlexTensor) -> FlexTensor {
        let [rows, width] = dims(&gate_up);
        tensor(
            done(host::swiglu(Contiguous::new(gate_up).floats(), rows, width / 2)),
            [rows, width / 2],
        )
    }

    fn swiglu_backward(gate_up: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let [rows, width] = dims(&gate_up);
        let (gate_up, dy) = (Contiguous::new(gate_up), Contiguous::new(dy));
        tensor(
            done(host::swiglu_backward(gate_up.floats(), dy.floats(), rows, width / 2)),
            [rows, width],
        )
    }

    fn rope(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, interleaved: bool) -> FlexTensor {
        rotate(host::rope, x, cos, sin, interleaved)
    }

    fn rope_backward(
        dy: FlexTensor,
        cos: FlexTensor,
        sin: FlexTensor,
        interleaved: bool,
    ) -> FlexTensor {
        rotate(host::rope_backward, dy, cos, sin, interleaved)
    }

    fn mla_attention(
        q: FlexTensor,
        kv: FlexTensor,
        k_rope: FlexTensor,
        options: AttentionOptions,
    ) -> AttentionOutput<Self> {
        let shape = attention_shape(dims(&q), dims(&kv), dims(&k_rope));
        let (q, kv, k_rope) = (Contiguous::new(q), Contiguous::new(kv), Contiguous::new(k_rope));
        let output =
            done(host::attention(q.floats(), kv.floats(), k_rope.floats(), &shape, &options));
        AttentionOutput {
            out: tensor(output.out, [shape.batch, shape.queries, shape.heads, shape.v_dim]),
            lse: tensor(output.lse, [shape.batch, shape.heads, shape.queries]),
        }
    }

    fn mla_attention_backward(
        q: FlexTensor,
        kv: FlexTensor,
        k_rope: FlexTensor,
        output: AttentionOutput<Self>,
        dout: FlexTensor,
        options: AttentionOptions,
    ) -> AttentionGradients<Self> {
        let shape = attention_shape(dims(&q), dims(&kv), dims(&k_rope));
        let (q, kv, k_rope) = (Contiguous::new(q), Contiguous::new(kv), Contiguous::new(k_rope));
        let (out, lse, dout) =
            (Contiguous::new(output.out), Contiguous::new(output.lse), Contiguous::new(dout));
        let gradients = done(host::attention_backward(
            q.floats(),
            kv.floats(),
            k_rope.floats(),
            out.floats(),
            lse.floats(),
            dout.floats(),
            &shape,
            &options,
        ));
        let AttentionShape { batch, queries, keys, heads, rope_dim, .. } = shape;
        AttentionGradients {
            dq: tensor(gradients.dq, [batch, queries, heads, shape.qk_dim()]),
            dkv: tensor(gradients.dkv, [batch, keys, heads, shape.kv_dim()]),
            dk_rope: tensor(gradients.dk_rope, [batch, keys, rope_dim]),
        }
    }

    fn mla_absorbed_attention(
        q: FlexTensor,
        latents: FlexTensor,
        k_rope: FlexTensor,
        kv_b: FlexTensor,
        scale: f64,
    ) -> FlexTensor {
        let [batch, queries, heads, qk_dim] = dims(&q);
        let ([_, keys, rank], [_, _, rope_dim]) = (dims(&latents), dims(&k_rope));
        let nope_dim = qk_dim - rope_dim;
        let v_dim = dims::<2>(&kv_b)[0] / heads - nope_dim;
        let shape = AttentionShape { batch, queries, keys, heads, nope_dim, rope_dim, v_dim };
        let out = host::absorbed_attention(
            Contiguous::new(q).floats(),
            Contiguous::new(latents).floats(),
            Contiguous::new(k_rope).floats(),
            Contiguous::new(kv_b).floats(),
            &shape,
            rank,
            scale as f32,
        );
        tensor(done(out), [batch, queries, heads, v_dim])
    }

    fn permute(x: FlexTensor, rows: RowTables<Self>) -> FlexTensor {
        let ([tokens, width], [count]) = (dims(&x), dims(&rows.token_of_row));
        let (x, token_of_row) = (Contiguous::new(x), Contiguous::new(rows.token_of_row));
        tensor(
            done(host::gather_rows(x.floats(), token_of_row.words(), tokens, width)),
            [count, width],
        )
    }

    fn permute_backward(dy: FlexTensor, rows: RowTables<Self>) -> FlexTensor {
        let shape = permute_shape(&dy, &rows);
        let (dy, row_of_slot) = (Contiguous::new(dy), Contiguous::new(rows.row_of_slot));
        let dx = host::gather_rows_backward(dy.floats(), row_of_slot.words(), &shape);
        tensor(done(dx), [shape.tokens, shape.width])
    }

    fn combine(y: FlexTensor, weights: FlexTensor, rows: RowTables<Self>) -> FlexTensor {
        let shape = permute_shape(&y, &rows);
        let (y, weights) = (Contiguous::new(y), Contiguous::new(weights));
        let row_of_slot = Contiguous::new(rows.row_of_slot);
        let out = host::combine(y.floats(), weights.floats(), row_of_slot.words(), &shape);
        tensor(done(out), [shape.tokens, shape.width])
    }

    fn combine_backward(
        y: FlexTensor,
        weights: FlexTensor,
        rows: RowTables<Self>,
        dout: FlexTensor,
    ) -> CombineGradients<Self> {
        let shape = permute_shape(&y, &rows);
        let (y, weights, dout) =
            (Contiguous::new(y), Contiguous::new(weights), Contiguous::new(dout));
        let row_of_slot = Contiguous::new(rows.row_of_slot);
        let (dy, dweights) = done(host::combine_backward(
            y.floats(),
            weights.floats(),
            row_of_slot.words(),
            dout.floats(),
            &shape,
        ));
        CombineGradients {
            dy: tensor(dy, [shape.sorted, shape.width]),
            dweights: tensor(dweights, [shape.tokens, shape.slots]),
        }
    }

    fn grouped_linear(
        x: FlexTensor,
        w: FlexTensor,
        bounds: FlexTensor,
        format: ProductFormat,
    ) -> FlexTensor {
        let ([rows, inputs], [experts, outputs, _]) = (dims(&x), dims(&w));
        let shape = GroupedLinearShape { rows, experts, inputs, outputs };
        let (x, w) = (Contiguous::new(x), Contiguous::new(w));
        let y = host::grouped_linear(x.floats(), w.floats(), &first_rows(bounds), &shape, format);
        tensor(done(y), [rows, outputs])
    }

    fn grouped_linear_input_gradient(
        dy: FlexTensor,
        w: FlexTensor,
        bounds: FlexTensor,
        format: ProductFormat,
    ) -> FlexTensor {
        let ([rows, outputs], [experts, _, inputs]) = (dims(&dy), dims(&w));
        let shape = GroupedLinearShape { rows, experts, inputs, outputs };
        let (dy, w) = (Contiguous::new(dy), Contiguous::new(w));
        let (dy, w) = (dy.floats(), w.floats());
        let dx = host::grouped_linear_input_gradient(dy, w, &first_rows(bounds), &shape, format);
        tensor(done(dx), [rows, inputs])
    }

    fn grouped_linear_weight_gradient(
        dy: FlexTensor,
        x: FlexTensor,
        bounds: FlexTensor,
        format: ProductFormat,
    ) -> FlexTensor {
        let ([rows, outputs], [_, inputs]) = (dims(&dy), dims(&x));
        let [_, ends] = dims(&bounds);
        let shape = GroupedLinearShape { rows, experts: ends - 1, inputs, outputs };
        let (dy, x) = (Contiguous::new(dy), Contiguous::new(x));
        let (dy, x) = (dy.floats(), x.floats());
        let dw = host::grouped_linear_weight_gradient(dy, x, &first_rows(bounds), &shape, format);
        tensor(done(dw), [shape.experts, outputs, inputs])
    }

    fn embedding_forward(table: FlexTensor, tokens: FlexTensor) -> FlexTensor {
        let [vocab, width] = dims(&table);
        let tokens = ints(&tokens);
        let rows = done(host::embedding(Contiguous::new(table).floats(), &tokens, vocab, width));
        tensor(rows, [tokens.len(), width])
    }

    fn embedding_table_gradient(dy: FlexTensor, tokens: FlexTensor, vocab: usize) -> FlexTensor {
        let [_, width] = dims(&dy);
        let table =
            host::embedding_backward(Contiguous::new(dy).floats(), &ints(&tokens), vocab, width);
        tensor(done(table), [vocab, width])
    }

    fn linear_cross_entropy(
        x: FlexTensor,
        w: FlexTensor,
        targets: FlexTensor,
        format: ProductFormat,
    ) -> FlexTensor {
        let ([rows, inputs], [vocab, _]) = (dims(&x), dims(&w));
        let targets = ints(&targets);
        let shape = LinearShape { rows, inputs, outputs: vocab };
        let (x, w) = (Contiguous::new(x), Contiguous::new(w));
        let loss =
            host::linear_cross_entropy(x.floats(), w.floats(), &targets, None, &shape, format);
        tensor(vec![(done(loss).loss / counted(&targets) as f64) as f32], [1])
    }

    fn linear_cross_entropy_gradients(
        x: FlexTensor,
        w: FlexTensor,
        targets: FlexTensor,
        format: ProductFormat,
    ) -> HeadLoss<Self> {
        let ([rows, inputs], [vocab, _]) = (dims(&x), dims(&w));
        let targets = ints(&targets);
        let counted = counted(&targets);
        let weights = vec![1.0 / counted as f32; rows];
        let shape = LinearShape { rows, inputs, outputs: vocab };
        let (x, w) = (Contiguous::new(x), Contiguous::new(w));
        let result = done(host::linear_cross_entropy_with_gradients(
            x.floats(),
            w.floats(),
            &targets,
            Some(&weights),
            &shape,
            format,
        ));
        let sum: f64 = result.loss.row_losses.iter().map(|&loss| f64::from(loss)).sum();
        HeadLoss {
            loss: tensor(vec![(sum / counted as f64) as f32], [1]),
            dx: tensor(result.dx, [rows, inputs]),
            dw: tensor(result.dw, [vocab, inputs]),
        }
    }

    fn adamw(
        mut value: FlexTensor,
        grad: FlexTensor,
        mut first: FlexTensor,
        mut second: FlexTensor,
        scalars: AdamWScalars,
    ) -> AdamWOutput<Self> {
        let grad = Contiguous::new(grad);
        let config = scalars.into();
        (value, first, second) = (whole(value), whole(first), whole(second));
        let (param, grad) = (value.storage_mut(), grad.floats());
        done(match first.dtype() {
            DType::BF16 => {
                host::adamw::<bf16>(param, grad, first.storage_mut(), second.storage_mut(), &config)
            }
            _ => {
                host::adamw::<f32>(param, grad, first.storage_mut(), second.storage_mut(), &config)
            }
        });
        AdamWOutput { value, first, second }
    }

    fn scaled(x: FlexTensor, by: FlexTensor) -> FlexTensor {
        let by = Contiguous::new(by).floats()[0];
        if by == 1.0 { x } else { Self::float_mul_scalar(x, by.into()) }
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        let bits = host::sum_of_squares(Contiguous::new(x).floats()).to_bits();
        word_tensor(vec![bits as u32, (bits >> 32) as u32], [2])
    }
}

/// A rotation of heads by cosines and sines: forward or backward.
type Rotation = fn(&[f32], &[f32], &[f32], &RopeShape) -> Result<Vec<f32>, KernelError>;

/// Turns the last entries of each head.
fn rotate(
    rotation: Rotation,
    x: FlexTensor,
    cos: FlexTensor,
    sin: FlexTensor,
    interleaved: bool,
) -> FlexTensor {
    let head_dims = dims(&x);
    let shape = rope_shape(head_dims, dims(&cos), interleaved);
    let (x, cos, sin) = (Contiguous::new(x), Contiguous::new(cos), Contiguous::new(sin));
    tensor(done(rotation(x.floats(), cos.floats(), sin.floats(), &shape)), head_dims)
}

/// The number of targets that count, at least one.
fn counted(targets: &[i64]) -> usize {
    targets.iter().filter(|&&target| target >= 0).count().max(1)
}

/// `x` is a tensor of the experts' rows.
fn permute_shape(x: &FlexTensor, rows: &RowTables<Flex>) -> PermuteShape {
    let ([sorted, width], [tokens, slots]) = (dims(x), dims(&rows.row_of_slot));
    PermuteShape { tokens, slots, sorted, width }
}
