//! What a choice of experts is on a device.

use crate::all_to_all::SlotTables;
use crate::definition::{KernelError, RouteShape};
use crate::device::DeviceGroups;
use cubecl::server::Handle;

/// The tables of one routing decision, all of 32-bit numbers on the device; none of them has been
/// seen by the host.
///
/// Slot `token * top_k + j` is the `j`-th choice of a token; *rows* are the slots sorted by expert,
/// and within an expert by token ([`DispatchPlan`](crate::definition::DispatchPlan)).
#[derive(Debug, Clone)]
pub struct RouteTables {
    /// What was chosen from.
    pub shape: RouteShape,
    /// Experts of every token in ascending order, `[tokens, top_k]`.
    pub choices: Handle,
    /// Rows of each expert, `[experts]`.
    pub loads: Handle,
    /// First row, first word and first tile of each expert, and the totals: `[3, experts + 1]`.
    pub table: Handle,
    /// `[slots]`.
    pub row_of_slot: Handle,
    /// `[slots]`.
    pub token_of_row: Handle,
    /// `[slots]`.
    pub slot_of_row: Handle,
}

impl RouteTables {
    /// The rows of each expert.
    ///
    /// # Errors
    /// Fails as [`DeviceGroups::of_table`] does.
    pub fn groups(&self) -> Result<DeviceGroups, KernelError> {
        DeviceGroups::of_table(self.table.clone(), self.shape.experts, self.shape.slots())
    }

    /// Which row each slot is, for dispatch and combine.
    pub fn slots(&self) -> SlotTables {
        SlotTables {
            tokens: self.shape.tokens,
            top_k: self.shape.top_k,
            row_of_slot: self.row_of_slot.clone(),
            token_of_row: self.token_of_row.clone(),
            slot_of_row: self.slot_of_row.clone(),
        }
    }
}
