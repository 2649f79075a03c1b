//! Products of FP8 matrices on a device: `C = A B^T` with tile-wise scales and promotion to FP32
//! (3.3.2).
//!
//! `product` checks the operands, `path` and `plan` decide, `trial` has the products that a path is
//! tried on, `kernel` is device code, `pad` makes operands fit the copy engine, `execute` launches
//! one of the kernels, and `launch` has the operations.
//! [`grouped_gemm`](crate::grouped_gemm) has the experts' products; both launch the same kernels.

mod execute;
mod kernel;
mod launch;
pub(crate) mod operand;
mod pad;
mod path;
mod plan;
pub(crate) mod product;
mod trial;

pub use crate::device::Shortfall;
pub use kernel::tiles::TilePlan;
pub use launch::{
    fp8_gemm_nt, fp8_gemm_nt_accumulate, fp8_gemm_nt_planned, fp8_wgrad_nt, fp8_wgrad_nt_accumulate,
};
pub use operand::{DeviceBlockTiled, DeviceRowTiled, ScaleTable};
pub use path::{ProductPath, product_path};
