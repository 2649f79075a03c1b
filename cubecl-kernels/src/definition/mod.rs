//! Problem shapes, number formats and the error of every operation.

mod cast;
mod dispatch;
mod error;
mod fp8;
mod minifloat;
mod operand;
mod quantized;
mod route;
mod shape;
mod stored;
mod wire;

pub use cast::{CastCounts, CastLayout};
pub use dispatch::{ArrivalPlan, DispatchPlan};
pub use error::KernelError;
pub(crate) use error::{check_length, element_count};
#[cfg(feature = "cube")]
pub(crate) use fp8::most_pieces;
pub use fp8::{
    AMAX_FLOOR, Accumulation, CODES_A_WORD, Fp8Format, Granularity, GroupedColumns,
    QuantizeOptions, ScaleFormat, TILE, tiles, words,
};
pub use minifloat::{
    decode_e5m6, decode_fp8, e5m6_multiplier, encode_e5m6, encode_fp8, power_of_two_scale, scale_of,
};
pub(crate) use operand::OperandView;
pub use operand::{BlockScales, BlockTiled, RowTiled};
pub use quantized::{E5M6_BITS, E5M6_MAX, E5m6, Quantized, QuantizedBlocks, e5m6_words};
pub use route::{GroupScore, RouteShape};
pub(crate) use shape::check_offsets;
pub use shape::{
    AdamWConfig, AttentionOptions, AttentionShape, GroupedLinearShape, LinearShape, PermuteShape,
    ProductFormat, RopeLayout, RopeShape,
};
pub(crate) use stored::StoredPart;
pub use stored::{StoredMatrix, StoredRows};
pub use wire::{RowSums, TransposedSums, WireFormat};
pub(crate) use wire::{check_index, scale_byte, scale_from_exponent};
