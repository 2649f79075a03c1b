//! The operations in their plainest form and in f64: the oracle of every test.
//!
//! Loops in the order of the formula, no blocking, no threads. Lengths are taken on trust.

mod attention;
mod cross_entropy;
mod linear;
mod swiglu;

pub use attention::{attention, attention_backward};
pub use cross_entropy::{LinearCrossEntropy, cross_entropy, linear_cross_entropy};
pub use linear::{linear, linear_input_gradient, linear_weight_gradient};
pub use swiglu::{swiglu, swiglu_backward};
