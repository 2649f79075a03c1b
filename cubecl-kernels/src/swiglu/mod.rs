//! SwiGLU's elementwise part on a device (2.1.2), `silu(gate) * up`, and its gradient.

pub(crate) mod kernel;
mod launch;

pub use launch::{swiglu, swiglu_backward};
