//! DeepSeek-V3's kernels: a plain reference, a fast host version, and for FP8 a version in CubeCL.
//!
//! - [`definition`]: problem shapes and the error every operation returns;
//! - [`host`]: the operations on the CPU, fast, on plain slices;
//! - [`reference`](mod@reference): the same in the plainest form and in f64, the oracle of every
//!   test;
//! - `quantize`, `gemm`, `grouped_gemm`, `swiglu`, `all_to_all` (feature `cube`): FP8 on CubeCL's
//!   runtimes, on a client and its buffers;
//! - [`metric`]: the one measure by which two results are compared.
//!
//! **Invariant:** nothing here depends on Burn.
//!
//! **Invariant:** a host operation gives the same bits whatever the number of threads: work is cut
//! by shape alone, and every reduction has a fixed order.

#[cfg(feature = "cube")]
pub mod all_to_all;
pub mod definition;
#[cfg(feature = "cube")]
pub mod device;
#[cfg(feature = "cube")]
pub mod gemm;
#[cfg(feature = "cube")]
pub mod grouped_gemm;
pub mod host;
pub mod metric;
#[cfg(feature = "cube")]
pub mod quantize;
pub mod reference;
#[cfg(feature = "cube")]
pub mod swiglu;

#[cfg(test)]
mod test_inputs;

pub use definition::KernelError;
