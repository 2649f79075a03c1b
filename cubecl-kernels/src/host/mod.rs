//! The operations on the CPU, fast: plain slices in, new vectors out, on rayon's global pool.
//!
//! Outputs are built without being zeroed first. Matrices are row-major and weights `[out, in]`. A
//! wrong length or index is a [`KernelError`](crate::KernelError), never a panic.

mod adamw;
pub mod all_to_all;
mod attention;
mod average;
mod buffer;
mod cross_entropy;
mod embedding;
mod gemm;
mod grouped_linear;
mod linear;
mod output;
mod parallel;
mod permute;
mod product;
mod quantize;
mod rms_norm;
mod rope;
mod rows;
mod simd;
mod stored;
mod sum;
mod swiglu;
mod team;

pub use adamw::{Moment, adamw, sum_of_squares};
pub use attention::{
    AttentionGradients, AttentionOutput, absorbed_attention, attention, attention_backward,
};
pub use average::average_into;
pub use cross_entropy::{
    CrossEntropy, LinearCrossEntropyGradients, cross_entropy, cross_entropy_with_gradient,
    linear_cross_entropy, linear_cross_entropy_with_gradients,
};
pub use embedding::{embedding, embedding_backward};
pub use gemm::{
    Choice, ColumnTiled, GemmPath, fp8_gemm_nt, fp8_gemm_nt_accumulate, fp8_gemm_nt_bf16,
    fp8_grouped_gemm_nt, fp8_grouped_gemm_nt_masked, fp8_grouped_wgrad_nt,
    fp8_grouped_wgrad_nt_accumulate, fp8_wgrad_nt, fp8_wgrad_nt_accumulate,
};
pub use grouped_linear::{
    grouped_linear, grouped_linear_input_gradient, grouped_linear_weight_gradient,
};
pub use linear::{linear, linear_accumulate, linear_input_gradient, linear_weight_gradient};
pub use parallel::in_pool;
pub use permute::{combine, combine_backward, gather_rows, gather_rows_backward};
pub use quantize::{
    Element, count_cast, dequantize_blocks, dequantize_columns, dequantize_e5m6, dequantize_rows,
    quantize_blocks, quantize_both, quantize_columns, quantize_columns_from_e5m6, quantize_e5m6,
    quantize_gathered, quantize_gathered_rows, quantize_rows, requantize_columns,
    swiglu_backward_from_codes, swiglu_quantize_columns, swiglu_quantize_columns_from_codes,
    swiglu_quantize_rows, swiglu_quantize_rows_and_input, swiglu_quantize_rows_from_codes,
};
pub use rms_norm::{RmsNorm, add_rms_norm, rms_norm, rms_norm_backward};
pub use rope::{rope, rope_backward};
pub use rows::join_rows;
pub use stored::{
    stored_embedding, stored_grouped_linear, stored_linear, stored_linear_cross_entropy, widen,
};
pub use sum::{sum, sum_into};
pub use swiglu::{swiglu, swiglu_backward};
