//! One product on one kernel: the kernel's cubes, its arguments, and the launch.

use super::kernel::emulated::{self, Accumulator, gemm_emulated};
use super::kernel::problem::{GemmForm, Grouping, OperandLaunch, SizesLaunch};
use super::kernel::tensor_core::{self, gemm_mma};
use super::kernel::tiles::{TilePlan, gemm_tiles};
use super::kernel::warpgroup::{MappedOperandLaunch, gemm_warpgroups};
use super::pad::{self, Rows, padded_words};
use super::plan;
use super::product::{Buffer, Kind, Product};
use crate::definition::KernelError;
use crate::device::warpgroup;
use crate::device::{Element, addressable, allocate, argument, check_handle};
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::bf16;

/// A kernel, with what it needs beside the product's buffers.
pub(super) enum Kernel {
    /// The portable one, by this tile.
    Tiles(TilePlan),
    /// Tensor cores by `mma`.
    TensorCore,
    /// Tensor cores by `wgmma`, how the copy engine sees both operands, and whether these are
    /// copies whose groups along the depth are padded.
    Warpgroups(Box<[TensorMapArg<Tiled>; 2]>, bool),
    /// An emulated accumulator.
    Emulated(Accumulator),
}

impl Kernel {
    /// The portable kernel with the tile that the plan gives a product.
    pub(super) fn portable(product: &Product<'_>) -> Self {
        let rows_a_group = match &product.kind {
            Kind::Rows(groups, _) => product.m / groups.len().max(1),
            _ => product.m,
        };
        Self::Tiles(plan::tile(product.client, rows_a_group, product.n))
    }

    /// The kernel of warpgroups, on copies of the operands where the copy engine cannot bring them
    /// as they lie: where groups meet within a tile, or rows do not begin at multiples of 16 bytes.
    ///
    /// # Errors
    /// [`KernelError::Overflow`] where a copy cannot be addressed.
    pub(super) fn warpgroups(product: &Product<'_>) -> Result<Self, KernelError> {
        let strides = [product.a_strides[0], product.b_words];
        let codes = [&product.a[0], &product.b[0]];
        let as_they_lie = !matches!(product.kind, Kind::Depth(..))
            && codes.iter().zip(strides).all(|(x, words)| pad::fits(x.handle, words));
        let map = |codes: &Buffer<'_>, words: usize, box_rows: u32| {
            let rows = codes.count.checked_div(words).unwrap_or(0);
            if as_they_lie {
                return Ok(warpgroup::map(codes.handle, rows, words, box_rows));
            }
            let tiles = product.a_strides[1];
            let copy = pad::padded(product, codes, Rows { rows, words, tiles })?;
            Ok::<_, KernelError>(warpgroup::map(&copy, rows, padded_words(tiles), box_rows))
        };
        let a = map(codes[0], strides[0], warpgroup::ROWS)?;
        let b = map(codes[1], strides[1], warpgroup::COLUMNS)?;
        Ok(match (a, b) {
            (Some(a), Some(b)) => Self::Warpgroups(Box::new([a, b]), !as_they_lie),
            // Nothing to bring: a product of depth zero.
            _ => Self::portable(product),
        })
    }

    /// Rows and columns of `C` that a cube computes, and its units.
    fn cube(&self) -> (usize, usize, u32) {
        match self {
            Self::Tiles(tile) => (tile.rows() as usize, tile.columns() as usize, tile.cube()),
            Self::TensorCore => {
                (tensor_core::BLOCK as usize, tensor_core::BLOCK as usize, tensor_core::UNITS)
            }
            Self::Warpgroups(..) => {
                (warpgroup::ROWS as usize, warpgroup::COLUMNS as usize, warpgroup::UNITS)
            }
            Self::Emulated(_) => (1, emulated::UNITS as usize, emulated::UNITS),
        }
    }
}

