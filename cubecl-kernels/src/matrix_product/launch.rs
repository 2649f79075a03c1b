//! Operands as a product takes them, and its launch.

use super::kernel::{RowsLaunch, SizesLaunch, matrix_product};
use super::pairs::{line_words, pairs};
use super::path;
use super::plan::{Form, Grouping, MatrixKernel, MatrixTile, QUAD, warpgroups_pay};
use super::warpgroup::{WarpgroupSizesLaunch, matrix_warpgroups};
use crate::definition::KernelError;
use crate::device::tile::Along;
use crate::device::{DeviceGroups, MatrixUnit, argument, warpgroup};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// An operand, one matrix or one a group, each behind the other.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) handle: &'a Handle,
    /// Numbers of the buffer, which must hold all lines and depths of all groups.
    pub(crate) count: usize,
    /// Number at which the first matrix begins.
    pub(crate) base: usize,
    pub(crate) lines: usize,
    pub(crate) depth: usize,
    /// From one row as it lies to the next.
    pub(crate) step: usize,
    pub(crate) along: Along,
}

impl Matrix<'_> {
    /// Numbers of a vector that it can be loaded by.
    pub(super) fn width(&self) -> u32 {
        let together = match self.along {
            Along::Depth => self.depth,
            Along::Lines => self.lines,
        };
        let all = together | self.step | self.base;
        if self.count > 0 && all.is_multiple_of(QUAD as usize) { QUAD } else { 1 }
    }

    /// Where its rows are, in vectors.
    fn rows(&self) -> RowsLaunch {
        let width = self.width() as usize;
        RowsLaunch::new((self.base / width) as u32, (self.step / width) as u32)
    }

    fn argument(&self) -> BufferArg {
        argument(self.handle, self.count)
    }
}

/// Which lines meet which.
#[derive(Clone, Copy)]
pub(crate) enum Groups<'a> {
    /// All of both.
    One,
    /// Lines of `A` by group, each group's with its own `B`.
    Rows(&'a DeviceGroups),
    /// Depths by group, each group with its own `C`; both operands lie along their lines.
    Depth(&'a DeviceGroups),
}

impl Groups<'_> {
    fn count(&self) -> usize {
        match self {
            Self::One => 1,
            Self::Rows(groups) | Self::Depth(groups) => groups.len(),
        }
    }

    fn of_depth(&self) -> bool {
        matches!(self, Self::Depth(_))
    }

    fn kind(&self) -> Grouping {
        match self {
            Self::One => Grouping::One,
            Self::Rows(_) => Grouping::Rows,
            Self::Depth(_) => Grouping::Depth,
        }
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) handle: &'a Handle,
    /// Numbers of the buffer, and the one at which the product begins.
    pub(crate) count: usize,
    pub(crate) base: usize,
    /// Whether it is added to what is there.
    pub(crate) added: bool,
}

