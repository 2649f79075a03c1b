//! Rows on the wire between ranks as a backend extension: packed, unpacked and summed by the
//! kernels of `cubecl_kernels` (3.2.2).
//!
//! For tensors without autodiff: an exchange has gradients of its own
//! ([`crate::ops::with_gradient`]).

use std::sync::Arc;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Flex, backend_extension};
use cubecl_kernels::definition::{RowSums, WireFormat};
use cubecl_kernels::host::all_to_all as host;

use super::flex_tensor::{Contiguous, dims, tensor, word_tensor};
use super::kernels::done;
#[cfg(feature = "cube")]
use super::table::Shaped;
use super::table::{define_kernels, floats, words};
#[cfg(feature = "cube")]
use super::with_fusion as burn;

/// Which rows are taken, in their order.
pub(super) type RowIndex = Arc<[u32]>;
/// Which rows are summed.
pub(super) type Sums = Arc<RowSums>;

/// The table, for a macro that makes something of its rows.
macro_rules! wire_kernels {
    ($generate:ident) => {
        $generate! {
            /// What [`crate::ops::wire`] calls. Words are U32.
            trait WireKernels;

            /// Rows on the wire.
            Fp8 {
                /// Rows of x `[rows, d]` by index as words, `[index, row_words(d)]`.
                fn wire_pack(
                    x: FloatTensor<Self>,
                    index: RowIndex,
                    format: WireFormat,
                ) -> IntTensor<Self>
                    => {
                        let [_, width] = x.shape().dims();
                        words([index.len(), format.row_words(width)])
                    };
                /// Rows of words by index as values, `[index, width]`.
                fn wire_unpack(
                    wire: IntTensor<Self>,
                    index: RowIndex,
                    width: usize,
                    format: WireFormat,
                ) -> FloatTensor<Self> => floats([index.len(), *width]);
                /// Sums of rows of words, `[sums.results(), width]`.
                fn wire_sum(
                    wire: IntTensor<Self>,
                    sums: Sums,
                    width: usize,
                    format: WireFormat,
                ) -> FloatTensor<Self> => floats([sums.results(), *width]);
                /// Weighted sums of rows of words, weights `[sums.terms()]`.
                fn wire_combine(
                    wire: IntTensor<Self>,
                    weights: FloatTensor<Self>,
                    sums: Sums,
                    width: usize,
                    format: WireFormat,
                ) -> FloatTensor<Self> => floats([sums.results(), *width]);
                /// Sums of rows of x `[sums.bound(), d]`, `[sums.results(), d]`.
                fn wire_sum_values(x: FloatTensor<Self>, sums: Sums) -> FloatTensor<Self>
                    => { let [_, width] = x.shape().dims(); floats([sums.results(), width]) };
            }
        }
    };
}
#[cfg(feature = "remote")]
pub(super) use wire_kernels;

wire_kernels!(define_kernels);

impl WireKernels for Flex {
    fn wire_pack(x: FloatTensor<Self>, index: Arc<[u32]>, format: WireFormat) -> IntTensor<Self> {
        let [rows, width] = dims(&x);
        let wire = done(host::pack(Contiguous::new(x).floats(), &index, rows, width, format));
        word_tensor(wire, [index.len(), format.row_words(width)])
    }

    fn wire_unpack(
        wire: IntTensor<Self>,
        index: Arc<[u32]>,
        width: usize,
        format: WireFormat,
    ) -> FloatTensor<Self> {
        let [rows, _] = dims(&wire);
        tensor(
            done(host::unpack(Contiguous::new(wire).words(), &index, rows, width, format)),
            [index.len(), width],
        )
    }

    fn wire_sum(
        wire: IntTensor<Self>,
        sums: Arc<RowSums>,
        width: usize,
        format: WireFormat,
    ) -> FloatTensor<Self> {
        tensor(
            done(host::combine(Contiguous::new(wire).words(), None, &sums, width, format)),
            [sums.results(), width],
        )
    }

