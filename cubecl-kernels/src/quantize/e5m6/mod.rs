//! E5M6 on a device: 12-bit codes without gaps, for the input of the linear after attention
//! (3.3.3).

mod kernel;
mod launch;

pub use launch::{dequantize_e5m6, quantize_e5m6};
