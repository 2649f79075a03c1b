//! A matrix as a product takes it, and the launch of a product of two.

use super::direct::{DirectSizesLaunch, StepsLaunch, UNITS as DIRECT_UNITS, product_direct};
use super::kernel::{BLOCK, LinesLaunch, SizesLaunch, UNITS, product};
use super::plan;
use super::planes::{PlaneSizesLaunch, UNITS as PLANE_UNITS, product_planes};
use crate::definition::KernelError;
use crate::device::plane_tile::{LANES, PAIR, PlaneTile, has_plane_tiles};
use crate::device::tile::{Along, EACH, Loads};
use crate::device::{addressable, allocate, argument, check_handle, cubes_of, is_software};
use crate::matrix_product::{self, Groups, LinearPath, Matrix, Target};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// A matrix as a product takes it: its rows, its depth, and the steps along both.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    handle: &'a Handle,
    /// Numbers of the buffer.
    count: usize,
    /// Number at which the first row begins.
    base: usize,
    pub(super) shape: [usize; 2],
    steps: [usize; 2],
}

impl<'a> Operand<'a> {
    /// A matrix that lies in order.
    ///
    /// # Errors
    /// [`KernelError`] where the buffer is too small or the shape cannot be addressed.
    pub(crate) fn new(
        op: &'static str,
        argument: &'static str,
        handle: &'a Handle,
        shape: [usize; 2],
    ) -> Result<Self, KernelError> {
        let count = check_handle(op, argument, handle, 4, &shape)?;
        Ok(Self { handle, count, base: 0, shape, steps: [shape[1], 1] })
    }

    /// Rows become depths.
    pub(crate) fn transposed(mut self) -> Self {
        self.shape.reverse();
        self.steps.reverse();
        self
    }

    /// `rows` of its rows from `first` on; all of them must be there.
    pub(crate) fn rows(mut self, first: usize, rows: usize) -> Self {
        debug_assert!(first + rows <= self.shape[0]);
        self.base += first * self.steps[0];
        self.shape[0] = rows;
        self
    }

    /// What lies together: the depths of a row, or the rows of a depth.
    fn along(&self) -> Along {
        if self.steps[1] == 1 { Along::Depth } else { Along::Lines }
    }

    /// As a product in BF16 takes it.
    fn matrix(&self) -> Matrix<'a> {
        let along = self.along();
        let [row, depth] = self.steps;
        Matrix {
            handle: self.handle,
            count: self.count,
            base: self.base,
            lines: self.shape[0],
            depth: self.shape[1],
            step: if along == Along::Depth { row } else { depth },
            along,
        }
    }

    /// The steps in vectors of `width`.
    fn steps(&self, width: usize) -> StepsLaunch {
        let [row, depth] = self.steps;
        let (row, depth) = match self.along() {
            Along::Depth => (row / width, 0),
            Along::Lines => (0, depth / width),
        };
        StepsLaunch::new((self.base / width) as u32, row as u32, depth as u32)
    }

    /// Whether it can be loaded by vectors of `width`, given that depths are counted in them where
    /// `by_depth`.
    fn has_vectors(&self, width: usize, by_depth: bool) -> bool {
        let [rows, depth] = self.shape;
        let together = match self.along() {
            Along::Depth => self.steps[0] | depth,
            Along::Lines => self.steps[1] | rows | if by_depth { depth } else { 0 },
        };
        self.count > 0 && (together | self.base).is_multiple_of(width)
    }

    fn argument(&self) -> BufferArg {
        argument(self.handle, self.count)
    }
}

/// `C = A B^T` in a buffer of its own, by the kernel that suits the path and the device.
///
/// # Errors
/// Fails as [`multiply_into`] does.
pub(super) fn multiply(
    client: &Client,
    op: &'static str,
    a: Operand<'_>,
    b: Operand<'_>,
    path: LinearPath,
) -> Result<Handle, KernelError> {
    let count = addressable(op, "c", &[a.shape[0], b.shape[0]])?;
    let c = allocate(client, count, 4);
    let target = Target { handle: &c, count, base: 0, added: false };
    multiply_into(client, op, a, b, target, path)?;
    Ok(c)
}

