//! The fused operations on CubeCL's runtimes: none has a kernel yet, and all are composed there.
//!
//! A kernel goes in here as a method; once an operation has all of its kernels, its name goes into
//! `Supported::CUBE`.

use burn_cubecl::CubeBackend;

use super::kernels::FusedKernels;

impl FusedKernels for CubeBackend {}
