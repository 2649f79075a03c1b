//! The devices that this build of the tests reaches.

use burn::tensor::Device;

/// Every device to test on, by name. wgpu is there with the `wgpu` feature, on a software driver where there is no GPU.
pub fn all() -> Vec<(&'static str, Device)> {
    let mut devices = vec![("flex", Device::flex())];
    #[cfg(feature = "wgpu")]
    devices.push(("wgpu", Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)));
    #[cfg(feature = "cuda")]
    devices.push(("cuda", Device::cuda(0)));
    devices.shrink_to_fit();
    devices
}
