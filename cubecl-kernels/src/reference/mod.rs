//! The operations in their plainest form and in f64: the oracle of every test.
//!
//! Loops in the order of the formula, no blocking, no threads. Lengths are taken on trust.

mod adamw;
pub mod all_to_all;
mod attention;
mod average;
mod cross_entropy;
mod embedding;
mod fp8_gemm;
mod grouped_linear;
mod linear;
mod permute;
mod quantize;
mod rms_norm;
mod rope;
mod route;
mod stored;
mod swiglu;

pub use adamw::adamw;
pub use attention::{attention, attention_backward};
pub use average::average_into;
pub use cross_entropy::{LinearCrossEntropy, cross_entropy, linear_cross_entropy};
pub use embedding::{embedding, embedding_backward};
pub use fp8_gemm::{
    dequantize_block_tiled, dequantize_row_tiled, fp8_gemm_nt, fp8_gemm_nt_emulated, fp8_wgrad_nt,
    fp8_wgrad_nt_emulated,
};
pub use grouped_linear::grouped_linear;
pub use linear::{linear, linear_input_gradient, linear_weight_gradient};
pub use permute::{combine, combine_backward};
pub use quantize::{
    dequantize_blocks, dequantize_columns, dequantize_e5m6, dequantize_rows, quantize_blocks,
    quantize_columns, quantize_e5m6, quantize_rows,
};
pub use rms_norm::{rms_norm, rms_norm_backward};
pub use rope::rope;
pub use route::route;
pub use stored::widen;
pub use swiglu::{swiglu, swiglu_backward};
