// The operations of DeepSeek-V3 without a framework; what there is, is in the README.
#![doc = include_str!("../README.md")]
//!
//! # Invariants
//!
//! **Invariant:** nothing here depends on Burn.
//!
//! **Invariant:** a host operation gives the same bits whatever the number of threads: work is cut
//! by shape alone, and every reduction has a fixed order.

#[cfg(feature = "cube")]
pub mod adamw;
#[cfg(feature = "cube")]
pub mod all_to_all;
#[cfg(feature = "cube")]
pub mod attention;
#[cfg(feature = "cube")]
pub mod cross_entropy;
pub mod definition;
#[cfg(feature = "cube")]
pub mod device;
#[cfg(feature = "cube")]
pub mod embedding;
#[cfg(feature = "cube")]
pub mod gemm;
#[cfg(feature = "cube")]
pub mod grouped_gemm;
#[cfg(feature = "cube")]
pub mod grouped_linear;
pub mod host;
#[cfg(feature = "cube")]
pub mod linear;
#[cfg(feature = "cube")]
pub mod matrix_product;
pub mod metric;
#[cfg(feature = "cube")]
pub mod quantize;
pub mod reference;
#[cfg(feature = "cube")]
pub mod rms_norm;
#[cfg(feature = "cube")]
pub mod rope;
#[cfg(feature = "cube")]
pub mod route;
#[cfg(feature = "cube")]
pub mod swiglu;

#[cfg(test)]
mod test_inputs;

pub use definition::KernelError;
