//! The operations on the CPU, fast: plain slices in, new vectors out, on rayon's global pool.
//!
//! Outputs are built without being zeroed first. Matrices are row-major and weights `[out, in]`. A wrong length or index is a
//! [`KernelError`](crate::KernelError), never a panic.

mod attention;
mod gemm_view;
mod linear;
mod output;
mod parallel;
mod simd;
mod small_gemm;

pub use attention::{AttentionGradients, AttentionOutput, attention, attention_backward};
pub use linear::{linear, linear_accumulate, linear_input_gradient, linear_weight_gradient};
