//! The linears of experts in FP32 on a device (2.1.2), one launch for all of them: the sums are in
//! FP32 in the order of the summed dimension, whatever the device.
//!
//! Cubes find their expert in a table on the device, so that nobody has to know on the host how many
//! rows an expert has.

mod kernel;
mod launch;
mod plan;
mod planes;
mod problem;

pub use launch::{grouped_linear, grouped_linear_input_gradient, grouped_linear_weight_gradient};
