//! The products' checks and launches.

use super::emulated::{self, Accumulator, gemm_emulated};
use super::kernel::{GemmForm, Grouping, ScaleOf, SizesLaunch, TilePlan, gemm_tiles};
use super::operand::{DeviceBlockTiled, DeviceRowTiled};
use super::path::{ProductPath, product_path};
use super::plan;
use super::tensor_core::{self, gemm_mma};
use super::warpgroup::{self, gemm_warpgroups};
use crate::definition::{Accumulation, Fp8Format, KernelError, tiles, words};
use crate::quantize::Element;
use crate::quantize::operand::{addressable, allocate, argument, check_handle};
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::bf16;

/// `C = A B^T` of an activation and a weight (1x128 | 128x128): Fprop, and Dgrad with the weight's
/// transposed codes.
///
/// `c[i, j] = sum over tiles t of a_scale[i, t] b_scale[j / 128, t] (sum over k in t of a[i, k] b[j, k])`,
/// products exact, sums in FP32 ([`Accumulation`]).
///
/// # Shapes
/// `a` `[m, k]`, `b` `[n, k]` (one expert) -> `[m, n]` of `element`, zero where `k` is.
///
/// # Errors
/// [`KernelError`] where a buffer is too small, the depths differ, `b` has not one expert,
/// `accumulation` has not 2 to 24 bits, or the device lacks `element`.
pub fn fp8_gemm_nt(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    b: &DeviceBlockTiled<'_>,
    accumulation: Accumulation,
    element: Element,
) -> Result<Handle, KernelError> {
    Product::with_weight(client, "fp8_gemm_nt", a, b, Kind::Dense)?.with(accumulation)?.run(element)
}

/// [`fp8_gemm_nt`] with a tile of the caller's choice: for tests and tuning.
///
/// # Errors
/// As [`fp8_gemm_nt`], and where the device has not so many units or so much shared memory.
pub fn fp8_gemm_nt_planned(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    b: &DeviceBlockTiled<'_>,
    tile: TilePlan,
) -> Result<Handle, KernelError> {
    Product::with_weight(client, "fp8_gemm_nt_planned", a, b, Kind::Dense)?
        .planned(tile)?
        .run(Element::F32)
}

/// `C += A B^T` into FP32; see [`fp8_gemm_nt`].
///
/// # Shapes
/// `c` `[m, n]`.
///
/// # Errors
/// As [`fp8_gemm_nt`], and where `c` is too small.
pub fn fp8_gemm_nt_accumulate(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    b: &DeviceBlockTiled<'_>,
    accumulation: Accumulation,
    c: &Handle,
) -> Result<(), KernelError> {
    Product::with_weight(client, "fp8_gemm_nt_accumulate", a, b, Kind::Dense)?
        .with(accumulation)?
        .accumulate(c)
}

/// `C = A B^T` of two matrices tiled along their rows (1x128 | 1x128): Wgrad, `dw = dy^T x`, from
/// the column tiles of both, which are stored transposed.
///
/// # Shapes
/// `a` `[m, k]`, `b` `[n, k]` -> FP32 `[m, n]`, zero where `k` is; for Wgrad `m` outputs, `n`
/// inputs, `k` tokens.
///
/// # Errors
/// As [`fp8_gemm_nt`].
pub fn fp8_wgrad_nt(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    b: &DeviceRowTiled<'_>,
    accumulation: Accumulation,
) -> Result<Handle, KernelError> {
    Product::of_rows(client, "fp8_wgrad_nt", a, b)?.with(accumulation)?.run(Element::F32)
}

/// `C += A B^T` into FP32: weight gradients of several micro-batches summed; see [`fp8_wgrad_nt`].
///
/// # Errors
/// As [`fp8_wgrad_nt`], and where `c` is too small.
pub fn fp8_wgrad_nt_accumulate(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    b: &DeviceRowTiled<'_>,
    accumulation: Accumulation,
    c: &Handle,
) -> Result<(), KernelError> {
    Product::of_rows(client, "fp8_wgrad_nt_accumulate", a, b)?.with(accumulation)?.accumulate(c)
}