/// The product in a new buffer, by the kernel that `choose` gives it; an empty product asks for
/// none.
pub(super) fn run(
    product: &Product<'_>,
    choose: impl FnOnce(&Product<'_>) -> Result<Kernel, KernelError>,
    element: Element,
) -> Result<Handle, KernelError> {
    element.check(product.client, product.op, "element")?;
    let count = addressable(product.op, "c", &[product.experts_of_c, product.m, product.n])?;
    let c = allocate(product.client, count, element.size());
    if count > 0 {
        launch(product, choose(product)?, &c, count, element, false)?;
    }
    Ok(c)
}

/// The product added to `c`, by the kernel that `choose` gives it.
pub(super) fn accumulate(
    product: &Product<'_>,
    choose: impl FnOnce(&Product<'_>) -> Result<Kernel, KernelError>,
    c: &Handle,
) -> Result<(), KernelError> {
    let shape = [product.experts_of_c, product.m, product.n];
    let count = check_handle(product.op, "c", c, Element::F32.size(), &shape)?;
    if count > 0 {
        launch(product, choose(product)?, c, count, Element::F32, true)?;
    }
    Ok(())
}

fn launch(
    product: &Product<'_>,
    kernel: Kernel,
    c: &Handle,
    count: usize,
    element: Element,
    accumulate: bool,
) -> Result<(), KernelError> {
    let (client, op) = (product.client, product.op);
    let (cube_rows, cube_columns, units) = kernel.cube();
    let (grouping, table, row_cubes, z) = match &product.kind {
        Kind::Dense => (
            Grouping::Dense,
            Buffer { handle: product.a[0].handle, count: 1 },
            product.m.div_ceil(cube_rows),
            1,
        ),
        Kind::Rows(groups, table) => (
            Grouping::Rows,
            Buffer { handle: table, count: 3 * (groups.len() + 1) },
            groups.pieces(cube_rows),
            1,
        ),
        Kind::Masked(groups, rows, counts) => (
            Grouping::Masked,
            Buffer { handle: counts, count: *groups },
            rows.div_ceil(cube_rows),
            *groups,
        ),
        Kind::Depth(groups, table) => (
            Grouping::Depth,
            Buffer { handle: table, count: 3 * (groups + 1) },
            product.m.div_ceil(cube_rows),
            *groups,
        ),
    };
    let cubes = plan::cubes(client, op, [product.n.div_ceil(cube_columns), row_cubes, z])?;
    let form = GemmForm {
        a_format: product.formats[0],
        b_format: product.formats[1],
        grouping,
        b_scale: product.b_scale,
        accumulate,
        padded: product.padded || matches!(kernel, Kernel::Warpgroups(_, true)),
    };
    let groups = match &product.kind {
        Kind::Rows(groups, _) => groups.len(),
        _ => z,
    };
    let sizes = SizesLaunch::new(
        product.m as u32,
        product.n as u32,
        product.k as u32,
        groups as u32,
        product.a_strides[0] as u32,
        product.a_strides[1] as u32,
        product.b_words as u32,
        product.b_strides[0],
        product.b_strides[1],
        product.b_strides[2],
    );
    let dim = CubeDim::new_1d(units);
    let c = argument(c, count);
    let table = table.argument();
    let operand =
        |[codes, scales]: &[Buffer<'_>; 2]| OperandLaunch::new(codes.argument(), scales.argument());
    let (a, b) = (operand(&product.a), operand(&product.b));
    match kernel {
        Kernel::Tiles(tile) => {
            let launch = match element {
                Element::F32 => gemm_tiles::launch_unchecked::<f32>,
                Element::Bf16 => gemm_tiles::launch_unchecked::<bf16>,
            };
            // SAFETY: every buffer holds what `Product` checked of it and is passed with that
            // length; the kernel clamps the rows and columns that it reads to those, zeroes words
            // past the depth, and writes no element of `C` outside `m` and `n`. Its loops count up
            // to a number of tiles.
            unsafe {
                launch(client, cubes, dim, a, b, table, c, sizes, form, tile);
            }
        }
        Kernel::TensorCore => {
            let launch = match element {
                Element::F32 => gemm_mma::launch_unchecked::<f32>,
                Element::Bf16 => gemm_mma::launch_unchecked::<bf16>,
            };
            // SAFETY: every buffer holds what `Product` checked of it and is passed with that
            // length; the kernel clamps the rows and columns that it reads to those, zeroes words
            // past the depth, and writes no element of `C` outside `m` and `n`. Its loops count up
            // to a number of steps. That the device has the instruction was found out before it was
            // chosen.
            unsafe {
                launch(client, cubes, dim, a, b, table, c, sizes, form);
            }
        }
        Kernel::Warpgroups(maps, _) => {
            let launch = match element {
                Element::F32 => gemm_warpgroups::launch_unchecked::<f32>,
                Element::Bf16 => gemm_warpgroups::launch_unchecked::<bf16>,
            };
            let [a, b] = *maps;
            let a = MappedOperandLaunch::new(a, product.a[1].argument());
            let b = MappedOperandLaunch::new(b, product.b[1].argument());
            // SAFETY: the maps were made of buffers that `Product` checked, or of padded copies of
            // them, with as many rows as they hold, and the copy engine fills what lies outside a
            // map with zeros; the kernel clamps the rows and columns of scales, and writes no element of `C` outside `m` and
            // `n`. Its loops count up to a number of rounds, and each wait is for copies that the
            // last plane has asked for.
            unsafe {
                launch(client, cubes, dim, a, b, table, c, sizes, form);
            }
        }
        Kernel::Emulated(own) => {
            let launch = match element {
                Element::F32 => gemm_emulated::launch_unchecked::<f32>,
                Element::Bf16 => gemm_emulated::launch_unchecked::<bf16>,
            };
            // SAFETY: every buffer holds what `Product` checked of it and is passed with that
            // length; a unit outside `m` and `n` does nothing, and the others read the words of
            // their own row and column. Its loops count up to the words of the depth.
            unsafe {
                launch(client, cubes, dim, a, b, table, c, sizes, form, own);
            }
        }
    }
    Ok(())
}
