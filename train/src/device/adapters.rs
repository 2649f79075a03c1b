//! The devices of a backend, and which of them are programs that only pretend to be a GPU.

use burn::tensor::Device;
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
use burn::tensor::DeviceKind;
#[cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "cuda",
    feature = "rocm",
    feature = "cpu"
))]
use burn::tensor::DeviceType;

use super::backend::GpuBackend;

/// A device that a backend found, not opened yet.
pub(super) struct Adapter {
    /// The device.
    pub(super) device: Device,
    /// What wgpu says it is.
    pub(super) kind: Option<&'static str>,
    /// Whether it is a program on the CPU.
    pub(super) software: bool,
}

/// What `backend` finds on this machine, in its own order; `None` where it was not built.
pub(super) fn enumerate(backend: GpuBackend) -> Option<Vec<Adapter>> {
    match backend {
        #[cfg(feature = "cuda")]
        GpuBackend::Cuda => Some(plain(DeviceType::Cuda, false)),
        #[cfg(feature = "rocm")]
        GpuBackend::Rocm => Some(plain(DeviceType::Rocm, false)),
        #[cfg(feature = "cpu")]
        GpuBackend::Cpu => Some(plain(DeviceType::Cpu, true)),
        #[cfg(feature = "metal")]
        GpuBackend::Metal => Some(graphics(DeviceType::Metal, Device::metal)),
        #[cfg(feature = "vulkan")]
        GpuBackend::Vulkan => Some(graphics(DeviceType::Vulkan, Device::vulkan)),
        #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
        GpuBackend::Wgpu => Some(graphics(DeviceType::Wgpu, Device::wgpu)),
        #[allow(unreachable_patterns)]
        _ => None,
    }
}

#[cfg(any(feature = "cuda", feature = "rocm", feature = "cpu"))]
fn plain(device_type: DeviceType, software: bool) -> Vec<Adapter> {
    let devices = Device::enumerate(device_type).into_vec();
    devices.into_iter().map(|device| Adapter { device, kind: None, software }).collect()
}

/// The adapters of a graphics API. Their kind is found by comparison, which opens none of them.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
fn graphics(device_type: DeviceType, of_kind: fn(DeviceKind) -> Device) -> Vec<Adapter> {
    let devices = Device::enumerate(device_type).into_vec();
    let most = devices.len();
    let kind_of = |device: &Device| {
        let is =
            |kind: fn(usize) -> DeviceKind| (0..most).any(|index| *device == of_kind(kind(index)));
        if *device == of_kind(DeviceKind::Cpu) {
            "software renderer"
        } else if is(DeviceKind::DiscreteGpu) {
            "discrete GPU"
        } else if is(DeviceKind::IntegratedGpu) {
            "integrated GPU"
        } else if is(DeviceKind::VirtualGpu) {
            "virtual GPU"
        } else {
            "adapter of unknown kind"
        }
    };
    let adapter = |device: Device| {
        let kind = kind_of(&device);
        Adapter { device, kind: Some(kind), software: kind == "software renderer" }
    };
    devices.into_iter().map(adapter).collect()
}

/// Whether the device, opened, calls itself by the name of a software renderer: some virtual GPUs
/// are one underneath.
#[cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "cuda",
    feature = "rocm",
    feature = "cpu"
))]
pub(super) fn is_software_by_name(device: &Device) -> bool {
    device.identity().is_some_and(|identity| names_software(&identity.name))
}

/// Without a GPU backend there is no device to ask.
#[cfg(not(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "cuda",
    feature = "rocm",
    feature = "cpu"
)))]
pub(super) fn is_software_by_name(_: &Device) -> bool {
    true
}

/// Whether `name` is that of a software renderer.
#[cfg_attr(not(feature = "wgpu"), allow(dead_code))]
pub(super) fn names_software(name: &str) -> bool {
    let name = name.to_lowercase();
    ["llvmpipe", "lavapipe", "softpipe", "swiftshader", "basic render", "software"]
        .iter()
        .any(|software| name.contains(software))
}
