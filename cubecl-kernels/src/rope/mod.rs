//! Rotary positions on a device (Su et al., 2021, arXiv 2104.09864; 2.1.1), and their gradient.

mod kernel;
mod launch;

pub use launch::{rope, rope_backward};
