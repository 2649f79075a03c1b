//! The gradient of an embedding table on a device (2.1): the sum of the gradients of each token's
//! rows, in the order of the rows, whatever the device.
//!
//! Looking rows up is a gather, which every framework has. Its gradient is not: one unit a column
//! that goes from row to row, as a framework does it, waits for each row's memory in turn.

mod kernel;
mod launch;

pub use launch::embedding_backward;
