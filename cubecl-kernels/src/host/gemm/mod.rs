//! Products of FP8 matrices, of BF16 ones and of FP32 ones, on one engine.
//!
//! Every E4M3 and E5M2 value is exact in BF16, and every product of two in FP32. So codes are
//! decoded to BF16 while they are packed, and a tile unit (AMX) multiplies them at many times
//! FP32's rate, or `vdpbf16ps` at twice; where neither is there, or slow, they are decoded to FP32,
//! times their scales ([`GemmPath`]): the product is then an FP32 one, whose sums need no promotion
//! (3.3.2) because no unit cuts their bits. FP32 products are the same with words that nothing rounds.
//!
//! `dense` and `grouped` are the operations in FP8, `numbers` the products of numbers. `task` runs
//! a product: `plan` cuts it into blocks, `dispatch` has the path's instruction set compute one by
//! `block`, `kernel` is what that asks of a microkernel: `vectors`, whose tile is `register_tile`,
//! of the words that `lanes` has for each instruction set, or `tiled`, that of a tile unit, which is
//! `tile_unit`. `source` is what a product reads; `pack` is what brings it into the order in which a
//! tile reads it: `pack_words` into FP32 words (by `decode_words`), `pack_pairs` into BF16 pairs (with
//! `pack_avx512` and `registers_avx512`). `left` and `right` say where that lies, `packed` is a
//! right operand that is packed once for many, `scratch` is the memory of it, and `ahead` asks for
//! what is packed next. `path` has the microkernels' names, `choice` (by `rates`) takes one, `route`
//! another one for few rows, and `peak` says what each is worth at best. `emulated` is the
//! accumulator of few bits, `truncate` its arithmetic. `view` has FP32 products of strided views,
//! and `few_rows` those that read the right operand where it lies.

mod ahead;
mod block;
mod choice;
mod decode_words;
mod dense;
mod dispatch;
mod emulated;
mod few_rows;
mod grouped;
mod kernel;
mod lanes;
mod left;
mod numbers;
mod output;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_avx512;
mod pack_pairs;
mod pack_words;
mod packed;
mod path;
mod peak;
mod plan;
#[cfg(target_arch = "x86_64")]
mod rates;
mod register_tile;
#[cfg(target_arch = "x86_64")]
mod registers_avx512;
mod right;
mod route;
mod scratch;
mod source;
mod task;
mod terms;
#[cfg(test)]
mod tests;
mod tile_unit;
mod tiled;
mod truncate;
mod vectors;
mod view;

pub use choice::Choice;
pub use dense::{
    fp8_gemm_nt, fp8_gemm_nt_accumulate, fp8_gemm_nt_bf16, fp8_wgrad_nt, fp8_wgrad_nt_accumulate,
};
pub(crate) use few_rows::{MAX_ROWS, rows_nt, stored_rows_nt, widened};
pub use grouped::{
    ColumnTiled, fp8_grouped_gemm_nt, fp8_grouped_gemm_nt_masked, fp8_grouped_wgrad_nt,
    fp8_grouped_wgrad_nt_accumulate,
};
pub(crate) use numbers::{Prepared, bf16_takes_words, gemm_nt, gemm_nt_add, grouped_gemm_nt};
pub use path::GemmPath;
pub(crate) use source::{Floats, Taken};
pub(crate) use view::{Mat, MatMut, gemm, gemm_add};
