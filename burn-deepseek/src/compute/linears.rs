//! The dense linears and the head of a model, each in the format that the precision of a pass has for
//! it; with weights as a checkpoint stores them in FP32, whatever the precision.

use std::sync::PoisonError;

use burn::backend::Dispatch;
use burn::module::{Param, ParamId};
use burn::tensor::{GradientCheckpointingStrategy, Int, Tensor};

use super::Compute;
use crate::backend::fp8::{Fp8Weight, GroupedLinearShape, LinearCall, RowGroups};
use crate::backend::{DeferredWeight, PlainLinear};
use crate::ops::fp8::Rows;
use crate::precision::{Fp8Rule, Operation, ProductFormat, Rule};
use crate::{Linear, Weight, ops};

impl Compute {
    /// `y = x w^T (+ b)`.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, d_in]`, output: `[rows, d_out]`
    pub fn linear(&self, operation: Operation, x: Tensor<2>, layer: &Linear) -> Tensor<2> {
        let [y] = self.linears([operation], x, [layer]);
        y
    }

    /// Several linears of one input, which is quantized once.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, d_in]`, output: `[rows, d_out]` each
    pub fn linears<const N: usize>(
        &self,
        operations: [Operation; N],
        x: Tensor<2>,
        layers: [&Linear; N],
    ) -> [Tensor<2>; N] {
        let (mut quantized, mut rows) = (None, None);
        let mut pairs = operations.into_iter().zip(layers);
        std::array::from_fn(|_| {
            let (operation, layer) = pairs.next().expect("invariant: as many operations as layers");
            let bias = layer.bias.as_ref().map(Param::val);
            let weight = match &layer.weight {
                Weight::Parameter(weight) => weight,
                Weight::Stored(weight) => {
                    return biased(ops::stored::linear(x.clone(), weight), bias);
                }
            };
            let rule = match self.precision.rule(operation) {
                Rule::Plain(format) => {
                    let call = PlainLinear {
                        recompute: operation.recomputed(),
                        ..self.plain(format, weight.id)
                    };
                    return ops::linear(x.clone(), weight.val(), bias, call);
                }
                Rule::Fp8(rule) => rule,
            };
            let rows = rows.get_or_insert_with(|| Rows::one(x.dims()[0], &x.device()));
            biased(self.fp8(operation, x.clone(), weight, rows, rule, &mut quantized), bias)
        })
    }

    /// `y = (silu(gate) * up) down^T` with `[gate | up] = x gate_up^T`.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows, d]`; gate_up `[2 * inter, d]`, down `[d, inter]`
    pub fn mlp(&self, x: Tensor<2>, gate_up: &Weight<2>, down: &Weight<2>) -> Tensor<2> {
        let (count, device) = (x.dims()[0], x.device());
        let rows = || Rows::one(count, &device);
        let hidden = match (gate_up, self.precision.rule(Operation::GateUp)) {
            (Weight::Stored(w), _) => ops::stored::linear(x, w),
            (Weight::Parameter(w), Rule::Plain(format)) => {
                ops::linear(x, w.val(), None, self.plain(format, w.id))
            }
            (Weight::Parameter(w), Rule::Fp8(rule)) => {
                self.fp8(Operation::GateUp, x, w, &rows(), rule, &mut None)
            }
        };
        match (down, self.precision.rule(Operation::Down)) {
            (Weight::Stored(w), _) => ops::stored::linear(ops::swiglu(hidden), w),
            (Weight::Parameter(w), Rule::Plain(format)) => {
                ops::linear(ops::swiglu(hidden), w.val(), None, self.plain(format, w.id))
            }
            (Weight::Parameter(w), Rule::Fp8(rule)) => self.fp8_swiglu(hidden, w, &rows(), rule),
        }
    }

