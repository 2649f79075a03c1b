//! FP8 casts on a device (3.3): row tiles, column tiles, both in one read, 128x128 blocks, and
//! back; E5M6 in row tiles.
//!
//! What is written is the layout of [`definition`](crate::definition), and codes and scales are
//! bit-equal to [`encode_fp8`](crate::definition::encode_fp8) and
//! [`scale_of`](crate::definition::scale_of) on every runtime. `plan` decides, `kernel` is device
//! code, `source` checks what a cast reads and launches it, for `launch`, `gated` (SwiGLU's result)
//! and `gathered` (rows by index), as cubes or, on a software renderer, as `planes`; `dequantize` is
//! the way back.
//!
//! Handles are as [`device`](crate::device) says.

mod dequantize;
mod e5m6;
mod gated;
mod gathered;
mod kernel;
mod launch;
mod plan;
mod planes;
mod quantized;
mod source;

pub use dequantize::{dequantize_blocks, dequantize_columns, dequantize_rows};
pub use e5m6::{dequantize_e5m6, quantize_e5m6};
pub use gated::{quantize_swiglu_columns, quantize_swiglu_rows};
pub use gathered::{quantize_gathered, quantize_gathered_rows};
pub use launch::{quantize_blocks, quantize_both, quantize_columns, quantize_rows};
pub use quantized::{DeviceBlocks, DeviceCodes};
