//! Checks and launches.

use super::kernel::{Along, SizesLaunch, grouped_product};
use super::plan::Tile;
use crate::definition::{GroupedLinearShape, KernelError};
use crate::device::{DeviceGroups, addressable, allocate, argument, check_handle};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// `y[r] = w[e] x[r]` of the rows of each expert, in FP32.
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
) -> Result<Handle, KernelError> {
    const OP: &str = "grouped_linear";
    let GroupedLinearShape { rows, experts, inputs, outputs } = *shape;
    let x = Operand::new(OP, "x", x, 1, rows, inputs)?;
    let w = Operand::new(OP, "w", w, experts, outputs, inputs)?;
    of_rows(client, OP, x, w, groups, shape)
}

/// `dx[r] = w[e]^T dy[r]` of the rows of each expert, in FP32.
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
) -> Result<Handle, KernelError> {
    const OP: &str = "grouped_linear_input_gradient";
    let GroupedLinearShape { rows, experts, inputs, outputs } = *shape;
    let dy = Operand::new(OP, "dy", dy, 1, rows, outputs)?;
    let w = Operand::new(OP, "w", w, experts, outputs, inputs)?;
    of_rows(client, OP, dy, w.transposed(), groups, shape)
}

/// `dw[e]`, the sum of `dy[r] x[r]^T` over the rows of each expert, in FP32; zero for an expert
/// without rows.
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
) -> Result<Handle, KernelError> {
    const OP: &str = "grouped_linear_weight_gradient";
    let GroupedLinearShape { rows, experts, inputs, outputs } = *shape;
    check_groups(OP, groups, shape)?;
    let dy = Operand::new(OP, "dy", dy, 1, rows, outputs)?.transposed();
    let x = Operand::new(OP, "x", x, 1, rows, inputs)?.transposed();
    let tile = Tile::of(client);
    let cubes =
        [inputs.div_ceil(tile.columns() as usize), outputs.div_ceil(tile.rows() as usize), experts];
    let c = [experts, outputs, inputs];
    launch(client, OP, &dy, &x, groups, c, cubes, Along::Depth, tile)
}

fn of_rows(
    client: &Client,
    op: &'static str,
    a: Operand<'_>,
    w: Operand<'_>,
    groups: &DeviceGroups,
    shape: &GroupedLinearShape,
) -> Result<Handle, KernelError> {
    check_groups(op, groups, shape)?;
    let tile = Tile::of(client);
    let width = w.rows;
    let cubes = [width.div_ceil(tile.columns() as usize), groups.pieces(tile.rows() as usize), 1];
    launch(client, op, &a, &w, groups, [1, a.rows, width], cubes, Along::Rows, tile)
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

    fn transposed(mut self) -> Self {
        std::mem::swap(&mut self.rows, &mut self.depth);
        self.steps.reverse();
        self
    }
}

/// `C = A B^T` of each expert.
#[allow(clippy::too_many_arguments)]
fn launch(
    client: &Client,
    op: &'static str,
    a: &Operand<'_>,
    b: &Operand<'_>,
    groups: &DeviceGroups,
    shape: [usize; 3],
    [x, y, z]: [usize; 3],
    along: Along,
    tile: Tile,
) -> Result<Handle, KernelError> {
    let count = addressable(op, "c", &shape)?;
    let c = allocate(client, count, 4);
    if count == 0 {
        return Ok(c);
    }
    let most = client.properties().hardware.max_cube_count;
    if x > most.0 as usize || y > most.1 as usize || z > most.2 as usize {
        return Err(KernelError::Overflow { op, argument: "c", shape: shape.to_vec() });
    }
    // One group has no table: its bounds are made here.
    let bounds = match groups.table_handle() {
        Some(table) => table.clone(),
        None => client.create_from_slice(u32::as_bytes(&[0, groups.rows() as u32])),
    };
    let sizes = SizesLaunch::new(
        shape[1] as u32,
        shape[2] as u32,
        a.depth as u32,
        groups.len() as u32,
        a.steps[0] as u32,
        a.steps[1] as u32,
        b.steps[0] as u32,
        b.steps[1] as u32,
        (b.rows * b.depth) as u32,
    );
    // SAFETY: both operands were found to hold their rows and depths of every expert, the bounds are
    // those of as many groups as there are experts, and `c` was allocated for `count` numbers. The
    // kernel loads no row or depth outside an expert's (the last row for those behind it, and
    // nothing where an expert has no row), and writes no element outside `m` and `n`.
    unsafe {
        grouped_product::launch_unchecked(
            client,
            CubeCount::Static(x as u32, y as u32, z as u32),
            CubeDim::new_1d(tile.cube()),
            argument(a.handle, a.count),
            argument(b.handle, b.count),
            argument(&bounds, groups.len() + 1),
            argument(&c, count),
            sizes,
            along,
            tile,
        );
    }
    Ok(c)
}
