//! Products of FP32 matrices on a device: FP32 in truth, for the router, whose choices the last bits
//! decide, and for whatever the precision table has in FP32; or rounded to BF16, where a device has
//! matrix instructions for that ([`matrix_product`](crate::matrix_product)).
//!
//! In FP32 frameworks let tensor cores round the operands of an FP32 product to TF32, ten bits of mantissa,
//! where a device has them. Here every product and every sum is one fused multiply-add in FP32, in
//! the order of the depth. On a device with shared memory of its own tiles go through that; in
//! software each unit loads for itself.

pub(crate) mod direct;
mod kernel;
mod launch;
pub(crate) mod operand;
mod plan;
mod planes;

pub use launch::{linear, linear_input_gradient, linear_weight_gradient};
