//! Products of FP8 matrices on a device: `C = A B^T` with tile-wise scales and promotion to FP32
//! (3.3.2).
//!
//! `path` and `plan` decide, `kernel`, `tensor_core`, `warpgroup` and `emulated` are device code,
//! `launch` checks and launches. [`grouped_gemm`](crate::grouped_gemm) has the experts' products;
//! both launch the same kernels.

mod emulated;
pub(crate) mod kernel;
mod launch;
pub(crate) mod operand;
mod path;
mod plan;
mod tensor_core;
mod warpgroup;

pub use kernel::TilePlan;
pub(crate) use launch::{Depth, Kind, Product};
pub use launch::{
    fp8_gemm_nt, fp8_gemm_nt_accumulate, fp8_gemm_nt_planned, fp8_wgrad_nt, fp8_wgrad_nt_accumulate,
};
pub use operand::{DeviceBlockTiled, DeviceRowTiled, ScaleTable};
pub use path::{ProductPath, Shortfall, product_path};
