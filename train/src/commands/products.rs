//! Which path products in BF16 and FP8 take, as it is told.

use burn::tensor::Device;
use burn_deepseek::backend::{GemmPath, bf16_products, fp8_products};

use crate::device::SelectedDevice;

/// The path on this CPU, and why it is taken; none where what the environment asks for is not
/// there, which no command gets past.
pub(super) fn products_on_cpu() -> Option<String> {
    GemmPath::choice().ok().map(|choice| format!("{}: {}", choice.path, choice.why))
}

/// What is told of the products on a device: which of them, by which path, and why.
pub(super) fn products_on(name: &str, device: &Device) -> Option<String> {
    if name == SelectedDevice::flex().name {
        return products_on_cpu().map(|products| format!("in BF16 and FP8: {products}"));
    }
    let (bf16, fp8) = (bf16_products(device)?, fp8_products(device)?);
    Some(format!("in BF16: {bf16}; in FP8: {fp8}"))
}
