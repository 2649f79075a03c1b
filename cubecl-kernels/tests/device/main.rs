//! The CubeCL kernels on a device that this machine has, against plain host forms.

mod client;
mod gemm;
mod oracle;
mod quantize;
