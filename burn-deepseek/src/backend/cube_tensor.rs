//! CubeCL's tensors as buffers that lie in order, and back.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use cubecl::client::Client;
use cubecl::server::Handle;
use cubecl_kernels::all_to_all::SlotTables;

use super::kernels::RowTables;

/// Where a tensor is, to make others beside it.
pub(super) struct Place {
    pub client: Client,
    device: CubeDevice,
}

impl Place {
    /// The place of a tensor.
    pub(super) fn of(tensor: &CubeTensor) -> Self {
        Self { client: tensor.client.clone(), device: tensor.device.clone() }
    }

    /// A tensor of FP32 entries for a buffer that a kernel has made.
    pub(super) fn floats(&self, buffer: Handle, shape: impl Into<Shape>) -> CubeTensor {
        self.tensor(buffer, shape, DType::F32)
    }

    /// A tensor of words for a buffer that a kernel has made.
    pub(super) fn words(&self, buffer: Handle, shape: impl Into<Shape>) -> CubeTensor {
        self.tensor(buffer, shape, DType::U32)
    }

    /// A tensor of numbers below 2^31 for a buffer of words.
    pub(super) fn ints(&self, buffer: Handle, shape: impl Into<Shape>) -> CubeTensor {
        self.tensor(buffer, shape, DType::I32)
    }

    fn tensor(&self, buffer: Handle, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
        let (client, device) = (self.client.clone(), self.device.clone());
        CubeTensor::new_contiguous(client, device, shape.into(), buffer, dtype)
    }
}

/// The buffer of a tensor, copied where its entries do not lie in order.
pub(super) fn handle(tensor: CubeTensor) -> Handle {
    into_contiguous(tensor).handle
}

/// The tensor as one that nobody else holds and whose entries lie in order, to be changed in place.
pub(super) fn own(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// The dims of a tensor of known rank.
pub(super) fn dims<const D: usize>(tensor: &CubeTensor) -> [usize; D] {
    tensor.shape().dims()
}

/// The rows of a routing decision.
pub(super) fn slots(rows: RowTables<CubeBackend>) -> SlotTables {
    let [tokens, top_k] = dims(&rows.row_of_slot);
    SlotTables {
        tokens,
        top_k,
        row_of_slot: handle(rows.row_of_slot),
        token_of_row: handle(rows.token_of_row),
        slot_of_row: handle(rows.slot_of_row),
    }
}
