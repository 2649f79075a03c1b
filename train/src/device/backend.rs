//! The backends that take a cargo feature.

use std::fmt;

/// A backend that takes a cargo feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuBackend {
    /// NVIDIA through CUDA.
    Cuda,
    /// AMD through HIP.
    Rocm,
    /// Apple through Metal.
    Metal,
    /// Any GPU through Vulkan and SPIR-V.
    Vulkan,
    /// Any GPU through wgpu and the graphics API that it finds.
    Wgpu,
    /// CubeCL's runtime for CPUs; never chosen by `auto`.
    Cpu,
}

/// Every backend; `auto` asks them in this order.
pub(super) const BACKENDS: [GpuBackend; 6] = [
    GpuBackend::Cuda,
    GpuBackend::Rocm,
    GpuBackend::Metal,
    GpuBackend::Vulkan,
    GpuBackend::Wgpu,
    GpuBackend::Cpu,
];

impl GpuBackend {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
            Self::Cpu => "cpu",
        }
    }
}

impl fmt::Display for GpuBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
