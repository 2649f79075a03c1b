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
use super::results::{Shaped, floats, words};
use super::table::define_kernels;
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
                ) -> IntTensor<Self> => {
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
                fn wire_sum_values(x: FloatTensor<Self>, sums: Sums) -> FloatTensor<Self> => {
                    let [_, width] = x.shape().dims();
                    floats([sums.results(), width])
                };
            }
        }
    };
}
#[cfg(feature = "remote")]
pub(super) use wire_kernels;

wire_kernels!(define_kernels);

impl WireKernels for Flex {
    fn wire_pack(x: FloatTensor<Self>, index: RowIndex, format: WireFormat) -> IntTensor<Self> {
        let [rows, width] = dims(&x);
        let wire = done(host::pack(Contiguous::new(x).floats(), &index, rows, width, format));
        word_tensor(wire, [index.len(), format.row_words(width)])
    }

    fn wire_unpack(
        wire: IntTensor<Self>,
        index: RowIndex,
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
        sums: Sums,
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
        sums: Sums,
        width: usize,
        format: WireFormat,
    ) -> FloatTensor<Self> {
        let (wire, weights) = (Contiguous::new(wire), Contiguous::new(weights));
        tensor(
            done(host::combine(wire.words(), Some(weights.floats()), &sums, width, format)),
            [sums.results(), width],
        )
    }

    fn wire_sum_values(x: FloatTensor<Self>, sums: Sums) -> FloatTensor<Self> {
        let [_, width] = dims(&x);
        tensor(
            done(host::sum_values(Contiguous::new(x).floats(), &sums, width)),
            [sums.results(), width],
        )
    }
}

#[cfg(feature = "cube")]
mod cube {
    use burn_cubecl::CubeBackend;
    use burn_cubecl::tensor::CubeTensor;
    use cubecl_kernels::all_to_all as device;
    use cubecl_kernels::all_to_all::{DeviceIndex, DeviceSums};

    use super::*;
    use crate::backend::cube_tensor::{Place, dims, handle};

    impl WireKernels for CubeBackend {
        fn wire_pack(x: CubeTensor, index: RowIndex, format: WireFormat) -> CubeTensor {
            let (place, [rows, width]) = (Place::of(&x), dims(&x));
            let rows_taken = done(DeviceIndex::new(&place.client, &index, rows));
            let wire = device::pack(&place.client, &handle(x), &rows_taken, width, format);
            place.words(done(wire), [index.len(), format.row_words(width)])
        }

        fn wire_unpack(
            wire: CubeTensor,
            index: RowIndex,
            width: usize,
            format: WireFormat,
        ) -> CubeTensor {
            let (place, [rows, _]) = (Place::of(&wire), dims(&wire));
            let rows_taken = done(DeviceIndex::new(&place.client, &index, rows));
            let values = device::unpack(&place.client, &handle(wire), &rows_taken, width, format);
            place.floats(done(values), [index.len(), width])
        }

        fn wire_sum(wire: CubeTensor, sums: Sums, width: usize, format: WireFormat) -> CubeTensor {
            let place = Place::of(&wire);
            let on_device = done(DeviceSums::new(&place.client, &sums));
            let out =
                device::combine(&place.client, &handle(wire), None, &on_device, width, format);
            place.floats(done(out), [sums.results(), width])
        }

        fn wire_combine(
            wire: CubeTensor,
            weights: CubeTensor,
            sums: Sums,
            width: usize,
            format: WireFormat,
        ) -> CubeTensor {
            let (place, weights) = (Place::of(&wire), handle(weights));
            let on_device = done(DeviceSums::new(&place.client, &sums));
            let out = device::combine(
                &place.client,
                &handle(wire),
                Some(&weights),
                &on_device,
                width,
                format,
            );
            place.floats(done(out), [sums.results(), width])
        }

        fn wire_sum_values(x: CubeTensor, sums: Sums) -> CubeTensor {
            // A buffer has no type: FP32 rows are rows of words.
            let [_, width] = dims(&x);
            Self::wire_sum(x, sums, width, WireFormat::F32)
        }
    }
}
