//! Tensor operations of the model: one function each, a fused host kernel where the device is Flex, Burn's own operations elsewhere.

pub mod composed;
mod groups;
mod optim;

pub use composed::{
    adamw, combine, embedding, grouped_linear, linear, linear_cross_entropy, mla_absorbed_attention, mla_attention, permute, rms_norm, rope,
    sum_of_squares, swiglu,
};
pub use groups::ExpertGroups;
pub use optim::AdamWScalars;
