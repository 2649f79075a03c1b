//! The choice of experts and what follows from it, on a device (2.1.2, 3.2.2): biased scores, the
//! limit on groups, the best experts of each token, how many tokens each expert has, where its rows
//! begin, and which row each slot is.
//!
//! Choices are bit-equal to those of [`reference::route`](crate::reference::route) on every runtime,
//! tables to those of [`DispatchPlan`](crate::definition::DispatchPlan): both compare bit patterns,
//! so nothing rests on how a device compares NaN, infinities or zeros with signs. The one sum is
//! `score + bias`, which is correctly rounded everywhere; a device that flushes subnormal numbers
//! may see a tie where there is none between two scores below `1.2e-38`.

mod kernel;
mod launch;
mod tables;

pub use launch::{choose_experts, route, route_choices, sequence_counts};
pub use tables::RouteTables;
