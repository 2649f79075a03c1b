//! Casts to FP8 and E5M6 and back (3.3): row tiles, column tiles (transposed), blocks, and SwiGLU
//! or rows by index with their cast in one pass.
//!
//! Every function here gives the bits of its plain form in [`reference`](mod@crate::reference), on
//! every instruction set.
//!
//! Work goes by *panels*, a few KiB of the matrix that stay in the cache, as [`cut`] divides it:
//! [`panel`] hands them out, from memory or computed on the way (BF16, SwiGLU, codes of another
//! tiling); [`amax`] finds the largest magnitudes; [`divisor`] turns them into scales; [`encode`]
//! makes codes of the panel; [`store`] puts them where they belong, transposed by [`turn`] where that
//! is wanted.

mod amax;
mod blocks;
mod coarse;
mod columns;
mod counts;
mod cut;
mod decode;
mod dequantize;
mod divisor;
mod e5m6;
mod encode;
mod format;
mod gathered;
mod panel;
mod rows;
mod store;
mod swiglu;
#[cfg(test)]
mod tests;
mod turn;

pub use blocks::quantize_blocks;
pub use columns::{quantize_both, quantize_columns};
pub use counts::count_cast;
pub(super) use decode::e4m3_value;
pub use dequantize::{dequantize_blocks, dequantize_columns, dequantize_rows, requantize_columns};
pub use e5m6::{dequantize_e5m6, quantize_columns_from_e5m6, quantize_e5m6};
pub(super) use gathered::{Gathered, pack_fp8};
pub use gathered::{quantize_gathered, quantize_gathered_rows};
pub use panel::Element;
pub(super) use panel::Source;
pub use rows::quantize_rows;
pub use swiglu::{
    swiglu_backward_from_codes, swiglu_quantize_columns, swiglu_quantize_columns_from_codes,
    swiglu_quantize_rows, swiglu_quantize_rows_and_input, swiglu_quantize_rows_from_codes,
};
