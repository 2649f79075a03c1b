//! Whether a device's large products in BF16 are by warpgroups, and why not where they are not.

use super::launch::{Groups, Matrix, Target, multiply_by};
use super::plan::MatrixKernel;
use crate::device::tile::Along;
use crate::device::{
    DeviceGroups, MatrixUnit, PerDevice, Shortfall, allocate, trial_numbers, warpgroup,
};
use crate::metric::calc_diff;
use cubecl::prelude::*;

/// The largest [`calc_diff`] of a trial product from that of planes.
const BOUND: f64 = 1e-9;

/// Whether large products in BF16 are by `wgmma` on a device that has a
/// [`matrix_unit`](crate::device::matrix_unit). Found out on the first call for a device: that one
/// reads back a few products.
///
/// # Errors
/// [`Shortfall`] where they are not.
pub fn warpgroups(client: &Client) -> Result<(), Shortfall> {
    static KNOWN: PerDevice<Result<(), Shortfall>> = PerDevice::new();
    KNOWN.get(client, || try_out(client))
}

/// The kernel of a device's large products.
pub(super) fn kernel(client: &Client) -> MatrixKernel {
    match warpgroups(client) {
        Ok(()) => MatrixKernel::Warpgroups,
        Err(_) => MatrixKernel::Planes,
    }
}

fn try_out(client: &Client) -> Result<(), Shortfall> {
    if let Some(shortfall) = warpgroup::shortfall(client, 0) {
        return Err(shortfall);
    }
    for trial in &TRIALS {
        let failed = |error: String| Shortfall::Failed(format!("{}: {error}", trial.name));
        let ours = trial.run(client, MatrixKernel::Warpgroups).map_err(failed)?;
        let planes = trial.run(client, MatrixKernel::Planes).map_err(failed)?;
        let calc_diff = calc_diff(&ours, &planes);
        if calc_diff.is_nan() || calc_diff > BOUND {
            return Err(Shortfall::Wrong { product: trial.name, calc_diff });
        }
    }
    Ok(())
}

/// A product of each kind, ragged in every dimension and so deep that the ring comes round.
struct Trial {
    name: &'static str,
    a: Along,
    b: Along,
    /// Whether rows are by group.
    grouped: bool,
    added: bool,
}

const TRIALS: [Trial; 4] = [
    Trial {
        name: "a BF16 product of rows",
        a: Along::Depth,
        b: Along::Depth,
        grouped: false,
        added: true,
    },
    Trial {
        name: "a BF16 product of columns",
        a: Along::Lines,
        b: Along::Lines,
        grouped: false,
        added: false,
    },
    Trial {
        name: "a BF16 product of groups of rows",
        a: Along::Depth,
        b: Along::Depth,
        grouped: true,
        added: false,
    },
    Trial {
        name: "a BF16 product of groups of rows with columns",
        a: Along::Depth,
        b: Along::Lines,
        grouped: true,
        added: false,
    },
];

const LINES: usize = 333;
const COLUMNS: usize = 200;
const DEPTH: usize = 907;
const OFFSETS: [usize; 5] = [0, 77, 77, 205, LINES];

impl Trial {
    fn run(&self, client: &Client, kernel: MatrixKernel) -> Result<Vec<f32>, String> {
        let experts = if self.grouped { OFFSETS.len() - 1 } else { 1 };
        let groups =
            DeviceGroups::new(client, &OFFSETS, LINES).map_err(|error| error.to_string())?;
        let [a, b, before] =
            [(1, LINES * DEPTH), (2, experts * COLUMNS * DEPTH), (3, LINES * COLUMNS)].map(
                |(seed, count)| {
                    client.create_from_slice(f32::as_bytes(&trial_numbers(seed, count)))
                },
            );
        let matrix = |handle, lines, matrices, along| Matrix {
            handle,
            count: matrices * lines * DEPTH,
            base: 0,
            lines,
            depth: DEPTH,
            step: if along == Along::Depth { DEPTH } else { lines },
            along,
        };
        let operands = [matrix(&a, LINES, 1, self.a), matrix(&b, COLUMNS, experts, self.b)];
        let count = LINES * COLUMNS;
        let c = if self.added { before } else { allocate(client, count, 4) };
        let target = Target { handle: &c, count, base: 0, added: self.added };
        let by = if self.grouped { Groups::Rows(&groups) } else { Groups::One };
        let unit = MatrixUnit::Instruction;
        multiply_by(client, "warpgroups", kernel, unit, operands, by, target)
            .map_err(|error| error.to_string())?;
        let bytes = client.read_one(c).map_err(|error| format!("{error:?}"))?;
        let all = f32::from_bytes(&bytes);
        all.get(..count).map(<[f32]>::to_vec).ok_or_else(|| "nothing came back".to_owned())
    }
}
