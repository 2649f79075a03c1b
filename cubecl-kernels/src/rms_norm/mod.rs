//! RMSNorm of rows and its gradient on a device (Zhang and Sennrich, 2019, arXiv 1910.07467).

mod kernel;
mod launch;

pub use launch::{DeviceNorm, rms_norm, rms_norm_backward};