/// `C (+)= A B^T` in BF16 with sums in FP32, by the kernel that the plan gives it. `C` must hold a
/// row for each line of `A`, for each group where they are along the depth.
///
/// # Errors
/// [`KernelError::Overflow`] where `C` has more tiles than the device counts.
pub(crate) fn multiply(
    client: &Client,
    op: &'static str,
    unit: MatrixUnit,
    operands: [Matrix<'_>; 2],
    groups: Groups<'_>,
    c: Target<'_>,
) -> Result<(), KernelError> {
    let [a, b] = operands;
    let shape = [a.lines, b.lines, a.depth];
    let kernel = match unit {
        MatrixUnit::Instruction if warpgroups_pay(shape, groups.count()) && !groups.of_depth() => {
            path::kernel(client)
        }
        MatrixUnit::Instruction | MatrixUnit::Emulated => MatrixKernel::Planes,
    };
    multiply_by(client, op, kernel, unit, operands, groups, c)
}

/// [`multiply`] by a kernel.
pub(super) fn multiply_by(
    client: &Client,
    op: &'static str,
    kernel: MatrixKernel,
    unit: MatrixUnit,
    operands: [Matrix<'_>; 2],
    groups: Groups<'_>,
    c: Target<'_>,
) -> Result<(), KernelError> {
    let [a, b] = operands;
    if a.lines * b.lines == 0 || groups.count() == 0 {
        return Ok(());
    }
    // One group has no table: its bounds are made here, where a kernel reads any.
    let bounds = match groups {
        Groups::One => a.handle.clone(),
        Groups::Rows(groups) | Groups::Depth(groups) => match groups.table_handle() {
            Some(table) => table.clone(),
            None => client.create_from_slice(u32::as_bytes(&[0, groups.rows() as u32])),
        },
    };
    let product = Launch { client, op, unit, a, b, groups, bounds: &bounds, c };
    match kernel {
        MatrixKernel::Planes => product.by_planes(),
        MatrixKernel::Warpgroups => product.by_warpgroups(),
    }
}

/// What a launch multiplies.
struct Launch<'a> {
    client: &'a Client,
    op: &'static str,
    unit: MatrixUnit,
    a: Matrix<'a>,
    b: Matrix<'a>,
    groups: Groups<'a>,
    bounds: &'a Handle,
    c: Target<'a>,
}

impl Launch<'_> {
    /// Cubes for tiles of so many rows and columns.
    fn cubes(&self, rows: u32, columns: u32) -> Result<CubeCount, KernelError> {
        let (m, n, rows) = (self.a.lines, self.b.lines, rows as usize);
        let x = n.div_ceil(columns as usize);
        let (y, z) = match self.groups {
            Groups::One => (m.div_ceil(rows), 1),
            Groups::Rows(groups) => (groups.pieces(rows).max(1), 1),
            Groups::Depth(groups) => (m.div_ceil(rows), groups.len()),
        };
        let most = self.client.properties().hardware.max_cube_count;
        if x > most.0 as usize || y > most.1 as usize || z > most.2 as usize {
            let (op, argument, shape) = (self.op, "c", vec![z, m, n]);
            return Err(KernelError::Overflow { op, argument, shape });
        }
        Ok(CubeCount::Static(x as u32, y as u32, z as u32))
    }

    /// The bounds as a kernel's argument, or a buffer that it does not read.
    fn bounds(&self) -> BufferArg {
        let count = if let Groups::One = self.groups { 1 } else { self.groups.count() + 1 };
        argument(self.bounds, count)
    }

    fn by_planes(&self) -> Result<(), KernelError> {
        let Self { client, a, b, c, unit, .. } = self;
        let tile = MatrixTile::of(*unit);
        debug_assert!(!self.groups.of_depth() || [a.along, b.along] == [Along::Lines; 2]);
        let form = Form {
            a_along: a.along,
            a_width: a.width(),
            b_along: b.along,
            b_width: b.width(),
            grouping: self.groups.kind(),
            added: c.added,
            tile,
            unit: *unit,
        };
        let sizes = SizesLaunch::new(
            a.lines as u32,
            b.lines as u32,
            a.depth as u32,
            self.groups.count() as u32,
            a.rows(),
            b.rows(),
            (b.lines * b.depth / b.width() as usize) as u32,
            c.base as u32,
        );
        // SAFETY: the caller's checks found both operands to hold their lines and depths of every
        // group, and `c` as many rows of `n` numbers from its base on; the kernel loads no line or
        // depth outside a group's, writes no element outside them, and reads bounds only of groups
        // that there are.
        unsafe {
            matrix_product::launch_unchecked(
                client,
                self.cubes(tile.rows(), tile.columns())?,
                CubeDim::new_1d(tile.units()),
                a.width() as usize,
                b.width() as usize,
                a.argument(),
                b.argument(),
                self.bounds(),
                argument(c.handle, c.count),
                sizes,
                form,
            );
        }
        Ok(())
    }

    /// By warpgroups, on copies of the operands in pairs along the depth.
    fn by_warpgroups(&self) -> Result<(), KernelError> {
        let Self { client, a, b, c, unit, .. } = self;
        let count = self.groups.count();
        let words = line_words(a.depth);
        let map = |x: &Matrix<'_>, groups: usize, box_rows: u32| {
            warpgroup::map(&pairs(client, x, groups, *unit), groups * x.lines, words, box_rows)
        };
        let maps = (map(a, 1, warpgroup::ROWS), map(b, count, warpgroup::COLUMNS));
        let (Some(a_map), Some(b_map)) = maps else {
            // Nothing to bring: a product of depth zero.
            return self.by_planes();
        };
        let sizes = WarpgroupSizesLaunch::new(
            a.lines as u32,
            b.lines as u32,
            words as u32,
            count as u32,
            c.base as u32,
        );
        // SAFETY: as in `by_planes`; the copy engine brings zeros for what lies outside the operands.
        unsafe {
            matrix_warpgroups::launch_unchecked(
                client,
                self.cubes(warpgroup::ROWS, warpgroup::COLUMNS)?,
                CubeDim::new_1d(warpgroup::UNITS),
                a_map,
                b_map,
                self.bounds(),
                argument(c.handle, c.count),
                sizes,
                self.groups.kind(),
                c.added,
            );
        }
        Ok(())
    }
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;
    use crate::device::{matrix_unit, trial_numbers};
    use crate::metric::calc_diff;
    use half::bf16;

    /// Parts of larger buffers: some of the rows, a product added into the middle of a result, and
    /// nothing else touched. Vectors and single numbers alike.
    #[test]
    fn a_part_of_a_product_is_added_into_a_part_of_a_result() {
        let client = cubecl::Device::default().client();
        let unit = matrix_unit(&client).unwrap_or(MatrixUnit::Emulated);
        for (m, n, k, skipped) in [(40, 36, 44, 4), (33, 35, 37, 3)] {
            let (a, b) = (trial_numbers(1, (m + skipped) * k), trial_numbers(2, n * k));
            let before = trial_numbers(3, (m + 2 * skipped) * n);
            let [on_a, on_b, on_c] =
                [&a, &b, &before].map(|x| client.create_from_slice(f32::as_bytes(x)));
            let matrix = |handle, count, base, lines| Matrix {
                handle,
                count,
                base,
                lines,
                depth: k,
                step: k,
                along: Along::Depth,
            };
            let operands = [matrix(&on_a, a.len(), skipped * k, m), matrix(&on_b, b.len(), 0, n)];
            let target =
                Target { handle: &on_c, count: before.len(), base: skipped * n, added: true };
            multiply(&client, "test", unit, operands, Groups::One, target).unwrap();
            let after = client.read_one(on_c).unwrap();
            let after = &f32::from_bytes(&after)[..before.len()];
            let (first, last) = (skipped * n, (skipped + m) * n);
            assert_eq!(after[..first], before[..first], "{m}: what lies before");
            assert_eq!(after[last..], before[last..], "{m}: what lies behind");
            let round = |x: f32| bf16::from_f32(x).to_f64();
            let expected: Vec<f64> = (first..last)
                .map(|place| {
                    let (row, column) = (place / n, place % n);
                    let dots = (0..k).map(|l| round(a[row * k + l]) * round(b[column * k + l]));
                    f64::from(before[place]) + dots.sum::<f64>()
                })
                .collect();
            let diff = calc_diff(&after[first..last], &expected);
            assert!(diff < 1e-9, "{m}: calc_diff {diff:e}");
        }
    }
}