    fn wire_combine(
        wire: IntTensor<Self>,
        weights: FloatTensor<Self>,
        sums: Arc<RowSums>,
        width: usize,
        format: WireFormat,
    ) -> FloatTensor<Self> {
        let (wire, weights) = (Contiguous::new(wire), Contiguous::new(weights));
        tensor(
            done(host::combine(wire.words(), Some(weights.floats()), &sums, width, format)),
            [sums.results(), width],
        )
    }

    fn wire_sum_values(x: FloatTensor<Self>, sums: Arc<RowSums>) -> FloatTensor<Self> {
        let [_, width] = dims(&x);
        tensor(
            done(host::sum_values(Contiguous::new(x).floats(), &sums, width)),
            [sums.results(), width],
        )
    }
}

#[cfg(feature = "cube")]
mod cube {
    use ::burn::backend::TensorMetadata;
    use ::burn::tensor::{DType, Shape};
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::tensor::CubeTensor;
    use cubecl::server::Handle;
    use cubecl_kernels::all_to_all as device;
    use cubecl_kernels::all_to_all::{DeviceIndex, DeviceSums};

    use super::*;

    /// A tensor of the same device for a buffer that a kernel has made.
    fn beside(
        tensor: &CubeTensor,
        handle: Handle,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> CubeTensor {
        CubeTensor::new_contiguous(
            tensor.client.clone(),
            tensor.device.clone(),
            shape.into(),
            handle,
            dtype,
        )
    }

    fn dims(tensor: &CubeTensor) -> [usize; 2] {
        tensor.shape().dims()
    }

    impl WireKernels for CubeBackend {
        fn wire_pack(x: CubeTensor, index: Arc<[u32]>, format: WireFormat) -> CubeTensor {
            let (x, [rows, width]) = (into_contiguous(x.clone()), dims(&x));
            let index = done(DeviceIndex::new(&x.client, &index, rows));
            let wire = done(device::pack(&x.client, &x.handle, &index, width, format));
            beside(&x, wire, [index.len(), format.row_words(width)], DType::U32)
        }

        fn wire_unpack(
            wire: CubeTensor,
            index: Arc<[u32]>,
            width: usize,
            format: WireFormat,
        ) -> CubeTensor {
            let (wire, [rows, _]) = (into_contiguous(wire.clone()), dims(&wire));
            let index = done(DeviceIndex::new(&wire.client, &index, rows));
            let values = done(device::unpack(&wire.client, &wire.handle, &index, width, format));
            beside(&wire, values, [index.len(), width], DType::F32)
        }

        fn wire_sum(
            wire: CubeTensor,
            sums: Arc<RowSums>,
            width: usize,
            format: WireFormat,
        ) -> CubeTensor {
            let wire = into_contiguous(wire);
            let sums = done(DeviceSums::new(&wire.client, &sums));
            let out = done(device::combine(&wire.client, &wire.handle, None, &sums, width, format));
            beside(&wire, out, [sums.sums().results(), width], DType::F32)
        }

        fn wire_combine(
            wire: CubeTensor,
            weights: CubeTensor,
            sums: Arc<RowSums>,
            width: usize,
            format: WireFormat,
        ) -> CubeTensor {
            let (wire, weights) = (into_contiguous(wire), into_contiguous(weights));
            let sums = done(DeviceSums::new(&wire.client, &sums));
            let out = done(device::combine(
                &wire.client,
                &wire.handle,
                Some(&weights.handle),
                &sums,
                width,
                format,
            ));
            beside(&wire, out, [sums.sums().results(), width], DType::F32)
        }

        fn wire_sum_values(x: CubeTensor, sums: Arc<RowSums>) -> CubeTensor {
            // A buffer has no type: FP32 rows are rows of words.
            let [_, width] = dims(&x);
            Self::wire_sum(x, sums, width, WireFormat::F32)
        }
    }
}
