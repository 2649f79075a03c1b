//! The backend extension: the model's operations as one call each, with hand-written backward
//! passes.
//!
//! An operation goes through these layers, and is a row in two of them:
//!
//! - [`FusedOps`] (`fused`) is what [`crate::ops`] calls through Burn's dispatch where
//!   [`supports`] says so: a row for each operation, with its forward pass. The autodiff decorator
//!   (`autodiff`) adds the backward pass.
//! - [`FusedKernels`] (`kernels`) is the table of the kernels that these are made of, forward and
//!   backward, on tensors without autodiff. `table` makes a trait of it that Burn's dispatch and
//!   the fusion decorator know; `remote` makes both sides of its protocol of the same rows.
//! - `flex` and `cube` are backends: the kernels of `cubecl_kernels` on their tensors, and in
//!   `operations` the set of what they have. An operation that a device lacks takes the composed
//!   form there ([`crate::ops::composed`]), and the others stay fused.
//!
//! [`fp8`] has its own table and its own differentiable linears, `wire` a table alone.

mod autodiff;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "cube")]
mod cube_tensor;
#[cfg(all(test, feature = "wgpu"))]
mod cube_tests;
mod deferred;
mod flex;
mod flex_tensor;
pub mod fp8;
mod function;
mod fused;
#[cfg(all(test, feature = "wgpu"))]
mod fusion_tests;
mod kernels;
mod launches;
mod operations;
#[cfg(feature = "remote")]
pub mod remote;
#[cfg(any(feature = "cube", feature = "remote"))]
mod results;
pub(crate) mod stored;
mod streams;
mod supports;
mod table;
mod tensors;
mod transfer;
mod wire;
#[cfg(feature = "cube")]
mod with_fusion;

pub use cubecl_kernels::host::{Choice, GemmPath};
pub use deferred::{DeferredWeight, WeightGradientQueue};
pub use function::{FunctionOps, InputGradient};
pub use fused::{FusedOps, PlainLinear};
pub use kernels::{
    AdamWOutput, AttentionGradients, AttentionOutput, CombineGradients, FusedKernels, HeadLoss,
    NormGradients, NormOutput, RoutedTokens, RowTables,
};
pub use launches::LaunchCount;
pub use operations::FusedOp;
pub use streams::{SeveralStreams, share_streams};
pub use supports::{
    bf16_products, compose_all, fp8_products, supports, supports_bf16x3, supports_fp8,
    supports_route,
};
pub use table::WithoutAutodiff;
pub(crate) use transfer::moved;
pub use wire::WireKernels;

use burn::backend::Flex;
use burn::tensor::{DType, Device, Tensor};

use self::flex_tensor::Contiguous;
use self::supports::is_host;

/// Whether the values of `x` are FP32 in the memory of this process.
pub(crate) fn is_in_host_memory<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_host(x.device().as_dispatch())
}

/// Runs `work` where operations on `device` run, and waits for it: for Flex on a thread of its
/// operations' pool ([`cubecl_kernels::host::in_pool`]), for any other device on the calling
/// thread. A training step takes a tenth less time so. For decoding, whose operations are too small
/// to be cut up, it is a loss.
///
/// `work` must not wait for another thread that computes.
pub fn run_on<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    if is_host(device.as_dispatch()) { cubecl_kernels::host::in_pool(work) } else { work() }
}

/// [`crate::ops::average_into`] for an average that [`is_in_host_memory`], in place where nobody
/// else holds it.
///
/// Not an operation of [`FusedOps`]: the average lies in host memory wherever the value comes from.
pub(crate) fn average_into(average: Tensor<1>, value: Tensor<1>, rate: f64) -> Tensor<1> {
    const ON_HOST: &str = "invariant: the tensor is on Flex, without autodiff";
    let value = if is_in_host_memory(&value) {
        value
    } else {
        Tensor::from_data(value.into_data().convert::<f32>(), &average.device())
    };
    let value = value.try_into_primitive::<Flex>().expect(ON_HOST);
    let mut average = flex_tensor::whole(average.try_into_primitive::<Flex>().expect(ON_HOST));
    cubecl_kernels::host::average_into(
        average.storage_mut(),
        Contiguous::new(value).floats(),
        rate as f32,
    )
    .unwrap_or_else(|error| panic!("{error}"));
    Tensor::from_primitive::<Flex>(average)
}

/// The device of the tests that need one of CubeCL's.
#[cfg(all(test, feature = "wgpu"))]
pub(crate) fn test_gpu() -> Device {
    share_streams().expect("no test uses a device before");
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}