/// Which rows meet which, with the table on the device that says so.
pub(crate) enum Kind<'a> {
    Dense,
    /// Offsets of the groups' rows, and their table.
    Rows(&'a [usize], &'a Handle),
    /// Rows of room for each expert, and the counts.
    Masked(usize, usize, &'a Handle),
    /// The number of groups, and their table.
    Depth(usize, &'a Handle),
}

/// Which kernel computes a product with promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// What [`product_path`] and the plan say.
    Best,
    /// The portable kernel with the plan's tile, or with this one.
    Portable,
    Tile(TilePlan),
    /// Tensor cores by `mma` or by `wgmma`, whether they were tried or not.
    TensorCore,
    Warpgroups,
}

/// A kernel and its cube: rows and columns of `C`, and units.
enum Kernel {
    Tiles(TilePlan),
    TensorCore,
    Warpgroups(Box<[TensorMapArg<Tiled>; 2]>),
    Emulated(Accumulator),
}

impl Kernel {
    fn cube(&self) -> (usize, usize, u32) {
        match self {
            Self::Tiles(tile) => (tile.rows() as usize, tile.columns() as usize, tile.cube()),
            Self::TensorCore => {
                (tensor_core::BLOCK as usize, tensor_core::BLOCK as usize, tensor_core::UNITS)
            }
            Self::Warpgroups(_) => {
                (warpgroup::ROWS as usize, warpgroup::COLUMNS as usize, warpgroup::UNITS)
            }
            Self::Emulated(_) => (1, emulated::UNITS as usize, emulated::UNITS),
        }
    }
}

struct Buffer<'a> {
    handle: &'a Handle,
    count: usize,
}

impl Buffer<'_> {
    fn argument(&self) -> BufferArg {
        argument(self.handle, self.count)
    }
}