/// `C (+)= A B^T` into a part of a buffer.
///
/// # Errors
/// [`KernelError::Overflow`] where `C` has more tiles than the device counts.
pub(crate) fn multiply_into(
    client: &Client,
    op: &'static str,
    a: Operand<'_>,
    b: Operand<'_>,
    c: Target<'_>,
    path: LinearPath,
) -> Result<(), KernelError> {
    match path {
        LinearPath::Bf16(unit) => {
            let operands = [a.matrix(), b.matrix()];
            matrix_product::multiply(client, op, unit, operands, Groups::One, c)
        }
        LinearPath::F32 if is_software(client) => multiply_direct(client, op, a, b, c),
        LinearPath::F32 => staged(client, op, a, b, c),
    }
}

/// [`multiply_into`] in FP32, by tiles in registers.
fn multiply_direct(
    client: &Client,
    op: &'static str,
    a: Operand<'_>,
    b: Operand<'_>,
    c: Target<'_>,
) -> Result<(), KernelError> {
    let ([m, k], [n, _]) = (a.shape, b.shape);
    if m * n == 0 {
        return Ok(());
    }
    let by_depth = [a, b].iter().any(|operand| operand.along() == Along::Depth);
    let have = |width| [a, b].iter().all(|operand| operand.has_vectors(width, by_depth));
    let pairs = have(PAIR as usize) && (n | c.base).is_multiple_of(PAIR as usize);
    if pairs && has_plane_tiles(client) && PlaneTile::suits(m, n) {
        by_planes(client, a, b, c);
        return Ok(());
    }
    let across = plan::across(m, n);
    let x = n.div_ceil((across * EACH) as usize);
    let y = m.div_ceil((DIRECT_UNITS / across * EACH) as usize);
    check_cubes(client, op, [x, y], [m, n])?;
    let width = if have(4) { 4 } else { 1 };
    let sizes = DirectSizesLaunch::new(
        m as u32,
        n as u32,
        k as u32,
        a.steps(width),
        b.steps(width),
        c.base as u32,
        across,
    );
    // SAFETY: the operands were found to hold their rows and depths, and `c` holds `m` rows of `n`
    // numbers from its base on; lines past the last are read as the last, and not written.
    unsafe {
        product_direct::launch_unchecked(
            client,
            CubeCount::Static(x as u32, y as u32, 1),
            CubeDim::new_1d(DIRECT_UNITS),
            width,
            a.argument(),
            b.argument(),
            argument(c.handle, c.count),
            sizes,
            Loads { a: a.along(), b: b.along(), width: width as u32 },
            c.added,
        );
    }
    Ok(())
}

/// [`multiply_direct`] by tiles of planes, of operands that have pairs.
fn by_planes(client: &Client, a: Operand<'_>, b: Operand<'_>, c: Target<'_>) {
    let ([m, k], [n, _]) = (a.shape, b.shape);
    let width = PAIR as usize;
    let tile = PlaneTile::new(a.along(), b.along());
    let tiles = m.div_ceil(tile.rows as usize) * n.div_ceil(tile.columns() as usize);
    let sizes = PlaneSizesLaunch::new(
        m as u32,
        n as u32,
        k as u32,
        a.steps(width),
        b.steps(width),
        (c.base / width) as u32,
    );
    // SAFETY: as in `multiply_direct`; widths are whole words, a plane past the last tile does
    // nothing, and depths past the last are read as the last.
    unsafe {
        product_planes::launch_unchecked(
            client,
            cubes_of(client, tiles * LANES as usize, PLANE_UNITS),
            CubeDim::new_1d(PLANE_UNITS),
            argument(a.handle, a.count / width),
            argument(b.handle, b.count / width),
            argument(c.handle, c.count / width),
            sizes,
            tile,
            c.added,
        );
    }
}

