//! Which devices multiply BF16 by matrix instructions.

use super::trial;
use crate::device::{PerDevice, Shortfall, compute_capability};
use cubecl::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

/// What multiplies 16x16 by 16x8 numbers of BF16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatrixUnit {
    /// `mma` of NVIDIA's devices from compute capability 8.0 on.
    Instruction,
    /// Plain code that hands registers around in shared memory: for tests of layouts, and of the
    /// kernels that are built on them, on devices without the instruction. Every unit of a cube must
    /// make the same calls. It is many times slower than an FP32 product, and serves nobody.
    Emulated,
}

/// The first compute capability with the instruction.
const LEAST: u32 = 80;
/// Shared memory of a cube that the kernels count on.
const SHARED_BYTES: usize = 48 << 10;
/// Units of a cube that the kernels count on.
const CUBE: u32 = 256;
/// The largest [`calc_diff`](crate::metric::calc_diff) of a trial product from the emulated one:
/// both round to BF16 alike, and an accumulator has FP32's exponent and most of its bits.
const BOUND: f64 = 1e-9;

/// The matrix unit of a device's BF16 products, which is the instruction, or why it has none. Found
/// out on the first call for a device: that one reads back a few small products.
///
/// # Errors
/// [`Shortfall`] where the device has no such instruction, or it came out wrong.
pub fn matrix_unit(client: &Client) -> Result<MatrixUnit, Shortfall> {
    static KNOWN: PerDevice<Result<MatrixUnit, Shortfall>> = PerDevice::new();
    KNOWN.get(client, || try_out(client))
}

fn try_out(client: &Client) -> Result<MatrixUnit, Shortfall> {
    if let Some(shortfall) = shortfall(client) {
        return Err(shortfall);
    }
    let worst = trial::worst(client, MatrixUnit::Instruction).map_err(Shortfall::Failed)?;
    if worst.calc_diff <= BOUND {
        Ok(MatrixUnit::Instruction)
    } else {
        Err(Shortfall::Wrong { product: worst.product, calc_diff: worst.calc_diff })
    }
}

/// Why a device cannot run it, by what it reports.
fn shortfall(client: &Client) -> Option<Shortfall> {
    let bf16 = ElemType::Float(FloatKind::BF16);
    let instruction = MmaConfig {
        a_type: bf16,
        b_type: bf16,
        cd_type: ElemType::Float(FloatKind::F32),
        m: 16,
        n: 8,
        k: 16,
    };
    let hardware = &client.properties().hardware;
    let has = compute_capability(client).is_some_and(|version| version >= LEAST)
        && client.features().matmul.mma.contains(&instruction);
    let fits = (hardware.plane_size_min, hardware.plane_size_max) == (32, 32)
        && hardware.max_units_per_cube >= CUBE
        && hardware.max_shared_memory_size >= SHARED_BYTES;
    match (has, fits) {
        (false, _) => Some(Shortfall::NoInstruction),
        (true, false) => Some(Shortfall::NoRoom),
        (true, true) => None,
    }
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;

    /// What the device reports decides, and a device that reports the instruction has it.
    #[test]
    fn a_device_has_what_it_reports_or_says_why_not() {
        let client = cubecl::Device::default().client();
        match shortfall(&client) {
            Some(reason) => assert_eq!(matrix_unit(&client), Err(reason)),
            None => assert_eq!(matrix_unit(&client), Ok(MatrixUnit::Instruction)),
        }
    }
}