/// A product whose operands were checked.
pub(crate) struct Product<'a> {
    client: &'a Client,
    op: &'static str,
    a: [Buffer<'a>; 2],
    b: [Buffer<'a>; 2],
    formats: [Fp8Format; 2],
    kind: Kind<'a>,
    /// Rows of `C` a group, for the plan; rows and columns of all of `C`.
    m: usize,
    n: usize,
    k: usize,
    experts_of_c: usize,
    a_strides: [usize; 2],
    b_words: usize,
    b_scale: ScaleOf,
    b_strides: [u32; 3],
    accumulation: Accumulation,
    choice: Choice,
}

impl<'a> Product<'a> {
    /// Row tiles against blocks.
    pub(crate) fn with_weight(
        client: &'a Client,
        op: &'static str,
        a: &DeviceRowTiled<'a>,
        b: &DeviceBlockTiled<'a>,
        kind: Kind<'a>,
    ) -> Result<Self, KernelError> {
        a.check(op, "a")?;
        b.check(op, "b")?;
        same_depth(op, a.depth, b.depth)?;
        let groups = match &kind {
            Kind::Dense => 1,
            Kind::Rows(offsets, _) => offsets.len() - 1,
            Kind::Masked(groups, ..) | Kind::Depth(groups, _) => *groups,
        };
        if groups != b.experts {
            return Err(KernelError::Invalid {
                op,
                argument: "b",
                requirement: "must have one matrix for each group of rows",
            });
        }
        let (m, experts_of_c) = match &kind {
            Kind::Masked(groups, rows, _) => (*rows, *groups),
            _ => (a.rows, 1),
        };
        Ok(Self {
            client,
            op,
            a: [
                Buffer { handle: a.codes, count: a.rows * words(a.depth) },
                Buffer { handle: a.scales, count: a.rows * tiles(a.depth) },
            ],
            b: [
                Buffer { handle: b.codes, count: b.experts * b.rows * words(b.depth) },
                Buffer { handle: b.scales, count: b.experts * tiles(b.rows) * tiles(b.depth) },
            ],
            formats: [a.format, b.format],
            kind,
            m,
            n: b.rows,
            k: a.depth,
            experts_of_c,
            a_strides: [words(a.depth), tiles(a.depth)],
            b_words: words(b.depth),
            b_scale: ScaleOf::Block,
            b_strides: b.scale_strides(),
            accumulation: Accumulation::Promoted,
            choice: Choice::Best,
        })
    }

    /// Row tiles against row tiles.
    fn of_rows(
        client: &'a Client,
        op: &'static str,
        a: &DeviceRowTiled<'a>,
        b: &DeviceRowTiled<'a>,
    ) -> Result<Self, KernelError> {
        a.check(op, "a")?;
        b.check(op, "b")?;
        same_depth(op, a.depth, b.depth)?;
        let depth = Depth { k: a.depth, words: words(a.depth), tiles: tiles(a.depth), groups: 1 };
        Ok(Self::along(
            client,
            op,
            [a.codes, a.scales],
            [b.codes, b.scales],
            [a.rows, b.rows],
            [a.format, b.format],
            depth,
            Kind::Dense,
        ))
    }

    /// Row tiles against row tiles whose rows are `words` and `tiles` long.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn along(
        client: &'a Client,
        op: &'static str,
        a: [&'a Handle; 2],
        b: [&'a Handle; 2],
        [m, n]: [usize; 2],
        formats: [Fp8Format; 2],
        depth: Depth,
        kind: Kind<'a>,
    ) -> Self {
        let buffers = |[codes, scales]: [&'a Handle; 2], rows: usize| {
            [
                Buffer { handle: codes, count: rows * depth.words },
                Buffer { handle: scales, count: rows * depth.tiles },
            ]
        };
        Self {
            client,
            op,
            a: buffers(a, m),
            b: buffers(b, n),
            formats,
            kind,
            m,
            n,
            k: depth.k,
            experts_of_c: depth.groups,
            a_strides: [depth.words, depth.tiles],
            b_words: depth.words,
            b_scale: ScaleOf::Row,
            b_strides: [depth.tiles as u32, 1, 0],
            accumulation: Accumulation::Promoted,
            choice: Choice::Best,
        }
    }

    pub(crate) fn with(mut self, accumulation: Accumulation) -> Result<Self, KernelError> {
        if let Accumulation::Emulated { bits, .. } = accumulation
            && !(2..=24).contains(&bits)
        {
            return Err(KernelError::Invalid {
                op: self.op,
                argument: "accumulation",
                requirement: "must have 2 to 24 bits",
            });
        }
        self.accumulation = accumulation;
        Ok(self)
    }

    /// A product of the trial that decides the path.
    pub(crate) fn trial(
        client: &'a Client,
        a: &DeviceRowTiled<'a>,
        b: &DeviceBlockTiled<'a>,
        choice: Choice,
    ) -> Result<Self, KernelError> {
        Ok(Self { choice, ..Self::with_weight(client, "product_path", a, b, Kind::Dense)? })
    }

    pub(crate) fn planned(mut self, tile: TilePlan) -> Result<Self, KernelError> {
        plan::check(self.client, self.op, &tile)?;
        self.choice = Choice::Tile(tile);
        Ok(self)
    }

    /// The product in a new buffer.
    pub(crate) fn run(self, element: Element) -> Result<Handle, KernelError> {
        element.check(self.client, self.op, "element")?;
        let count = addressable(self.op, "c", &[self.experts_of_c, self.m, self.n])?;
        let c = allocate(self.client, count, element.size());
        self.launch(&c, count, element, false)?;
        Ok(c)
    }

    /// The product added to `c`.
    pub(crate) fn accumulate(self, c: &Handle) -> Result<(), KernelError> {
        let count = check_handle(
            self.op,
            "c",
            c,
            Element::F32.size(),
            &[self.experts_of_c, self.m, self.n],
        )?;
        self.launch(c, count, Element::F32, true)
    }

    fn kernel(&self, rows_a_group: usize) -> Kernel {
        if let Accumulation::Emulated { bits, promote } = self.accumulation {
            return Kernel::Emulated(Accumulator { bits, promote });
        }
        let portable = || Kernel::Tiles(plan::tile(self.client, rows_a_group, self.n));
        match self.choice {
            Choice::Tile(tile) => Kernel::Tiles(tile),
            Choice::Portable => portable(),
            Choice::TensorCore => Kernel::TensorCore,
            Choice::Warpgroups => self.warpgroups().unwrap_or(Kernel::TensorCore),
            Choice::Best if self.formats != [Fp8Format::E4M3; 2] => portable(),
            Choice::Best => match product_path(self.client) {
                ProductPath::Warpgroups => self.warpgroups().unwrap_or(Kernel::TensorCore),
                ProductPath::TensorCore(_) => Kernel::TensorCore,
                ProductPath::Portable(_) => portable(),
            },
        }
    }

    /// The kernel of warpgroups, where the copy engine can bring the operands' tiles whole: not
    /// where groups meet within one.
    fn warpgroups(&self) -> Option<Kernel> {
        if matches!(self.kind, Kind::Depth(..)) {
            return None;
        }
        let rows = |buffer: &Buffer<'_>, words: usize| buffer.count.checked_div(words).unwrap_or(0);
        let a = warpgroup::map(
            self.a[0].handle,
            rows(&self.a[0], self.a_strides[0]),
            self.a_strides[0],
            warpgroup::ROWS,
        )?;
        let b = warpgroup::map(
            self.b[0].handle,
            rows(&self.b[0], self.b_words),
            self.b_words,
            warpgroup::COLUMNS,
        )?;
        Some(Kernel::Warpgroups(Box::new([a, b])))
    }

    fn launch(
        &self,
        c: &Handle,
        count: usize,
        element: Element,
        accumulate: bool,
    ) -> Result<(), KernelError> {
        if count == 0 {
            return Ok(());
        }
        let rows_a_group = match &self.kind {
            Kind::Rows(offsets, _) => self.m / (offsets.len() - 1).max(1),
            _ => self.m,
        };
        let kernel = self.kernel(rows_a_group);
        let (cube_rows, cube_columns, units) = kernel.cube();
        let (grouping, table, row_cubes, z) = match &self.kind {
            Kind::Dense => (
                Grouping::Dense,
                Buffer { handle: self.a[0].handle, count: 1 },
                self.m.div_ceil(cube_rows),
                1,
            ),
            Kind::Rows(offsets, table) => {
                let cubes = offsets.windows(2).map(|o| (o[1] - o[0]).div_ceil(cube_rows)).sum();
                (Grouping::Rows, Buffer { handle: table, count: 3 * offsets.len() }, cubes, 1)
            }
            Kind::Masked(groups, rows, counts) => (
                Grouping::Masked,
                Buffer { handle: counts, count: *groups },
                rows.div_ceil(cube_rows),
                *groups,
            ),
            Kind::Depth(groups, table) => (
                Grouping::Depth,
                Buffer { handle: table, count: 3 * (groups + 1) },
                self.m.div_ceil(cube_rows),
                *groups,
            ),
        };
        let cubes =
            plan::cubes(self.client, self.op, [self.n.div_ceil(cube_columns), row_cubes, z])?;
        let form = GemmForm {
            a_format: self.formats[0],
            b_format: self.formats[1],
            grouping,
            b_scale: self.b_scale,
            accumulate,
        };
        let sizes = SizesLaunch::new(
            self.m as u32,
            self.n as u32,
            self.k as u32,
            z.max(match &self.kind {
                Kind::Rows(offsets, _) => offsets.len() - 1,
                _ => 0,
            }) as u32,
            self.a_strides[0] as u32,
            self.a_strides[1] as u32,
            self.b_words as u32,
            self.b_strides[0],
            self.b_strides[1],
            self.b_strides[2],
        );
        let dim = CubeDim::new_1d(units);
        let c = argument(c, count);
        let [a, a_scales, b, b_scales] =
            [&self.a[0], &self.a[1], &self.b[0], &self.b[1]].map(Buffer::argument);
        let table = table.argument();
        // SAFETY: the buffers were checked against the shapes that the kernel addresses them by; it
        // clamps rows and columns to them.
        unsafe {
            match (kernel, element) {
                (Kernel::Tiles(tile), Element::F32) => {
                    gemm_tiles::launch_unchecked::<f32>(
                        self.client,
                        cubes,
                        dim,
                        a,
                        a_scales,
                        b,
                        b_scales,
                        table,
                        c,
                        sizes,
                        form,
                        tile,
                    );
                }
                (Kernel::Tiles(tile), Element::Bf16) => {
                    gemm_tiles::launch_unchecked::<bf16>(
                        self.client,
                        cubes,
                        dim,
                        a,
                        a_scales,
                        b,
                        b_scales,
                        table,
                        c,
                        sizes,
                        form,
                        tile,
                    );
                }
                (Kernel::TensorCore, Element::F32) => {
                    gemm_mma::launch_unchecked::<f32>(
                        self.client,
                        cubes,
                        dim,
                        a,
                        a_scales,
                        b,
                        b_scales,
                        table,
                        c,
                        sizes,
                        form,
                    );
                }
                (Kernel::TensorCore, Element::Bf16) => {
                    gemm_mma::launch_unchecked::<bf16>(
                        self.client,
                        cubes,
                        dim,
                        a,
                        a_scales,
                        b,
                        b_scales,
                        table,
                        c,
                        sizes,
                        form,
                    );
                }
                (Kernel::Warpgroups(maps), Element::F32) => {
                    let [a, b] = *maps;
                    gemm_warpgroups::launch_unchecked::<f32>(
                        self.client,
                        cubes,
                        dim,
                        a,
                        a_scales,
                        b,
                        b_scales,
                        table,
                        c,
                        sizes,
                        form,
                    );
                }
                (Kernel::Warpgroups(maps), Element::Bf16) => {
                    let [a, b] = *maps;
                    gemm_warpgroups::launch_unchecked::<bf16>(
                        self.client,
                        cubes,
                        dim,
                        a,
                        a_scales,
                        b,
                        b_scales,
                        table,
                        c,
                        sizes,
                        form,
                    );
                }
                (Kernel::Emulated(own), Element::F32) => {
                    gemm_emulated::launch_unchecked::<f32>(
                        self.client,
                        cubes,
                        dim,
                        a,
                        a_scales,
                        b,
                        b_scales,
                        table,
                        c,
                        sizes,
                        form,
                        own,
                    );
                }
                (Kernel::Emulated(own), Element::Bf16) => {
                    gemm_emulated::launch_unchecked::<bf16>(
                        self.client,
                        cubes,
                        dim,
                        a,
                        a_scales,
                        b,
                        b_scales,
                        table,
                        c,
                        sizes,
                        form,
                        own,
                    );
                }
            }
        }
        Ok(())
    }
}

/// The summed dimension of a product of row tiles.
#[derive(Clone, Copy)]
pub(crate) struct Depth {
    /// Its length, where it is not a group's.
    pub(crate) k: usize,
    pub(crate) words: usize,
    pub(crate) tiles: usize,
    /// Groups along it, each with a result of its own.
    pub(crate) groups: usize,
}

fn same_depth(op: &'static str, a: usize, b: usize) -> Result<(), KernelError> {
    if a == b {
        return Ok(());
    }
    Err(KernelError::Invalid { op, argument: "b", requirement: "must be as deep as `a`" })
}