fn check_cubes(
    client: &Client,
    op: &'static str,
    [x, y]: [usize; 2],
    shape: [usize; 2],
) -> Result<(), KernelError> {
    let most = client.properties().hardware.max_cube_count;
    if x > most.0 as usize || y > most.1 as usize {
        return Err(KernelError::Overflow { op, argument: "c", shape: shape.to_vec() });
    }
    Ok(())
}

/// [`multiply_into`] in FP32, by tiles in shared memory.
fn staged(
    client: &Client,
    op: &'static str,
    a: Operand<'_>,
    b: Operand<'_>,
    c: Target<'_>,
) -> Result<(), KernelError> {
    let ([m, k], [n, _]) = (a.shape, b.shape);
    if m * n == 0 {
        return Ok(());
    }
    let [x, y] = [n, m].map(|size| size.div_ceil(BLOCK as usize));
    check_cubes(client, op, [x, y], [m, n])?;
    let lines =
        |x: Operand<'_>| LinesLaunch::new(x.base as u32, x.steps[0] as u32, x.steps[1] as u32);
    let sizes = SizesLaunch::new(m as u32, n as u32, k as u32, lines(a), lines(b), c.base as u32);
    // SAFETY: both operands were found to hold their rows and depths, and `c` holds `m` rows of `n`
    // numbers from its base on; the kernel loads and writes no element outside `m`, `n` and `k`.
    unsafe {
        product::launch_unchecked(
            client,
            CubeCount::Static(x as u32, y as u32, 1),
            CubeDim::new_1d(UNITS),
            a.argument(),
            b.argument(),
            argument(c.handle, c.count),
            sizes,
            c.added,
        );
    }
    Ok(())
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;
    use crate::metric::calc_diff;

    fn numbers(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| (i * step % 23) as f32 - 11.0).collect()
    }

    /// A device in software takes tiles in registers, so tiles in shared memory are launched here:
    /// some rows of an operand, either one along its rows, added into the middle of a result.
    #[test]
    fn tiles_in_shared_memory_add_a_part_of_a_product_into_a_part_of_a_result() {
        let client = cubecl::Device::default().client();
        let (m, n, k, skipped) = (70, 35, 37, 3);
        let (a, b) = (numbers((m + skipped) * k, 5), numbers(n * k, 7));
        let before = numbers((m + 2 * skipped) * n, 3);
        let transposed: Vec<f32> = (0..k * n).map(|i| b[i % n * k + i / n]).collect();
        let [on_a, on_b, on_transposed] =
            [&a, &b, &transposed].map(|x| client.create_from_slice(f32::as_bytes(x)));
        let left = Operand::new("test", "a", &on_a, [m + skipped, k]).unwrap().rows(skipped, m);
        let rights = [
            Operand::new("test", "b", &on_b, [n, k]).unwrap(),
            Operand::new("test", "b", &on_transposed, [k, n]).unwrap().transposed(),
        ];
        let (first, last) = (skipped * n, (skipped + m) * n);
        let expected: Vec<f64> = (first..last)
            .map(|place| {
                let (row, column) = (place / n, place % n);
                let dots = (0..k).map(|l| f64::from(a[row * k + l]) * f64::from(b[column * k + l]));
                f64::from(before[place]) + dots.sum::<f64>()
            })
            .collect();
        for right in rights {
            let c = client.create_from_slice(f32::as_bytes(&before));
            let target = Target { handle: &c, count: before.len(), base: first, added: true };
            staged(&client, "test", left, right, target).unwrap();
            let after = client.read_one(c).unwrap();
            let after = &f32::from_bytes(&after)[..before.len()];
            assert_eq!(after[..first], before[..first], "what lies before");
            assert_eq!(after[last..], before[last..], "what lies behind");
            assert_eq!(calc_diff(&after[first..last], &expected), 0.0);
        }
    }
}
