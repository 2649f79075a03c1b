//! Rows to other ranks and back on a device (3.2.2, 3.3.3): [`pack`] permutes rows and casts them
//! in one read, [`unpack`] puts what has arrived in the experts' order, [`combine`] sums a token's
//! rows; and the gradient of each.
//!
//! Words and values are bit-equal to those of [`host::all_to_all`](crate::host::all_to_all) on
//! every runtime, sums up to rounding: they have the same order. Which row goes where is decided
//! either on the host ([`DispatchPlan`](crate::definition::DispatchPlan)), checked there, and
//! uploaded once ([`DeviceIndex`], [`DeviceSums`]), or on the device
//! ([`route`](crate::route::route)), whose tables ([`SlotTables`]) the host does not see.

mod index;
mod kernel;
mod launch;
mod plan;

pub use index::{DeviceIndex, DeviceSums, SlotTables};
pub use launch::{combine, combine_backward, pack, pack_backward, unpack, unpack_backward};
