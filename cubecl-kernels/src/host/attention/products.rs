//! The products of one head, on FP32 words or BF16 pairs.
//!
//! Words take keys as columns, pairs as rows, and both take values as rows. In BF16 the scale is in
//! the keys, and on words all operands are rounded before: keys and values once, rows of queries
//! once a block.

use super::head::{Inputs, Operands, SCORES_ROW, columns_row, round_all};
use crate::definition::ProductFormat;
use crate::host::gemm::{Mat, MatMut, gemm, gemm_add, gemm_nt};
use crate::host::output::as_uninit;
use crate::host::parallel::Threads;
use crate::host::product::{View, product, product_add};
use crate::host::simd::LANES;

/// What one head's products read, of its first keys.
pub(super) struct Products<'a> {
    inputs: &'a Inputs<'a>,
    b: usize,
    h: usize,
    form: Form,
}

enum Form {
    Words {
        /// `[dn + dr, stride]`.
        keys_t: Vec<f32>,
        stride: usize,
        /// `[count, dv]`.
        values: Vec<f32>,
        /// For backward: keys `[count, dn + dr]`, values `[dv, stride]`.
        backward: Option<(Vec<f32>, Vec<f32>)>,
        /// What products with keys are multiplied by.
        scale: f32,
    },
    /// Keys `[count, dn + dr]`, times the scale.
    Pairs { keys: Vec<f32> },
}

impl<'a> Products<'a> {
    /// For the first `count` keys of head `h` of sequence `b`.
    pub(super) fn new(
        inputs: &'a Inputs<'a>,
        b: usize,
        h: usize,
        count: usize,
        backward: bool,
    ) -> Self {
        let form = match inputs.operands {
            Operands::Words | Operands::Rounded => {
                let mut keys_t = inputs.keys_transposed(b, h, count);
                let mut values = inputs.values_joined(b, h, count);
                let mut backward = backward.then(|| {
                    (inputs.keys_joined(b, h, count, 1.0), inputs.values_transposed(b, h, count))
                });
                let mut scale = inputs.options.scale;
                if inputs.operands == Operands::Rounded {
                    round_all(&mut keys_t, scale);
                    round_all(&mut values, 1.0);
                    if let Some((keys, values_t)) = &mut backward {
                        round_all(keys, scale);
                        round_all(values_t, 1.0);
                    }
                    scale = 1.0;
                }
                Form::Words { keys_t, stride: columns_row(count), values, backward, scale }
            }
            Operands::Pairs => {
                Form::Pairs { keys: inputs.keys_joined(b, h, count, inputs.options.scale) }
            }
        };
        Self { inputs, b, h, form }
    }

    /// Rows of queries, or of their outputs' gradients, as products take them: rounded into
    /// `buffer` where that is to be done before.
    pub(super) fn rows<'v>(&self, rows: View<'v>, buffer: &'v mut Vec<f32>) -> View<'v> {
        if self.inputs.operands != Operands::Rounded {
            return rows;
        }
        let [count, width] = rows.dims();
        buffer.clear();
        (0..count).for_each(|row| buffer.extend_from_slice(rows.row(row)));
        round_all(buffer, 1.0);
        View::new(buffer, count, width)
    }

    fn qk_dim(&self) -> usize {
        self.inputs.shape.qk_dim()
    }

    fn v_dim(&self) -> usize {
        self.inputs.shape.v_dim
    }

