//! Products of experts on a device, one launch for all of them (2.1.2, 3.4.2): rows of experts one
//! after another, room for some rows of each, and weight gradients summed along each expert's rows.
//!
//! Cubes find their expert in a table on the device; the kernels are [`gemm`](crate::gemm)'s.

mod launch;

pub use crate::gemm::operand::DeviceColumnTiled;
pub use launch::{
    fp8_grouped_gemm_nt, fp8_grouped_gemm_nt_masked, fp8_grouped_wgrad_nt,
    fp8_grouped_wgrad_nt_accumulate,
};
