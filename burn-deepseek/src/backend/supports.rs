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

/// Which path E4M3 products and casts take on a device of CubeCL and why no faster one: a part of a
/// sentence; none of any other device. The first call for a device tries its paths.
pub fn fp8_products(device: &Device) -> Option<String> {
    products(device.as_dispatch(), Narrow::Fp8)
}

/// What computes BF16 products on a device of CubeCL, and why it is not BF16 where it is not: a part
/// of a sentence; none of any other device. The first call for a device tries its matrix unit.
pub fn bf16_products(device: &Device) -> Option<String> {
    products(device.as_dispatch(), Narrow::Bf16)
}

/// A format whose products have paths on a device.
#[derive(Clone, Copy)]
enum Narrow {
    Bf16,
    Fp8,
}

fn products(device: &DispatchDevice, format: Narrow) -> Option<String> {
    match device {
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(device) => Some(path(&device.client(), format)),
        DispatchDevice::Autodiff(device) => products(device, format),
        #[allow(unreachable_patterns)] // the other backends are features
        _ => None,
    }
}

#[cfg(feature = "cube")]
fn path(client: &cubecl::client::Client, format: Narrow) -> String {
    match format {
        Narrow::Fp8 => {
            let casts = cubecl_kernels::device::cast_path(client);
            format!("{}; casts by {casts}", cubecl_kernels::gemm::product_path(client))
        }
        Narrow::Bf16 => match cubecl_kernels::device::matrix_unit(client) {
            Ok(_) => {
                let products = match cubecl_kernels::matrix_product::warpgroups(client) {
                    Ok(()) => "tensor cores, large products by wgmma, others by mma".to_owned(),
                    Err(shortfall) => format!("tensor cores by mma (wgmma: {shortfall})"),
                };
                match cubecl_kernels::attention::attention_unit(client) {
                    Ok(_) => products,
                    Err(shortfall) => format!("{products}; attention in FP32 ({shortfall})"),
                }
            }
            Err(shortfall) => format!("FP32 in its place ({shortfall})"),
        },
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
