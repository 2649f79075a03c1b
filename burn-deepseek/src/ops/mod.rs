//! Tensor operations of the model: one function each, a fused host kernel where the device is Flex, Burn's own operations elsewhere.

pub mod composed;
mod groups;

pub use groups::ExpertGroups;
