//! The devices that this build of the tests reaches.

use burn::tensor::Device;

/// wgpu's, shared by threads.
#[cfg(feature = "wgpu")]
pub fn wgpu() -> Device {
    share_streams();
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn share_streams() {
    burn_deepseek::backend::share_streams().expect("invariant: tests take their devices from here");
}

/// Every device to test on, by name. wgpu is there with the `wgpu` feature, on a software driver
/// where there is no GPU.
pub fn all() -> Vec<(&'static str, Device)> {
    let mut devices = vec![("flex", Device::flex())];
    #[cfg(feature = "wgpu")]
    devices.push(("wgpu", wgpu()));
    #[cfg(feature = "cuda")]
    {
        share_streams();
        devices.push(("cuda", Device::cuda(0)));
    }
    devices.shrink_to_fit();
    devices
}
