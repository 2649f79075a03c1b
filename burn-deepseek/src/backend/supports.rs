//! Which operations a device has kernels for: the only place that chooses between the fused and the
//! composed form. (The average of weights, which lies in host memory wherever they are, asks
//! `is_in_host_memory`.)

use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};

use cubecl_kernels::host::{Choice, GemmPath};

use super::operations::{FusedOp, Supported};

/// Whether this process composes every operation.
static COMPOSE_ALL: AtomicBool = AtomicBool::new(false);

/// Composes every operation of Burn's own from now on, in the whole process and for good: what the
/// fused forms are compared with. There is no FP8 then.
pub fn compose_all() {
    COMPOSE_ALL.store(true, Ordering::Relaxed);
}

/// Whether the fused form of an operation exists for the device and type of `x`; without it the
/// operation is composed.
pub fn supports<const D: usize>(operation: FusedOp, x: &Tensor<D>) -> bool {
    supported(x.device().as_dispatch()).has(operation, x.dtype())
}

/// Whether the FP8 operations exist on a device: Flex, every runtime of CubeCL, and the devices of
/// a server that serves them.
pub fn supports_fp8(device: &Device) -> bool {
    supported(device.as_dispatch()).has(FusedOp::Fp8, DType::F32)
}

/// Whether a device chooses experts itself and has counted their rows: every runtime of CubeCL, and
/// the devices of a server that serves them.
pub fn supports_route(device: &Device) -> bool {
    supported(device.as_dispatch()).has(FusedOp::Route, DType::F32)
}

/// Whether products of three BF16 parts are ahead of FP32 ones on a device, as far as is known: on
/// Flex, where the processor's tile unit computes.
pub fn supports_bf16x3(device: &Device) -> bool {
    let tiles = |choice: Choice| matches!(choice.path, GemmPath::Amx | GemmPath::AmxEmulated);
    is_host(device.as_dispatch()) && GemmPath::choice().is_ok_and(tiles)
}

/// Which path E4M3 products take on a device of CubeCL and why no faster one: a part of a sentence;
/// none of any other device. The first call for a device tries its paths.
pub fn fp8_products(device: &Device) -> Option<String> {
    products(device.as_dispatch())
}

fn products(device: &DispatchDevice) -> Option<String> {
    match device {
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(device) => {
            Some(cubecl_kernels::gemm::product_path(&device.client()).to_string())
        }
        DispatchDevice::Autodiff(device) => products(device),
        #[allow(unreachable_patterns)] // the other backends are features
        _ => None,
    }
}

/// The operations that a device has kernels for.
pub(super) fn supported(device: &DispatchDevice) -> Supported {
    match device {
        _ if COMPOSE_ALL.load(Ordering::Relaxed) => Supported::default(),
        DispatchDevice::Flex(_) => Supported::FLEX,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(burn_cubecl::CubeDevice::Cuda(_)) => Supported::CUDA,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(device @ burn_cubecl::CubeDevice::Wgpu(_)) => without_tiles(device),
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => Supported::CUBE,
        #[cfg(feature = "remote")]
        DispatchDevice::Remote(device) => super::remote::served(device),
        DispatchDevice::Autodiff(device) => supported(device),
        #[allow(unreachable_patterns)] // the other backends are features
        _ => Supported::default(),
    }
}

/// What a device has whose matrix instructions, if any, are out of reach.
#[cfg(feature = "cube")]
fn without_tiles(device: &burn_cubecl::CubeDevice) -> Supported {
    if cubecl_kernels::device::is_software(&device.client()) {
        Supported::SOFTWARE
    } else {
        Supported::PLAIN
    }
}

/// Whether a device is the memory of this process.
pub(super) fn is_host(device: &DispatchDevice) -> bool {
    match device {
        DispatchDevice::Flex(_) => true,
        DispatchDevice::Autodiff(device) => is_host(device),
        #[allow(unreachable_patterns)] // the other backends are features
        _ => false,
    }
}
