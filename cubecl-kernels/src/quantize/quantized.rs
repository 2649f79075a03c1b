//! Quantized matrices, as a cast leaves them on a device.

use cubecl::server::Handle;

/// Codes of one orientation and their scales, on a device.
#[derive(Debug, Clone)]
pub struct DeviceCodes {
    /// Words of four codes.
    pub codes: Handle,
    /// FP32 multipliers.
    pub scales: Handle,
}

/// A weight's codes in both orientations, sharing one table of scales, on a device.
#[derive(Debug, Clone)]
pub struct DeviceBlocks {
    /// `[experts, n, words(k)]`.
    pub codes: Handle,
    /// `[experts, k, words(n)]`.
    pub transposed: Handle,
    /// `[experts, tiles(n), tiles(k)]`.
    pub scales: Handle,
}
