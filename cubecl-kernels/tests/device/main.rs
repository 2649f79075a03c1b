//! The CubeCL kernels on a device that this machine has, against plain host forms.

#![allow(clippy::unwrap_used)] // a failed test is what it is for

mod all_to_all;
mod client;
mod counted;
mod e5m6;
mod embedding;
mod gemm;
mod grouped_linear;
mod linear;
mod oracle;
mod quantize;
mod route;
mod swiglu;
