//! Operands as a product takes them, and its launch.

use super::kernel::{RowsLaunch, SizesLaunch, matrix_product};
use super::plan::{Form, Grouping, MatrixTile, QUAD};
use crate::definition::KernelError;
use crate::device::tile::Along;
use crate::device::{DeviceGroups, MatrixUnit, argument};
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
    fn width(&self) -> u32 {
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

/// `C (+)= A B^T` in BF16 with sums in FP32. `C` must hold a row for each line of `A`, for each
/// group where they are along the depth.
///
/// # Errors
/// [`KernelError::Overflow`] where `C` has more tiles than the device counts.
pub(crate) fn multiply(
    client: &Client,
    op: &'static str,
    unit: MatrixUnit,
    [a, b]: [Matrix<'_>; 2],
    groups: Groups<'_>,
    c: Target<'_>,
) -> Result<(), KernelError> {
    let (m, n) = (a.lines, b.lines);
    if m * n == 0 {
        return Ok(());
    }
    let tile = MatrixTile::of(unit);
    let (x, rows) = (n.div_ceil(tile.columns() as usize), tile.rows() as usize);
    let (grouping, table, y, z) = match groups {
        Groups::One => (Grouping::One, None, m.div_ceil(rows), 1),
        Groups::Rows(groups) => (Grouping::Rows, Some(groups), groups.pieces(rows), 1),
        Groups::Depth(groups) => {
            debug_assert_eq!([a.along, b.along], [Along::Lines; 2]);
            (Grouping::Depth, Some(groups), m.div_ceil(rows), groups.len())
        }
    };
    let most = client.properties().hardware.max_cube_count;
    if x > most.0 as usize || y > most.1 as usize || z > most.2 as usize {
        return Err(KernelError::Overflow { op, argument: "c", shape: vec![z, m, n] });
    }
    if y * z == 0 {
        return Ok(());
    }
    let form = Form {
        a_along: a.along,
        a_width: a.width(),
        b_along: b.along,
        b_width: b.width(),
        grouping,
        added: c.added,
        tile,
        unit,
    };
    let count = table.map_or(1, DeviceGroups::len);
    // One group has no table: its bounds are made here, where a kernel reads any.
    let bounds = match table.map(DeviceGroups::table_handle) {
        Some(Some(table)) => Some(table.clone()),
        Some(None) => Some(client.create_from_slice(u32::as_bytes(&[0, groups_rows(groups)]))),
        None => None,
    };
    let bounds = match &bounds {
        Some(table) => argument(table, count + 1),
        None => argument(a.handle, 1),
    };
    let sizes = SizesLaunch::new(
        m as u32,
        n as u32,
        a.depth as u32,
        count as u32,
        a.rows(),
        b.rows(),
        (b.lines * b.depth / b.width() as usize) as u32,
        c.base as u32,
    );
    // SAFETY: the caller's checks found both operands to hold their lines and depths of every group,
    // and `c` as many rows of `n` numbers from its base on; the kernel loads no line or depth outside
    // a group's, writes no element outside them, and reads bounds only of groups that there are.
    unsafe {
        matrix_product::launch_unchecked(
            client,
            CubeCount::Static(x as u32, y as u32, z as u32),
            CubeDim::new_1d(tile.units()),
            a.width() as usize,
            b.width() as usize,
            a.argument(),
            b.argument(),
            bounds,
            argument(c.handle, c.count),
            sizes,
            form,
        );
    }
    Ok(())
}

fn groups_rows(groups: Groups<'_>) -> u32 {
    match groups {
        Groups::One => 0,
        Groups::Rows(groups) | Groups::Depth(groups) => groups.rows() as u32,
    }
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;
    use crate::device::matrix_unit;
    use crate::metric::calc_diff;
    use half::bf16;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// Parts of larger buffers: some of the rows, a product added into the middle of a result, and
    /// nothing else touched. Vectors and single numbers alike.
    #[test]
    fn a_part_of_a_product_is_added_into_a_part_of_a_result() {
        let client = cubecl::Device::default().client();
        let unit = matrix_unit(&client).unwrap_or(MatrixUnit::Emulated);
        for (m, n, k, skipped) in [(40, 36, 44, 4), (33, 35, 37, 3)] {
            let (a, b) = (numbers((m + skipped) * k, 1), numbers(n * k, 2));
            let before = numbers((m + 2 * skipped) * n, 3);
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
