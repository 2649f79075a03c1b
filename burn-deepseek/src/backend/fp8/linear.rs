//! Differentiable linears in FP8: what the model calls through Burn's dispatch.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use super::GroupedLinearShape;
use super::counter::CastCounter;
use super::kernels::Fp8Kernels;
use super::matrix::{Fp8Pair, Fp8Weight};
use super::shapes::{RowGroups, Side};
use crate::backend::deferred::DeferredWeight;
use crate::backend::kernels::RowTables;
use crate::backend::table::differentiable;
use crate::precision::Fp8Rule;

/// One call of a differentiable linear.
#[derive(Clone, Debug)]
pub struct LinearCall {
    /// Sizes.
    pub shape: GroupedLinearShape,
    /// Rows of each expert.
    pub groups: RowGroups,
    /// Dims of the weight, and so of its gradient.
    pub weight_dims: Vec<usize>,
    /// Formats.
    pub rule: Fp8Rule,
    /// Whether the result is computed again in backward instead of kept, where gradient
    /// checkpointing is on.
    pub recompute: bool,
    /// Where the weight gradient is left to be computed later; none computes it at once.
    pub deferred: Option<DeferredWeight>,
    /// What is told of the cast of the output's gradient.
    pub counter: Option<CastCounter>,
}

differentiable! {
    /// Linears in FP8. Float tensors are FP32.
    trait Fp8Ops of Fp8Kernels;

    /// The linear `y = x w^T` of an input that is quantized already, differentiable in x and w. Of
    /// `input.columns` what `call.rule.kept` says is kept; of x nothing but its place in the graph
    /// is used. `table` has the rows of `call.groups`, as in [`Fp8Kernels`].
    fn fp8_linear(
        x: FloatTensor<Self>,
        #[extension_type] input: Fp8Pair<Self>,
        w: FloatTensor<Self>,
        #[extension_type] weight: Fp8Weight<Self>,
        table: IntTensor<Self>,
        call: LinearCall,
    ) -> FloatTensor<Self> {
        let _ = (x, w); // places in a graph, which only autodiff has
        let LinearCall { groups, shape, rule, .. } = call;
        Self::fp8_gemm(input.rows, weight, table, groups, shape, Side::Fprop, rule)
    }
    /// The linear of each expert on rows of tokens, `y = permute(x) w^T`, differentiable in x and w:
    /// the rows are kept in 128x1 tiles, whatever `call.rule.kept` says, and never made in FP32.
    /// `rows` has the rows of `call.groups`.
    fn fp8_permute_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        #[extension_type] weight: Fp8Weight<Self>,
        #[extension_type] rows: RowTables<Self>,
        call: LinearCall,
    ) -> FloatTensor<Self> {
        let _ = w;
        let LinearCall { groups, shape, rule, .. } = call;
        let table = rows.bounds.clone();
        let rows = Self::fp8_permute_rows(x, rows, rule.activations);
        Self::fp8_gemm(rows, weight, table, groups, shape, Side::Fprop, rule)
    }
    /// `y = (silu(gate) * up) w^T`, differentiable in gate_up and w: gate and up are kept in FP8,
    /// SwiGLU's result is not kept.
    fn fp8_swiglu_linear(
        gate_up: FloatTensor<Self>,
        w: FloatTensor<Self>,
        #[extension_type] weight: Fp8Weight<Self>,
        table: IntTensor<Self>,
        call: LinearCall,
    ) -> FloatTensor<Self> {
        let _ = w;
        let hidden = Self::fp8_swiglu_rows(gate_up, call.rule.activations);
        let LinearCall { groups, shape, rule, .. } = call;
        Self::fp8_gemm(hidden, weight, table, groups, shape, Side::Fprop, rule)
    }
}
