//! A matrix as a product takes it, and the launch of a product of two.

use super::direct::{DirectSizesLaunch, StepsLaunch, UNITS as DIRECT_UNITS, product_direct};
use super::kernel::{BLOCK, SizesLaunch, UNITS, product};
use super::plan;
use super::planes::{PlaneSizesLaunch, UNITS as PLANE_UNITS, product_planes};
use crate::definition::KernelError;
use crate::device::plane_tile::{LANES, PAIR, PlaneTile, has_plane_tiles};
use crate::device::tile::{Along, EACH, Loads};
use crate::device::{addressable, allocate, argument, check_handle, cubes_of, is_software};
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

/// `C = A B^T` in a buffer of its own, by the kernel that suits the device.
///
/// # Errors
/// [`KernelError::Overflow`] where `C` has more tiles than the device counts.
pub(super) fn multiply(
    client: &Client,
    op: &'static str,
    a: Operand<'_>,
    b: Operand<'_>,
) -> Result<Handle, KernelError> {
    let count = addressable(op, "c", &[a.shape[0], b.shape[0]])?;
    let c = allocate(client, count, 4);
    if is_software(client) {
        let target = Target { handle: &c, count, base: 0, added: false };
        multiply_direct(client, op, a, b, target)?;
    } else if count > 0 {
        staged(client, op, a, b, &c, count)?;
    }
    Ok(c)
}

/// `C (+)= A B^T` into a part of a buffer, by tiles in registers.
///
/// # Errors
/// Fails as [`multiply`] does.
pub(crate) fn multiply_direct(
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

/// `C = A B^T` by tiles in shared memory.
fn staged(
    client: &Client,
    op: &'static str,
    a: Operand<'_>,
    b: Operand<'_>,
    c: &Handle,
    count: usize,
) -> Result<(), KernelError> {
    let ([m, k], [n, _]) = (a.shape, b.shape);
    let [x, y] = [n, m].map(|size| size.div_ceil(BLOCK as usize));
    check_cubes(client, op, [x, y], [m, n])?;
    let sizes = SizesLaunch::new(
        m as u32,
        n as u32,
        k as u32,
        a.steps[0] as u32,
        a.steps[1] as u32,
        b.steps[0] as u32,
        b.steps[1] as u32,
    );
    // SAFETY: both operands were found to hold their rows and depths and `c` was allocated for
    // `count` numbers; the kernel loads and writes no element outside `m`, `n` and `k`.
    unsafe {
        product::launch_unchecked(
            client,
            CubeCount::Static(x as u32, y as u32, 1),
            CubeDim::new_1d(UNITS),
            a.argument(),
            b.argument(),
            argument(c, count),
            sizes,
        );
    }
    Ok(())
}
