//! The operations on the CPU, fast: plain slices in, new vectors out, on rayon's global pool.
//!
//! Outputs are built without being zeroed first. Matrices are row-major and weights `[out, in]`. A wrong length or index is a
//! [`KernelError`](crate::KernelError), never a panic.

mod attention;
mod cross_entropy;
mod gemm_view;
mod linear;
mod output;
mod parallel;
mod simd;
mod small_gemm;
mod swiglu;

pub use attention::{AttentionGradients, AttentionOutput, attention, attention_backward};
pub use cross_entropy::{
    CrossEntropy, LinearCrossEntropyGradients, cross_entropy, cross_entropy_with_gradient, linear_cross_entropy,
    linear_cross_entropy_with_gradients,
};
pub use linear::{linear, linear_accumulate, linear_input_gradient, linear_weight_gradient};
pub use swiglu::{swiglu, swiglu_backward};
