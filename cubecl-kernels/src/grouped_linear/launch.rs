//! Checks and launches.

use super::kernel::grouped_product;
use super::plan::Tile;
use super::planes::{UNITS as PLANE_UNITS, grouped_planes};
use super::problem::{Along, SizesLaunch};
use crate::definition::{GroupedLinearShape, KernelError};
use crate::device::plane_tile::{LANES, PAIR, PlaneTile, has_plane_tiles};
use crate::device::tile::Along as Together;
use crate::device::{DeviceGroups, addressable, allocate, argument, check_handle, cubes_of};
use crate::matrix_product::{self, Groups, LinearPath, Matrix, Target};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// `y[r] = w[e] x[r]` of the rows of each expert, in the format that the path has.
///
/// # Shapes
/// `x` `[rows, inputs]` sorted by expert, `w` `[experts, outputs, inputs]` -> `[rows, outputs]`,
/// zero where `inputs` is.
///
/// # Errors
/// [`KernelError`] where a buffer is too small, groups and shape disagree, or a size cannot be
/// addressed.
pub fn grouped_linear(
    client: &Client,
    x: &Handle,
    w: &Handle,
    groups: &DeviceGroups,
    shape: &GroupedLinearShape,
    path: LinearPath,
) -> Result<Handle, KernelError> {
    const OP: &str = "grouped_linear";
    let GroupedLinearShape { rows, experts, inputs, outputs } = *shape;
    let x = Operand::new(OP, "x", x, 1, rows, inputs)?;
    let w = Operand::new(OP, "w", w, experts, outputs, inputs)?;
    of_rows(client, OP, x, w, groups, shape, path)
}

/// `dx[r] = w[e]^T dy[r]` of the rows of each expert, in the format that the path has.
///
/// # Shapes
/// `dy` `[rows, outputs]`, `w` `[experts, outputs, inputs]` -> `[rows, inputs]`.
///
/// # Errors
/// Fails as [`grouped_linear`] does.
pub fn grouped_linear_input_gradient(
    client: &Client,
    dy: &Handle,
    w: &Handle,
    groups: &DeviceGroups,
    shape: &GroupedLinearShape,
    path: LinearPath,
) -> Result<Handle, KernelError> {
    const OP: &str = "grouped_linear_input_gradient";
    let GroupedLinearShape { rows, experts, inputs, outputs } = *shape;
    let dy = Operand::new(OP, "dy", dy, 1, rows, outputs)?;
    let w = Operand::new(OP, "w", w, experts, outputs, inputs)?;
    of_rows(client, OP, dy, w.transposed(), groups, shape, path)
}

/// `dw[e]`, the sum of `dy[r] x[r]^T` over the rows of each expert, in the format that the
/// path has; zero for an expert without rows.
///
/// # Shapes
/// `dy` `[rows, outputs]`, `x` `[rows, inputs]` -> `[experts, outputs, inputs]`.
///
/// # Errors
/// Fails as [`grouped_linear`] does.
pub fn grouped_linear_weight_gradient(
    client: &Client,
    dy: &Handle,
    x: &Handle,
    groups: &DeviceGroups,
    shape: &GroupedLinearShape,
    path: LinearPath,
) -> Result<Handle, KernelError> {
    const OP: &str = "grouped_linear_weight_gradient";
    let GroupedLinearShape { rows, experts, inputs, outputs } = *shape;
    check_groups(OP, groups, shape)?;
    let dy = Operand::new(OP, "dy", dy, 1, rows, outputs)?.transposed();
    let x = Operand::new(OP, "x", x, 1, rows, inputs)?.transposed();
    let c = [experts, outputs, inputs];
    launch(client, OP, [&dy, &x], groups, c, Along::Depth, path)
}

fn of_rows(
    client: &Client,
    op: &'static str,
    a: Operand<'_>,
    w: Operand<'_>,
    groups: &DeviceGroups,
    shape: &GroupedLinearShape,
    path: LinearPath,
) -> Result<Handle, KernelError> {
    check_groups(op, groups, shape)?;
    launch(client, op, [&a, &w], groups, [1, a.rows, w.rows], Along::Rows, path)
}

fn check_groups(
    op: &'static str,
    groups: &DeviceGroups,
    shape: &GroupedLinearShape,
) -> Result<(), KernelError> {
    if groups.rows() == shape.rows && groups.len() == shape.experts {
        return Ok(());
    }
    let requirement = "must be as many as experts, and cover the rows";
    Err(KernelError::Invalid { op, argument: "groups", requirement })
}

/// Matrices, one an expert or one for all, as a product takes them: their rows, their depth, and
/// the steps along both.
struct Operand<'a> {
    handle: &'a Handle,
    count: usize,
    rows: usize,
    depth: usize,
    steps: [usize; 2],
}

impl<'a> Operand<'a> {
    fn new(
        op: &'static str,
        argument: &'static str,
        handle: &'a Handle,
        experts: usize,
        rows: usize,
        depth: usize,
    ) -> Result<Self, KernelError> {
        let count = check_handle(op, argument, handle, 4, &[experts, rows, depth])?;
        Ok(Self { handle, count, rows, depth, steps: [depth, 1] })
    }

    /// As a product in BF16 takes it.
    fn matrix(&self) -> Matrix<'a> {
        let along = self.together();
        Matrix {
            handle: self.handle,
            count: self.count,
            base: 0,
            lines: self.rows,
            depth: self.depth,
            step: if along == Together::Depth { self.steps[0] } else { self.steps[1] },
            along,
        }
    }

    /// What lies together: the depths of a row, or the rows of a depth.
    fn together(&self) -> Together {
        if self.steps[1] == 1 { Together::Depth } else { Together::Lines }
    }

    fn transposed(mut self) -> Self {
        std::mem::swap(&mut self.rows, &mut self.depth);
        self.steps.reverse();
        self
    }
}

