//! Products of FP8 matrices and of BF16 ones, on one engine.
//!
//! Every E4M3 and E5M2 value is exact in BF16, and every product of two in FP32. So codes are
//! decoded to BF16 while they are packed, and a tile unit (AMX) multiplies them at many times
//! FP32's rate, or `vdpbf16ps` at twice; where neither is there, or slow, they are decoded to FP32
//! ([`GemmPath`]).
//!
//! `dense` and `grouped` are the operations in FP8, `bf16` the products of numbers. `task` runs a
//! product: `plan` cuts it into blocks, `block` computes one, `kernel` is what that asks of a
//! microkernel: `vectors`, a tile in registers, which `lanes` has for each instruction set, or
//! `tiled`, that of a tile unit, which is `tile_unit`. `source` is what a product reads; `pack`,
//! and `pack_pairs` with `pack_avx512` and `registers_avx512`, bring it into the order in which the
//! tile reads it, `left` and `right` say where that lies, `scratch` is the memory of it. `path` has
//! the microkernels' names, `choice` (by `rates`) takes one, `route` another one for few rows, and
//! `peak` says what each is worth at best. `emulated` is the accumulator of few bits, `truncate` its
//! arithmetic.

mod bf16;
mod block;
mod choice;
mod dense;
mod emulated;
mod grouped;
mod kernel;
mod lanes;
mod left;
mod output;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_avx512;
mod pack_pairs;
mod path;
mod peak;
mod plan;
#[cfg(target_arch = "x86_64")]
mod rates;
#[cfg(target_arch = "x86_64")]
mod registers_avx512;
mod right;
mod route;
mod scratch;
mod source;
mod task;
#[cfg(test)]
mod tests;
mod tile_unit;
mod tiled;
mod truncate;
mod vectors;

pub(crate) use bf16::{bf16_gemm, bf16_gemm_add, bf16_grouped_gemm};
pub use choice::Choice;
pub use dense::{
    fp8_gemm_nt, fp8_gemm_nt_accumulate, fp8_gemm_nt_bf16, fp8_wgrad_nt, fp8_wgrad_nt_accumulate,
};
pub use grouped::{
    ColumnTiled, fp8_grouped_gemm_nt, fp8_grouped_gemm_nt_masked, fp8_grouped_wgrad_nt,
    fp8_grouped_wgrad_nt_accumulate,
};
pub use path::GemmPath;
pub(crate) use source::Floats;
