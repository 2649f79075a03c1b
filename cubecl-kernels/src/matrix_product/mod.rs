//! Products of BF16 on a device with matrix instructions: `C (+)= A B^T` of operands that are FP32
//! in memory and rounded to BF16, with sums in FP32, dense and by expert. What that means is what
//! BF16 means on the host ([`ProductFormat::Bf16`](crate::definition::ProductFormat::Bf16)).
//!
//! [`linear`](crate::linear), [`grouped_linear`](crate::grouped_linear) and
//! [`cross_entropy`](crate::cross_entropy) take a [`LinearPath`], and launch this where it says so.

mod kernel;
mod launch;
mod pairs;
mod path;
mod plan;
mod warpgroup;

pub(crate) use launch::{Groups, Matrix, Target, multiply};
pub use path::warpgroups;
pub use plan::LinearPath;
