//! Which kernel a device's products take: tensor cores where the device reports E4M3 `mma` and a
//! small product on them came out right.

use super::execute::{self, Kernel};
use super::kernel::emulated::Accumulator;
use super::kernel::tensor_core::{MMA, PLANE, SHARED_BYTES, UNITS};
use super::kernel::warpgroup;
use super::operand::{DeviceBlockTiled, DeviceRowTiled, ScaleTable};
use super::product::{Kind, Product};
use crate::definition::{Accumulation, Fp8Format, KernelError, tiles, words};
use crate::device::Element;
use crate::metric::calc_diff;
use cubecl::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use cubecl::server::Handle;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The kernel that E4M3 products with promotion take on a device.
#[derive(Debug, Clone, PartialEq)]
pub enum ProductPath {
    /// `wgmma` instructions, on tiles that the copy engine brings; `mma` where it cannot bring
    /// them.
    Warpgroups,
    /// `mma` instructions, and why not `wgmma`.
    TensorCore(Shortfall),
    /// The kernel that runs everywhere, and why.
    Portable(Shortfall),
}

/// Why a device does not multiply by a faster kernel.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Shortfall {
    /// The runtime reports no such instruction.
    #[error("the device reports no such E4M3 matrix instruction")]
    NoInstruction,
    /// The kernel's cube does not fit.
    #[error("the device's planes, cubes or shared memory are not what the kernel needs")]
    NoRoom,
    /// The trial product did not run.
    #[error("a trial product on tensor cores failed: {0}")]
    Failed(String),
    /// The trial product came out wrong.
    #[error(
        "a trial product on tensor cores differs from the portable kernel's by calc_diff {0:e}"
    )]
    Wrong(f64),
}

/// The largest difference between two kernels on the trial product: tensor cores may keep only some
/// 14 bits of a partial sum of 128 (3.3.2), a wrong layout of registers gives about 1.
const TRIAL_DIFF: f64 = 1e-5;

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

fn best(product: &Product<'_>) -> Kernel {
    if let Accumulation::Emulated { bits, promote } = product.accumulation {
        return Kernel::Emulated(Accumulator { bits, promote });
    }
    if product.formats != [Fp8Format::E4M3; 2] {
        return Kernel::portable(product);
    }
    match product_path(product.client) {
        ProductPath::Warpgroups => warpgroups(product),
        ProductPath::TensorCore(_) => Kernel::TensorCore,
        ProductPath::Portable(_) => Kernel::portable(product),
    }
}

/// Tensor cores by `wgmma`, or by `mma` where the copy engine cannot bring the operands.
fn warpgroups(product: &Product<'_>) -> Kernel {
    Kernel::warpgroups(product).unwrap_or(Kernel::TensorCore)
}

/// The path of a device's products, found out on the first call for a device: that one reads back a
/// few small products.
pub fn product_path(client: &Client) -> ProductPath {
    static KNOWN: Mutex<Option<HashMap<String, ProductPath>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .get_or_insert_default()
        .entry(format!("{:?}", client.service_id()))
        .or_insert_with(|| try_out(client))
        .clone()
}

fn try_out(client: &Client) -> ProductPath {
    let e4m3 = ElemType::Float(FloatKind::E4M3);
    let instruction = MmaConfig {
        a_type: e4m3,
        b_type: e4m3,
        cd_type: ElemType::Float(FloatKind::F32),
        m: MMA.0,
        n: MMA.1,
        k: MMA.2,
    };
    if !client.features().matmul.mma.contains(&instruction) {
        return ProductPath::Portable(Shortfall::NoInstruction);
    }
    let hardware = &client.properties().hardware;
    let planes = (hardware.plane_size_min, hardware.plane_size_max) == (PLANE, PLANE);
    if !planes
        || hardware.max_units_per_cube < UNITS
        || hardware.max_shared_memory_size < SHARED_BYTES
    {
        return ProductPath::Portable(Shortfall::NoRoom);
    }
    if let Err(reason) = accepted(client, |_| Kernel::TensorCore) {
        return ProductPath::Portable(reason);
    }
    if !warpgroup::supported(client) {
        return ProductPath::TensorCore(Shortfall::NoInstruction);
    }
    match accepted(client, warpgroups) {
        Ok(()) => ProductPath::Warpgroups,
        Err(reason) => ProductPath::TensorCore(reason),
    }
}

/// Whether a kernel's trial product came out right.
fn accepted(client: &Client, choose: fn(&Product<'_>) -> Kernel) -> Result<(), Shortfall> {
    match trial(client, choose) {
        Ok(diff) if diff <= TRIAL_DIFF => Ok(()),
        Ok(diff) => Err(Shortfall::Wrong(diff)),
        Err(reason) => Err(Shortfall::Failed(reason)),
    }
}

/// The difference from the portable kernel's result on a product with ragged edges in every
/// dimension.
fn trial(client: &Client, choose: fn(&Product<'_>) -> Kernel) -> Result<f64, String> {
    let (m, n, k) = (200, 392, 336);
    let codes = |rows: usize, seed: u32| {
        let mut state = seed;
        let mut code = |column: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Exponents below the largest, so that no code is NaN.
            if column < k { (state >> 24) & 0xF7 } else { 0 }
        };
        let words: Vec<u32> = (0..rows * words(k))
            .map(|i| (0..4).fold(0, |word, s| word | code(i % words(k) * 4 + s) << (8 * s)))
            .collect();
        client.create_from_slice(u32::as_bytes(&words))
    };
    let scales = |count: usize| {
        let scales: Vec<f32> = (0..count).map(|i| 0.5 + (i % 7) as f32).collect();
        client.create_from_slice(f32::as_bytes(&scales))
    };
    let (a, b, a_scales, b_scales) =
        (codes(m, 1), codes(n, 2), scales(m * tiles(k)), scales(tiles(n) * tiles(k)));
    let format = Fp8Format::E4M3;
    let a = DeviceRowTiled { codes: &a, scales: &a_scales, rows: m, depth: k, format };
    let table = ScaleTable::AsStored;
    let b = DeviceBlockTiled {
        codes: &b,
        scales: &b_scales,
        table,
        experts: 1,
        rows: n,
        depth: k,
        format,
    };
    let product = Product::with_weight(client, "product_path", &a, &b, Kind::Dense)
        .map_err(|error| error.to_string())?;
    let run = |choose: fn(&Product<'_>) -> Kernel| -> Result<Vec<f32>, String> {
        let c = execute::run(&product, choose, Element::F32).map_err(|error| error.to_string())?;
        let bytes = client.read_one(c).map_err(|error| format!("{error:?}"))?;
        f32::from_bytes(&bytes)
            .get(..m * n)
            .map(<[f32]>::to_vec)
            .ok_or_else(|| "nothing came back".to_owned())
    };
    Ok(calc_diff(&run(choose)?, &run(Kernel::portable)?))
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_the_instruction_says_so() {
        let client = cubecl::Device::default().client();
        let path = product_path(&client);
        let e4m3 = ElemType::Float(FloatKind::E4M3);
        if client.features().matmul.mma.iter().any(|config| config.a_type == e4m3) {
            let best = if warpgroup::supported(&client) {
                ProductPath::Warpgroups
            } else {
                ProductPath::TensorCore(Shortfall::NoInstruction)
            };
            assert_eq!(path, best);
        } else {
            assert_eq!(path, ProductPath::Portable(Shortfall::NoInstruction));
        }
    }
}