/// `C = A B^T` of each expert.
fn launch(
    client: &Client,
    op: &'static str,
    [a, b]: [&Operand<'_>; 2],
    groups: &DeviceGroups,
    shape: [usize; 3],
    along: Along,
    path: LinearPath,
) -> Result<Handle, KernelError> {
    let count = addressable(op, "c", &shape)?;
    let c = allocate(client, count, 4);
    if count == 0 {
        return Ok(c);
    }
    if let LinearPath::Bf16(unit) = path {
        let target = Target { handle: &c, count, base: 0, added: false };
        let by = match along {
            Along::Rows => Groups::Rows(groups),
            Along::Depth => Groups::Depth(groups),
        };
        matrix_product::multiply(client, op, unit, [a.matrix(), b.matrix()], by, target)?;
        return Ok(c);
    }
    // One group has no table: its bounds are made here.
    let bounds = match groups.table_handle() {
        Some(table) => table.clone(),
        None => client.create_from_slice(u32::as_bytes(&[0, groups.rows() as u32])),
    };
    let product = Product { client, a, b, groups, bounds: &bounds, c: &c, shape, along };
    if product.suits_planes() {
        product.by_planes(count);
    } else {
        product.by_cubes(op, count)?;
    }
    Ok(c)
}

/// What a launch multiplies.
struct Product<'a> {
    client: &'a Client,
    a: &'a Operand<'a>,
    b: &'a Operand<'a>,
    groups: &'a DeviceGroups,
    bounds: &'a Handle,
    c: &'a Handle,
    /// Experts, rows and columns of `C`; one expert where its rows are an expert's.
    shape: [usize; 3],
    along: Along,
}

impl Product<'_> {
    /// Whether planes that share their loads serve it: the device has them, and all sizes but an
    /// expert's rows are even.
    fn suits_planes(&self) -> bool {
        let [_, m, n] = self.shape;
        // Rows of an expert, about.
        let (rows, even) = match self.along {
            Along::Rows => (self.groups.rows() / self.groups.len().max(1), n | self.a.depth),
            Along::Depth => (m, n | m),
        };
        self.a.count > 0
            && self.b.count > 0
            && PlaneTile::suits(rows, n)
            && even.is_multiple_of(PAIR as usize)
            && has_plane_tiles(self.client)
    }

    /// The sizes, steps in words of `width` numbers.
    fn sizes(&self, width: usize) -> SizesLaunch {
        let [_, m, n] = self.shape;
        let step = |step: usize| (step / width) as u32;
        SizesLaunch::new(
            m as u32,
            n as u32,
            self.a.depth as u32,
            self.groups.len() as u32,
            step(self.a.steps[0]),
            step(self.a.steps[1]),
            step(self.b.steps[0]),
            step(self.b.steps[1]),
            step(self.b.rows * self.b.depth),
        )
    }

    fn by_planes(&self, count: usize) {
        let tile = PlaneTile::new(self.a.together(), self.b.together());
        let [experts, m, n] = self.shape;
        let down = match self.along {
            Along::Rows => self.groups.pieces(tile.rows as usize),
            Along::Depth => experts * m.div_ceil(tile.rows as usize),
        };
        let planes = n.div_ceil(tile.columns() as usize) * down;
        // SAFETY: as in `by_cubes`; widths are whole words, a plane past the last tile does
        // nothing, and depths past an expert's last row are read as that.
        unsafe {
            grouped_planes::launch_unchecked(
                self.client,
                cubes_of(self.client, planes * LANES as usize, PLANE_UNITS),
                CubeDim::new_1d(PLANE_UNITS),
                argument(self.a.handle, self.a.count / 2),
                argument(self.b.handle, self.b.count / 2),
                argument(self.bounds, self.groups.len() + 1),
                argument(self.c, count / 2),
                self.sizes(PAIR as usize),
                planes as u32,
                self.along,
                tile,
            );
        }
    }

    fn by_cubes(&self, op: &'static str, count: usize) -> Result<(), KernelError> {
        let tile = Tile::of(self.client);
        let [experts, m, n] = self.shape;
        let (rows, x) = (tile.rows() as usize, n.div_ceil(tile.columns() as usize));
        let (y, z) = match self.along {
            Along::Rows => (self.groups.pieces(rows), 1),
            Along::Depth => (m.div_ceil(rows), experts),
        };
        let most = self.client.properties().hardware.max_cube_count;
        if x > most.0 as usize || y > most.1 as usize || z > most.2 as usize {
            return Err(KernelError::Overflow { op, argument: "c", shape: self.shape.to_vec() });
        }
        // SAFETY: both operands were found to hold their rows and depths of every expert, the bounds
        // are those of as many groups as there are experts, and `c` was allocated for `count`
        // numbers. The kernel loads no row or depth outside an expert's (the last row for those
        // behind it, and nothing where an expert has no row), and writes no element outside `m` and
        // `n`.
        unsafe {
            grouped_product::launch_unchecked(
                self.client,
                CubeCount::Static(x as u32, y as u32, z as u32),
                CubeDim::new_1d(tile.cube()),
                argument(self.a.handle, self.a.count),
                argument(self.b.handle, self.b.count),
                argument(self.bounds, self.groups.len() + 1),
                argument(self.c, count),
                self.sizes(1),
                self.along,
                tile,
            );
        }
        Ok(())
    }
}
