//! Output head and mean cross entropy on a device: logits exist for some rows at a time, and become
//! their own gradients where they lie (2.2, and the memory that 3.2.3 saves elsewhere).

mod kernel;
mod launch;
mod plan;

pub use launch::{DeviceHead, linear_cross_entropy, linear_cross_entropy_with_gradients};
