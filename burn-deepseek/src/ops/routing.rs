//! The choice of experts by a device that has kernels for it, and its tables as operations take
//! them.

use burn::backend::Dispatch;
use burn::tensor::{Device, Int, Tensor};
use cubecl_kernels::definition::RouteShape;

use crate::backend::{FusedKernels, RowTables};
use crate::definition::{ChosenExperts, ExpertGroups, GroupTables};

/// The tables of a routing decision on a device.
pub(super) fn tables(groups: &ExpertGroups, device: &Device) -> RowTables<Dispatch> {
    let GroupTables { bounds, row_of_slot, token_of_row, slot_of_row } = groups.tables(device);
    RowTables {
        bounds: bounds.into_dispatch(),
        row_of_slot: row_of_slot.into_dispatch(),
        token_of_row: token_of_row.into_dispatch(),
        slot_of_row: slot_of_row.into_dispatch(),
    }
}

/// Chooses experts on the device of `scores`, which must support
/// [`Route`](crate::backend::FusedOp::Route): the choice that
/// [`ExpertSelection::choose`](crate::moe::ExpertSelection::choose) makes, and nothing is read.
///
/// # Shapes
///
/// - scores: `[tokens, experts]`, bias: `[experts]`, both FP32 without autodiff
pub(crate) fn route(scores: Tensor<2>, bias: Tensor<1>, shape: RouteShape) -> ExpertGroups {
    let routed = Dispatch::route(scores.into_dispatch(), bias.into_dispatch(), shape);
    ExpertGroups::chosen_on_device(ChosenExperts {
        choices: Tensor::from_dispatch(routed.choices),
        loads: Tensor::from_dispatch(routed.loads),
        tables: GroupTables {
            bounds: Tensor::from_dispatch(routed.bounds),
            row_of_slot: Tensor::from_dispatch(routed.row_of_slot),
            token_of_row: Tensor::from_dispatch(routed.token_of_row),
            slot_of_row: Tensor::from_dispatch(routed.slot_of_row),
        },
    })
}

/// For each sequence of `seq` tokens how many of them have each expert among the `top_k` best by
/// unbiased score, groups ignored; on a device that supports
/// [`Route`](crate::backend::FusedOp::Route).
///
/// # Shapes
///
/// - scores: `[sequences * seq, experts]`, FP32 without autodiff; output: `[sequences, experts]`
pub(crate) fn sequence_counts(scores: Tensor<2>, shape: RouteShape, seq: usize) -> Tensor<2, Int> {
    let counts = Dispatch::sequence_counts(scores.into_dispatch(), shape, seq);
    Tensor::from_dispatch(counts)
}