    /// Rows of values.
    fn values(&self, first_key: usize, width: usize) -> View<'_> {
        match &self.form {
            Form::Words { values, .. } => {
                View::new(&values[first_key * self.v_dim()..], width, self.v_dim())
            }
            Form::Pairs { .. } => self.inputs.values(self.b, self.h, first_key, width),
        }
    }

    /// The scaled scores of a block: `scores = scale queries keys^T`, rows [`SCORES_ROW`] apart.
    /// What follows in the last [`LANES`] is anything.
    pub(super) fn scores(
        &self,
        queries: View<'_>,
        first_key: usize,
        width: usize,
        scores: &mut [f32],
    ) {
        let scores = as_uninit(scores);
        match &self.form {
            Form::Words { keys_t, stride, scale, .. } => {
                let padded = width.next_multiple_of(LANES);
                let keys = Mat::new(&keys_t[first_key..], self.qk_dim(), padded, *stride);
                gemm(
                    MatMut::new(scores, queries.dims()[0], padded, SCORES_ROW),
                    *scale,
                    queries.mat(),
                    keys,
                    Threads::One,
                );
            }
            Form::Pairs { keys } => gemm_nt(
                scores,
                SCORES_ROW,
                1.0,
                queries.floats(),
                self.key_rows(keys, first_key, width).floats(),
                Threads::One,
            ),
        }
    }

    /// `mix (+)= weights values`, added to from the second block of keys on.
    pub(super) fn mix(&self, weights: View<'_>, first_key: usize, width: usize, mix: &mut [f32]) {
        let (values, format) = (self.values(first_key, width), self.inputs.format());
        if first_key == 0 {
            product(as_uninit(mix), weights, values, format, Threads::One);
        } else {
            product_add(mix, weights, values, format, Threads::One);
        }
    }

    /// `dp = dout values^T`, rows [`SCORES_ROW`] apart. What follows in the last [`LANES`] is
    /// anything.
    pub(super) fn weight_gradients(
        &self,
        dout: View<'_>,
        first_key: usize,
        width: usize,
        dp: &mut [f32],
    ) {
        let dp = as_uninit(dp);
        match &self.form {
            Form::Words { stride, backward, .. } => {
                let (_, values_t) =
                    backward.as_ref().expect("invariant: backward's products were asked for");
                let padded = width.next_multiple_of(LANES);
                let values = Mat::new(&values_t[first_key..], self.v_dim(), padded, *stride);
                gemm(
                    MatMut::new(dp, dout.dims()[0], padded, SCORES_ROW),
                    1.0,
                    dout.mat(),
                    values,
                    Threads::One,
                );
            }
            Form::Pairs { .. } => gemm_nt(
                dp,
                SCORES_ROW,
                1.0,
                dout.floats(),
                self.values(first_key, width).floats(),
                Threads::One,
            ),
        }
    }

    /// `dv += p^T dout`.
    pub(super) fn add_value_gradients(&self, p: View<'_>, dout: View<'_>, dv: &mut [f32]) {
        product_add(dv, p.t(), dout, self.inputs.format(), Threads::One);
    }

    /// `dk += ds^T queries`, which in BF16 is still to be multiplied by [`Inputs::key_factor`].
    pub(super) fn add_key_gradients(&self, ds: View<'_>, queries: View<'_>, dk: &mut [f32]) {
        match self.form {
            Form::Words { scale, .. } => {
                gemm_add(dk, self.qk_dim(), scale, ds.mat().t(), queries.mat(), Threads::One)
            }
            Form::Pairs { .. } => {
                product_add(dk, ds.t(), queries, ProductFormat::Bf16, Threads::One)
            }
        }
    }

    /// `dq (+)= scale ds keys`, added to from the second block of keys on.
    pub(super) fn query_gradients(
        &self,
        ds: View<'_>,
        first_key: usize,
        width: usize,
        dq: &mut [f32],
    ) {
        let qk_dim = self.qk_dim();
        match &self.form {
            Form::Words { backward, scale, .. } => {
                let (keys, _) =
                    backward.as_ref().expect("invariant: backward's products were asked for");
                let (scale, keys) = (*scale, self.key_rows(keys, first_key, width).mat());
                if first_key == 0 {
                    gemm(
                        MatMut::contiguous(as_uninit(dq), ds.dims()[0], qk_dim),
                        scale,
                        ds.mat(),
                        keys,
                        Threads::One,
                    );
                } else {
                    gemm_add(dq, qk_dim, scale, ds.mat(), keys, Threads::One);
                }
            }
            Form::Pairs { keys } => {
                let keys = self.key_rows(keys, first_key, width);
                if first_key == 0 {
                    product(as_uninit(dq), ds, keys, ProductFormat::Bf16, Threads::One);
                } else {
                    product_add(dq, ds, keys, ProductFormat::Bf16, Threads::One);
                }
            }
        }
    }

    fn key_rows<'k>(&self, keys: &'k [f32], first: usize, count: usize) -> View<'k> {
        View::new(&keys[first * self.qk_dim()..], count, self.qk_dim())
    }
}

impl Inputs<'_> {
    /// The format of the products that are the same in every form.
    fn format(&self) -> ProductFormat {
        match self.operands {
            Operands::Words | Operands::Rounded => ProductFormat::F32,
            Operands::Pairs => ProductFormat::Bf16,
        }
    }

    /// What sums of [`Products::add_key_gradients`] are to be multiplied by.
    pub(super) fn key_factor(&self) -> f32 {
        match self.operands {
            Operands::Words => 1.0,
            Operands::Rounded | Operands::Pairs => self.options.scale,
        }
    }
}
