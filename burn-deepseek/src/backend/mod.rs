//! The backend extension: the model's operations as one call each, with hand-written backward
//! passes.
//!
//! [`FusedOps`] is what the model calls through Burn's dispatch; [`FusedKernels`] is what a backend
//! implements for it, forward and backward, on its own primitives. The autodiff decorator turns the
//! second into the first.
//!
//! Today the kernels are those of Flex, from `cubecl_kernels::host`. A device without them takes
//! the composed form ([`crate::ops::composed`]); [`supports`] is where that is decided. A device of
//! another process (`remote`) has what its server has.

mod autodiff;
mod deferred;
mod flex;
mod flex_tensor;
pub mod fp8;
mod function;
#[cfg(all(test, feature = "wgpu"))]
mod fusion_tests;
mod kernels;
#[cfg(feature = "remote")]
pub mod remote;
mod streams;
mod wire;
#[cfg(feature = "cube")]
mod with_fusion;

pub use deferred::{DeferredWeight, WeightGradientQueue};
pub use function::{FunctionOps, InputGradient};
pub use kernels::{AttentionOutput, FusedKernels, HeadLoss, HeadLossGradients, NormOutput};
pub use streams::{SeveralStreams, share_streams};
pub use wire::WireOps;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, DispatchDevice, ExtensionType, Flex, backend_extension};
use burn::tensor::kind::Basic;
use burn::tensor::{DType, Device, Tensor};

use cubecl_kernels::KernelError;

use self::flex_tensor::Contiguous;
use crate::definition::{AdamWScalars, ExpertGroups};
use crate::precision::{AttentionOptions, ProductFormat};

/// Whether the fused operations exist for the device and type of `x`: Flex in FP32, here or on a
/// server that serves them.
pub fn supports<const D: usize>(x: &Tensor<D>) -> bool {
    if x.dtype() != DType::F32 {
        return false;
    }
    let device = x.device();
    is_host(device.as_dispatch()) || is_served_fused(device.as_dispatch())
}

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

/// Whether the FP8 operations exist on a device: Flex, every runtime of CubeCL, and the devices of
/// a server that serves them.
pub fn supports_fp8(device: &Device) -> bool {
    let device = device.as_dispatch();
    is_host(device) || is_cube(device) || is_served_fp8(device)
}

#[cfg(feature = "cube")]
fn is_cube(device: &DispatchDevice) -> bool {
    match device {
        DispatchDevice::Cube(_) => true,
        DispatchDevice::Autodiff(device) => is_cube(device),
        _ => false,
    }
}

#[cfg(not(feature = "cube"))]
fn is_cube(_device: &DispatchDevice) -> bool {
    false
}

fn is_host(device: &DispatchDevice) -> bool {
    match device {
        DispatchDevice::Flex(_) => true,
        DispatchDevice::Autodiff(device) => is_host(device),
        #[allow(unreachable_patterns)] // the other backends are features
        _ => false,
    }
}

#[cfg(feature = "remote")]
use remote::{is_served_fp8, is_served_fused};

#[cfg(not(feature = "remote"))]
fn is_served_fused(_device: &DispatchDevice) -> bool {
    false
}

#[cfg(not(feature = "remote"))]
fn is_served_fp8(_device: &DispatchDevice) -> bool {
    false
}

/// A tensor without autodiff on another device: by Burn's own copy, except between servers that
/// could then wait for each other in a circle.
pub(crate) fn moved<const D: usize, K: Basic>(x: Tensor<D, K>, device: &Device) -> Tensor<D, K> {
    #[cfg(feature = "remote")]
    if remote::must_detour(x.device().as_dispatch(), device.as_dispatch()) {
        let dtype = x.dtype();
        return Tensor::from_data(x.into_data(), (device, dtype));
    }
    x.to_device(device)
}

/// What a kernel refuses is a mistake of the caller: shapes, which are made here, and tokens
/// outside the vocabulary, which are not. As with Burn's own operations that is a panic; its
/// message names the argument and the place.
fn done<T>(result: Result<T, KernelError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// Sum of the squares of all entries of a tensor that [`supports`] fused operations, in FP64.
///
/// Not an operation of [`FusedOps`]: those give tensors, and this is wanted as a number at once.
pub(crate) fn sum_of_squares<const D: usize>(x: Tensor<D>) -> f64 {
    let count = x.shape().num_elements();
    sums_of_squares(vec![x.reshape([count])]).into_iter().sum()
}

/// The same of each of several tensors of one device.
pub(crate) fn sums_of_squares(xs: Vec<Tensor<1>>) -> Vec<f64> {
    #[cfg(feature = "remote")]
    if xs.first().is_some_and(|x| is_served_fused(x.device().as_dispatch())) {
        return remote::sums_of_squares(xs);
    }
    let sum = |x: Tensor<1>| {
        let x = x
            .try_into_primitive::<Flex>()
            .expect("invariant: the tensor is on Flex, without autodiff");
        cubecl_kernels::host::sum_of_squares(Contiguous::new(&x).floats())
    };
    xs.into_iter().map(sum).collect()
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
        Contiguous::new(&value).floats(),
        rate as f32,
    )
    .unwrap_or_else(|error| panic!("{error}"));
    Tensor::from_primitive::<Flex>(average)
}

