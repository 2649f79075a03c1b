//! DeepSeek-V3's kernels: a plain reference and a fast host version.
//!
//! - [`definition`]: problem shapes and the error every operation returns;
//! - [`host`]: the operations on the CPU, fast, on plain slices;
//! - [`reference`](mod@reference): the same in the plainest form and in f64, the oracle of every test;
//! - [`metric`]: the one measure by which two results are compared.
//!
//! **Invariant:** nothing here depends on Burn.
//!
//! **Invariant:** a host operation gives the same bits whatever the number of threads: work is cut by shape alone, and every
//! reduction has a fixed order.

pub mod definition;
#[cfg(feature = "cube")]
pub mod gemm;
#[cfg(feature = "cube")]
pub mod grouped_gemm;
pub mod host;
pub mod metric;
#[cfg(feature = "cube")]
pub mod quantize;
pub mod reference;

#[cfg(test)]
mod test_inputs;

pub use definition::KernelError;
#[cfg(feature = "cube")]
#[allow(missing_docs)]
pub mod swiglu {
    use crate::KernelError;
    use cubecl::{client::Client, server::Handle};
    pub fn swiglu(_c: &Client, _g: &Handle, _r: usize, _i: usize) -> Result<Handle, KernelError> {
        todo!()
    }
    pub fn swiglu_backward(_c: &Client, _g: &Handle, _d: &Handle, _r: usize, _i: usize) -> Result<Handle, KernelError> {
        todo!()
    }
}
