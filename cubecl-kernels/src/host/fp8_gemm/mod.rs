//! Products of FP8 matrices and of BF16 ones, on one engine.
//!
//! Every E4M3 and E5M2 value is exact in BF16, and every product of two in FP32. So codes are
//! decoded to BF16 while they are packed, and `vdpbf16ps` multiplies them at twice FP32's rate;
//! where that is missing they are decoded to FP32 ([`GemmPath`]).
//!
//! `dense` and `grouped` are the operations in FP8, `bf16` the products of numbers. `task` runs a
//! product: `plan` cuts it into blocks, `block` computes one, `kernel` is the tile in registers.
//! `source` is what a product reads; `pack` and `pack_avx512` (with `registers_avx512`) bring it
//! into the order in which the tile reads it, `right` says where that lies for the right operand,
//! `scratch` is the memory of it. `emulated` is the accumulator of few bits, `truncate` its
//! arithmetic.

mod bf16;
mod block;
mod dense;
mod emulated;
mod grouped;
mod kernel;
mod output;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_avx512;
mod path;
mod plan;
#[cfg(target_arch = "x86_64")]
mod registers_avx512;
mod right;
mod scratch;
mod source;
mod task;
#[cfg(test)]
mod tests;
mod truncate;

pub(crate) use bf16::{bf16_gemm, bf16_gemm_add, bf16_grouped_gemm};
pub use dense::{
    fp8_gemm_nt, fp8_gemm_nt_accumulate, fp8_gemm_nt_bf16, fp8_wgrad_nt, fp8_wgrad_nt_accumulate,
};
pub use grouped::{
    ColumnTiled, fp8_grouped_gemm_nt, fp8_grouped_gemm_nt_masked, fp8_grouped_wgrad_nt,
    fp8_grouped_wgrad_nt_accumulate,
};
pub use path::GemmPath;
pub(crate) use source::Floats;
