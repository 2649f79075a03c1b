//! MLA's causal attention on a device (2.1.1), forward and backward, without a matrix of scores:
//! what a layer allocates and keeps grows with the length of the sequence, not with its square.
//!
//! Blocks of query rows meet blocks of keys, blocks that are masked are passed over, and the
//! softmax is kept running (FlashAttention's form). The rotated part of the keys is one row a
//! position for all heads, read where it lies. Sums have one order, so that the same inputs give
//! the same bits.

mod absorbed;
mod execute;
mod gradient;
mod kernel;
mod launch;
mod matrix;
mod plan;
mod planes;
mod tile;
mod trial;

pub use absorbed::absorbed_attention;
pub use execute::{DeviceAttention, DeviceAttentionGradients};
pub use launch::{attention, attention_backward};
pub use trial::attention_unit;
