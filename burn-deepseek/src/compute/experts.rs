//! Tokens through the routed experts, wherever those are: each expert's linears on its own rows, in the
//! format that the precision of a pass has for them.

use burn::module::Param;
use burn::tensor::Tensor;

use super::Compute;
use crate::backend::{FusedOp, supports};
use crate::definition::{DispatchedRows, ExpertGroups};
use crate::ops::fp8::Rows;
use crate::precision::{Fp8Rule, KeptActivation, Operation, Rule};
use crate::{Weight, ops};

impl Compute {
    /// Tokens to their experts, [`Compute::experts`] of them, and back: each token's sum of its
    /// experts' results by gate value. Where the experts are is the affair of the
    /// [`ExpertDispatch`](crate::definition::ExpertDispatch); without one they are on this device.
    ///
    /// # Shapes
    ///
    /// - x, output: `[tokens, d]`; weights: `[tokens, top_k]`; gate_up `[experts here, 2 * inter, d]`,
    ///   down `[experts here, d, inter]`
    pub fn routed_experts(
        &self,
        x: Tensor<2>,
        weights: Tensor<2>,
        [gate_up, down]: [&Weight<3>; 2],
        groups: &ExpertGroups,
        layer: usize,
    ) -> Tensor<2> {
        let Some(dispatch) = &self.expert_dispatch else {
            let rows = self.experts_of_tokens(x, gate_up, down, groups);
            return ops::combine(rows, weights, groups);
        };
        let DispatchedRows { rows, groups, combine } = dispatch.dispatch(x, groups, layer);
        combine(self.experts(rows, gate_up, down, &groups), weights)
    }

    /// [`Compute::mlp`] of each expert on its own rows.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows, d]`, sorted by expert as `groups` says; gate_up
    ///   `[experts, 2 * inter, d]`, down `[experts, d, inter]`
    pub fn experts(
        &self,
        x: Tensor<2>,
        gate_up: &Weight<3>,
        down: &Weight<3>,
        groups: &ExpertGroups,
    ) -> Tensor<2> {
        let hidden = match gate_up {
            Weight::Stored(w) => ops::stored::grouped_linear(x, w, groups),
            Weight::Parameter(w) => self.grouped_linear(Operation::ExpertGateUp, x, w, groups),
        };
        self.expert_down(hidden, down, groups)
    }

    /// One linear an expert, each on its own rows.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, d_in]`, sorted by expert as `groups` says; w: `[experts, d_out, d_in]`; output:
    ///   `[rows, d_out]`
    pub fn grouped_linear(
        &self,
        operation: Operation,
        x: Tensor<2>,
        w: &Param<Tensor<3>>,
        groups: &ExpertGroups,
    ) -> Tensor<2> {
        match self.precision.rule(operation) {
            Rule::Plain(format) => {
                ops::grouped_linear(x, w.val(), groups, self.plain(format, w.id))
            }
            Rule::Fp8(rule) => {
                let rows = Rows::of(groups, &x);
                self.fp8(operation, x, w, &rows, rule, &mut None)
            }
        }
    }

    /// [`Compute::experts`] of the rows that [`ops::permute`] makes of tokens, the same bits; rows
    /// that are cast to FP8 are cast on the way.
    fn experts_of_tokens(
        &self,
        x: Tensor<2>,
        gate_up: &Weight<3>,
        down: &Weight<3>,
        groups: &ExpertGroups,
    ) -> Tensor<2> {
        let Some((w, rule)) = self.cast_on_the_way(gate_up, &x) else {
            return self.experts(ops::permute(x, groups), gate_up, down, groups);
        };
        let call = self.call(w, Rows::of(groups, &x).groups, rule, false);
        let weight = self.quantized(w, &rule);
        let hidden = ops::fp8::permute_linear(x, groups, w.val(), &weight, call);
        self.expert_down(hidden, down, groups)
    }

    /// The first weight of the experts and its rule, where rows of x are cast on their way to them:
    /// not where somebody counts what casts do, which takes the rows themselves, nor where what is
    /// kept of them is not made of them at once.
    fn cast_on_the_way<'a>(
        &self,
        gate_up: &'a Weight<3>,
        x: &Tensor<2>,
    ) -> Option<(&'a Param<Tensor<3>>, Fp8Rule)> {
        let rule = match self.precision.rule(Operation::ExpertGateUp) {
            Rule::Fp8(rule) if rule.kept == KeptActivation::Columns => rule,
            _ => return None,
        };
        let weight = gate_up.parameter()?;
        let counted = self.counter.is_some();
        (!counted && supports(FusedOp::Permute, x)).then_some((weight, rule))
    }

    fn expert_down(&self, hidden: Tensor<2>, down: &Weight<3>, groups: &ExpertGroups) -> Tensor<2> {
        match (down, self.precision.rule(Operation::ExpertDown)) {
            (Weight::Stored(w), _) => ops::stored::grouped_linear(ops::swiglu(hidden), w, groups),
            (Weight::Parameter(w), Rule::Plain(format)) => {
                let call = self.plain(format, w.id);
                ops::grouped_linear(ops::swiglu(hidden), w.val(), groups, call)
            }
            (Weight::Parameter(w), Rule::Fp8(rule)) => {
                let rows = Rows::of(groups, &hidden);
                self.fp8_swiglu(hidden, w, &rows, rule)
            }
        }
    }
}
