//! Which kernel a device's products take: each tensor-core path is tried for itself, where the
//! device reports what it needs, and serves where products of every kind came out right.

use super::execute::{self, Kernel};
use super::kernel::emulated::Accumulator;
use super::kernel::{tensor_core, warpgroup};
use super::product::Product;

use super::trial::{self, Choose};
use crate::definition::{Accumulation, Fp8Format, KernelError};
use crate::device::{Element, PerDevice, Shortfall};
use cubecl::prelude::*;
use cubecl::server::Handle;
use std::fmt;

/// The kernel that E4M3 products with promotion take on a device, and why no faster one.
#[derive(Debug, Clone, PartialEq)]
pub enum ProductPath {
    /// `wgmma` instructions, on tiles that the copy engine brings.
    Warpgroups,
    /// `mma` instructions.
    TensorCore {
        /// Why not `wgmma`.
        warpgroups: Shortfall,
    },
    /// The kernel that runs everywhere.
    Portable {
        /// Why not `wgmma`.
        warpgroups: Shortfall,
        /// Why not `mma`.
        tensor_core: Shortfall,
    },
}

impl ProductPath {
    /// The largest [`calc_diff`](crate::metric::calc_diff) from an exact product: the accumulators
    /// of tensor cores may keep only some 14 bits of a partial sum of 128 (3.3.2), the portable
    /// kernel's are FP32.
    pub const fn calc_diff_bound(&self) -> f64 {
        match self {
            Self::Warpgroups | Self::TensorCore { .. } => 1e-5,
            Self::Portable { .. } => 1e-11,
        }
    }

    /// The largest difference of an entry from that of an exact product, to the largest magnitude
    /// there.
    pub const fn entry_bound(&self) -> f64 {
        match self {
            Self::Warpgroups | Self::TensorCore { .. } => 4e-3,
            Self::Portable { .. } => 2e-6,
        }
    }
}

impl fmt::Display for ProductPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warpgroups => write!(f, "tensor cores by wgmma"),
            Self::TensorCore { warpgroups } => {
                write!(f, "tensor cores by mma (wgmma: {warpgroups})")
            }
            Self::Portable { warpgroups, tensor_core } if warpgroups == tensor_core => {
                write!(f, "portable (wgmma and mma: {warpgroups})")
            }
            Self::Portable { warpgroups, tensor_core } => {
                write!(f, "portable (wgmma: {warpgroups}; mma: {tensor_core})")
            }
        }
    }
}

impl Product<'_> {
    /// The product in a new buffer, by the best kernel that its device has.
    pub(crate) fn run(&self, element: Element) -> Result<Handle, KernelError> {
        execute::run(self, best, element)
    }

    /// The product added to `c`, by the best kernel that its device has.
    pub(crate) fn accumulate(&self, c: &Handle) -> Result<(), KernelError> {
        execute::accumulate(self, best, c)
    }
}

fn best(product: &Product<'_>) -> Result<Kernel, KernelError> {
    if let Accumulation::Emulated { bits, promote } = product.accumulation {
        return Ok(Kernel::Emulated(Accumulator { bits, promote }));
    }
    if product.formats != [Fp8Format::E4M3; 2] {
        return Ok(Kernel::portable(product));
    }
    match product_path(product.client) {
        ProductPath::Warpgroups => Kernel::warpgroups(product),
        ProductPath::TensorCore { .. } => Ok(Kernel::TensorCore),
        ProductPath::Portable { .. } => Ok(Kernel::portable(product)),
    }
}

/// The path of a device's products, found out on the first call for a device: that one reads back a
/// few small products.
pub fn product_path(client: &Client) -> ProductPath {
    static KNOWN: PerDevice<ProductPath> = PerDevice::new();
    KNOWN.get(client, || try_out(client))
}

fn try_out(client: &Client) -> ProductPath {
    let warpgroups =
        warpgroup::shortfall(client).or_else(|| not_accepted(client, Kernel::warpgroups));
    let Some(warpgroups) = warpgroups else {
        return ProductPath::Warpgroups;
    };
    let tensor_core =
        tensor_core::shortfall(client).or_else(|| not_accepted(client, |_| Ok(Kernel::TensorCore)));
    match tensor_core {
        None => ProductPath::TensorCore { warpgroups },
        Some(tensor_core) => ProductPath::Portable { warpgroups, tensor_core },
    }
}

/// What is wrong with a kernel's trial products.
fn not_accepted(client: &Client, choose: Choose) -> Option<Shortfall> {
    let bound = ProductPath::Warpgroups.calc_diff_bound();
    match trial::worst(client, choose) {
        Ok(worst) if worst.calc_diff <= bound => None,
        Ok(worst) => Some(Shortfall::Wrong { product: worst.product, calc_diff: worst.calc_diff }),
        Err(reason) => Some(Shortfall::Failed(reason)),
    }
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;

    /// A path that the device has serves, and where none does the reasons are said.
    #[test]
    fn the_best_path_that_a_device_has_serves() {
        let client = cubecl::Device::default().client();
        let path = product_path(&client);
        match (warpgroup::shortfall(&client), tensor_core::shortfall(&client)) {
            (None, _) => assert_eq!(path, ProductPath::Warpgroups),
            (Some(warpgroups), None) => assert_eq!(path, ProductPath::TensorCore { warpgroups }),
            (Some(warpgroups), Some(tensor_core)) => {
                assert_eq!(path, ProductPath::Portable { warpgroups, tensor_core });
            }
        }
    }

    #[test]
    fn a_path_says_its_reasons() {
        let (warpgroups, tensor_core) = (Shortfall::NoRoom, Shortfall::Unpacks);
        let both = ProductPath::Portable { warpgroups, tensor_core }.to_string();
        assert!(both.starts_with("portable (wgmma: the device's planes"), "{both}");
        assert!(both.contains("; mma: the device has it for E4M3 in name only"), "{both}");
        let none = Shortfall::NoInstruction;
        let once =
            ProductPath::Portable { warpgroups: none.clone(), tensor_core: none }.to_string();
        assert!(once.starts_with("portable (wgmma and mma: the device reports no"), "{once}");
        let wrong = Shortfall::Wrong { product: "a dense product", calc_diff: 0.5 };
        let mma = ProductPath::TensorCore { warpgroups: wrong }.to_string();
        assert!(
            mma.ends_with(
                "(wgmma: a dense product differs from the portable kernel's by \
            calc_diff 5e-1)"
            ),
            "{mma}"
        );
    }
}