    /// Mean cross entropy of the head's logits.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, d]`, w: `[vocab, d]`, targets: `[rows]`, negative ones not counted; output:
    ///   `[1]`
    pub fn head_loss(&self, x: Tensor<2>, w: &Weight<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        match w {
            Weight::Stored(w) => ops::stored::linear_cross_entropy(x, w, targets),
            Weight::Parameter(w) => {
                let format = self.plain_format(Operation::Head);
                ops::linear_cross_entropy(x, w.val(), targets, format)
            }
        }
    }

    /// The head's logits, its products as in [`head_loss`](Self::head_loss).
    ///
    /// # Shapes
    ///
    /// - x: `[rows, d]`, w: `[vocab, d]`; output: `[rows, vocab]`
    pub fn head_logits(&self, x: Tensor<2>, w: &Weight<2>) -> Tensor<2> {
        match w {
            Weight::Stored(w) => ops::stored::linear(x, w),
            Weight::Parameter(w) => {
                ops::linear(x, w.val(), None, self.plain_format(Operation::Head))
            }
        }
    }

    /// The format of an operation that is never in FP8: head, attention.
    pub(crate) fn plain_format(&self, operation: Operation) -> ProductFormat {
        match self.precision.rule(operation) {
            Rule::Plain(format) => format,
            Rule::Fp8(_) => unreachable!("invariant: {operation:?} is never in FP8"),
        }
    }

    pub(super) fn fp8<const D: usize>(
        &self,
        operation: Operation,
        x: Tensor<2>,
        weight: &Param<Tensor<D>>,
        rows: &Rows,
        rule: Fp8Rule,
        quantized: &mut Option<ops::fp8::Input>,
    ) -> Tensor<2> {
        // Without gradient checkpointing there is nothing that the result could be computed from
        // again.
        let checkpointing =
            x.gradient_checkpointing_strategy() == Some(GradientCheckpointingStrategy::Balanced);
        let recompute = operation.recomputed() && checkpointing;
        let call = self.call(weight, rows.groups, rule, recompute);
        let table = &rows.table;
        let input = quantized.get_or_insert_with(|| ops::fp8::Input::new(&x, table, &call));
        ops::fp8::linear(x, input, weight.val(), &self.quantized(weight, &rule), table, call)
    }

    pub(super) fn fp8_swiglu<const D: usize>(
        &self,
        gate_up: Tensor<2>,
        weight: &Param<Tensor<D>>,
        rows: &Rows,
        rule: Fp8Rule,
    ) -> Tensor<2> {
        let call = self.call(weight, rows.groups, rule, false);
        let quantized = self.quantized(weight, &rule);
        ops::fp8::swiglu_linear(gate_up, weight.val(), &quantized, &rows.table, call)
    }

    pub(super) fn call<const D: usize>(
        &self,
        weight: &Param<Tensor<D>>,
        groups: RowGroups,
        rule: Fp8Rule,
        recompute: bool,
    ) -> LinearCall {
        let dims = weight.val().dims();
        let shape = GroupedLinearShape {
            rows: groups.rows(),
            inputs: dims[D - 1],
            outputs: dims[D - 2],
            experts: groups.len(),
        };
        LinearCall {
            shape,
            groups,
            weight_dims: dims.to_vec(),
            rule,
            recompute,
            deferred: self.deferred_weight(weight.id),
            counter: self.counter.clone(),
        }
    }

    pub(super) fn plain(&self, format: ProductFormat, weight: ParamId) -> PlainLinear {
        PlainLinear { deferred: self.deferred_weight(weight), ..format.into() }
    }

    fn deferred_weight(&self, param: ParamId) -> Option<DeferredWeight> {
        self.deferred.clone().map(|queue| DeferredWeight { param, queue })
    }

    pub(super) fn quantized<const D: usize>(
        &self,
        weight: &Param<Tensor<D>>,
        rule: &Fp8Rule,
    ) -> Fp8Weight<Dispatch> {
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        weights
            .entry(weight.id)
            .or_insert_with(|| {
                ops::fp8::quantize_weight(weight.val(), rule.weights, self.counter.as_ref())
            })
            .clone()
    }
}

fn biased(y: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    }
}
