//! Problem shapes and the error of every operation.

mod error;
mod shape;

pub use error::KernelError;
pub(crate) use error::{check_length, element_count};
pub use shape::{AdamWConfig, AttentionShape, RopeLayout, RopeShape};