/// A flat parameter and its two moments after an optimizer step.
#[derive(ExtensionType, Debug)]
pub struct AdamWOutput<B: Backend> {
    /// The parameter, `[n]`.
    pub value: FloatTensor<B>,
    /// First moment, `[n]`.
    pub first: FloatTensor<B>,
    /// Second moment, `[n]`.
    pub second: FloatTensor<B>,
}

/// How a linear outside FP8 is computed.
#[derive(Clone, Debug)]
pub struct PlainLinear {
    /// What its products take.
    pub format: ProductFormat,
    /// Whether gradient checkpointing computes the result again instead of keeping it.
    pub recompute: bool,
    /// Where the weight gradient is left to be computed later; none computes it at once.
    pub deferred: Option<DeferredWeight>,
}

impl From<ProductFormat> for PlainLinear {
    /// The result kept, the weight gradient computed at once.
    fn from(format: ProductFormat) -> Self {
        Self { format, recompute: false, deferred: None }
    }
}

/// The operations of the model, each one call. Shapes are those of the functions of the same name
/// in [`crate::ops`].
#[backend_extension(Autodiff, Flex, Remote: cfg(feature = "remote"))]
pub trait FusedOps: Backend {
    /// `y = x w^T`; x `[rows, d_in]`, w `[d_out, d_in]`.
    fn fused_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        call: PlainLinear,
    ) -> FloatTensor<Self>;
    /// RMSNorm of rows; x `[rows, d]`, gamma `[d]`.
    fn fused_rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
    /// `x + y`; x, y `[rows, d]`.
    fn fused_residual(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `silu(gate) * up`; gate_up `[rows, 2 * inter]`.
    fn fused_swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Rotary positions; x `[batch, seq, heads, head_dim]`, cos and sin `[seq, rope_dim / 2]`
    /// (constants).
    fn fused_rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        interleaved: bool,
    ) -> FloatTensor<Self>;
    /// Expanded MLA attention; q `[batch, t, heads, nope + rope]`, kv
    /// `[batch, s, heads, nope + v]`, k_rope `[batch, s, rope]`.
    fn fused_mla_attention(
        q: FloatTensor<Self>,
        kv: FloatTensor<Self>,
        k_rope: FloatTensor<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self>;
    /// Rows of tokens to rows of experts; x `[tokens, d]`.
    fn fused_permute(x: FloatTensor<Self>, groups: ExpertGroups) -> FloatTensor<Self>;
    /// Rows of experts to weighted sums by token; y `[rows, d]`, weights `[tokens, top_k]`.
    fn fused_combine(
        y: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        groups: ExpertGroups,
    ) -> FloatTensor<Self>;
    /// One linear an expert; x `[rows, d_in]`, w `[experts, d_out, d_in]`.
    fn fused_grouped_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        groups: ExpertGroups,
        call: PlainLinear,
    ) -> FloatTensor<Self>;
    /// Rows of a table; table `[vocab, d]`, tokens `[n]`.
    fn fused_embedding(table: FloatTensor<Self>, tokens: IntTensor<Self>) -> FloatTensor<Self>;
    /// Head and mean cross entropy; x `[rows, d]`, w `[vocab, d]`, targets `[rows]`, negative ones
    /// not counted.
    fn fused_linear_cross_entropy(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        targets: IntTensor<Self>,
        format: ProductFormat,
    ) -> FloatTensor<Self>;
    /// One AdamW update of a flat parameter, in place where the tensors are not shared; value,
    /// grad, first, second `[n]`, the moments in FP32 or BF16.
    fn fused_adamw(
        value: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        scalars: AdamWScalars,
    ) -> AdamWOutput<Self>;
}

/// The device of the tests that need one of CubeCL's.
#[cfg(all(test, feature = "wgpu"))]
pub(crate) fn test_gpu() -> Device {
    share_streams().expect("no test uses a device before");
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}
