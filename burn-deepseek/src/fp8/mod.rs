//! FP8 for anybody's Burn program: checked functions on tensors, and layers that take the place of
//! linear ones (3.3).
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_deepseek::fp8::{self, QuantizeOptions};
//!
//! let device = Device::flex();
//! let x = Tensor::<2>::random([3, 200], Distribution::Default, &device);
//! let quantized = fp8::quantize_rows(&x, QuantizeOptions::default())?;
//! assert_eq!(quantized.scales().dims(), [3, 2]); // one scale for 128 values
//! let back = quantized.dequantize();
//! assert!((back - x).abs().max().into_scalar::<f32>() < 0.04); // E4M3 has 3 bits of mantissa
//! # Ok::<(), fp8::Fp8Error>(())
//! ```

mod error;
mod layers;
mod matrix;
#[cfg(test)]
mod tests;

pub use cubecl_kernels::definition::{
    Accumulation, Fp8Format, Granularity, QuantizeOptions, ScaleFormat,
};
pub use cubecl_kernels::metric::calc_diff;
pub use error::Fp8Error;
pub use layers::{Fp8GroupedLinear, Fp8GroupedLinearConfig, Fp8Linear, Fp8LinearConfig};
pub use matrix::{QuantizedRows, QuantizedWeight, matmul_nt, quantize_rows, quantize_weight};
