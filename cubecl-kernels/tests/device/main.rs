//! The CubeCL kernels on a device that this machine has, against plain host forms.

#![allow(clippy::unwrap_used)] // a failed test is what it is for

mod adamw;
mod all_to_all;
mod attention;
mod client;
mod counted;
mod cross_entropy;
mod e5m6;
mod embedding;
mod gathered;
mod gemm;
mod grouped_linear;
mod linear;
mod matrix_product;
mod oracle;
mod quantize;
mod rms_norm;
mod rope;
mod route;
mod swiglu;
