//! What a cast reads and where it writes, checked, and its launch.

use super::kernel::amax::{largest_magnitude, largest_of_partials};
use super::kernel::cast::{CastOutputsLaunch, CastSizesLaunch, cast_blocks};
use super::kernel::form::{AmaxOf, CastForm};
use super::plan::{AMAX_CUBES, block_cubes};
use super::quantized::{DeviceBlocks, DeviceCodes};
use crate::all_to_all::DeviceIndex;
use crate::definition::{KernelError, tiles, words};
use crate::device::{
    DeviceGroups, Element, UNITS, addressable, allocate, argument, check_handle, load_width,
};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// What is cast: `[experts, rows, columns]`.
pub(super) struct Source<'a> {
    pub(super) client: &'a Client,
    pub(super) x: &'a Handle,
    pub(super) element: Element,
    pub(super) experts: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Entries of `x`.
    pub(super) count: usize,
    /// The rows of `x` that are cast, where they are not all of them in their order.
    pub(super) index: Option<&'a DeviceIndex>,
}

impl<'a> Source<'a> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        client: &'a Client,
        op: &'static str,
        x: &'a Handle,
        element: Element,
        experts: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Self, KernelError> {
        element.check(client, op, "element")?;
        let count = check_handle(op, "x", x, element.size(), &[experts, rows, columns])?;
        Ok(Self { client, x, element, experts, rows, columns, count, index: None })
    }

    /// A gate and an up projection side by side, `[rows, 2 columns]` in FP32.
    pub(super) fn gate_up(
        client: &'a Client,
        op: &'static str,
        x: &'a Handle,
        rows: usize,
        columns: usize,
    ) -> Result<Self, KernelError> {
        let count = check_handle(op, "gate_up", x, 4, &[2, rows, columns])?;
        let element = Element::F32;
        Ok(Self { client, x, element, experts: 1, rows, columns, count, index: None })
    }

    /// Rows of `x` `[index.rows(), columns]` in FP32.
    pub(super) fn gathered(
        client: &'a Client,
        op: &'static str,
        x: &'a Handle,
        index: &'a DeviceIndex,
        columns: usize,
    ) -> Result<Self, KernelError> {
        let count = check_handle(op, "x", x, 4, &[index.rows(), columns])?;
        addressable(op, "rows", &[index.len(), columns])?;
        let (element, rows) = (Element::F32, index.len());
        Ok(Self { client, x, element, experts: 1, rows, columns, count, index: Some(index) })
    }

    /// Bits of the largest magnitude of all, in a buffer of one.
    fn amax(&self) -> Handle {
        let cubes = self.count.div_ceil(UNITS as usize).clamp(1, AMAX_CUBES);
        let partials = allocate(self.client, cubes, 4);
        let whole = allocate(self.client, 1, 4);
        let launch = match self.element {
            Element::F32 => largest_magnitude::launch_unchecked::<f32>,
            Element::Bf16 => largest_magnitude::launch_unchecked::<half::bf16>,
        };
        // SAFETY: the first kernel reads `x` below `count`, which it was found to hold, and writes
        // one number a cube into a buffer of as many; the second reads those and writes one. Both
        // loops step by a positive number of units.
        unsafe {
            launch(
                self.client,
                CubeCount::new_1d(cubes as u32),
                CubeDim::new_1d(UNITS),
                argument(self.x, self.count),
                argument(&partials, cubes),
                self.count as u32,
            );
            largest_of_partials::launch_unchecked(
                self.client,
                CubeCount::new_single(),
                CubeDim::new_1d(UNITS),
                argument(&partials, cubes),
                argument(&whole, 1),
                cubes as u32,
            );
        }
        whole
    }

    pub(super) fn cast(
        &self,
        op: &'static str,
        groups: &DeviceGroups,
        form: CastForm,
        outputs: &Outputs,
    ) -> Result<(), KernelError> {
        let cubes = block_cubes(self.client, op, groups.tiles(), self.columns, self.experts)?;
        if self.experts * self.rows * self.columns == 0 {
            return Ok(());
        }
        let other = allocate(self.client, 1, 4);
        if self.suits_planes(&form) {
            self.cast_by_planes(groups, form, outputs, &other);
            return Ok(());
        }
        let given = match (self.index, form.amax) {
            (Some(_), AmaxOf::Given) => {
                unreachable!("invariant: one scale for a whole tensor is not of gathered rows")
            }
            (Some(index), AmaxOf::Tile | AmaxOf::Block) => index.argument(),
            (None, AmaxOf::Given) => argument(&self.amax(), 1),
            (None, AmaxOf::Tile | AmaxOf::Block) => argument(&other, 1),
        };
        let width = load_width(self.columns);
        let launch = match self.element {
            Element::F32 => cast_blocks::launch_unchecked::<f32>,
            Element::Bf16 => cast_blocks::launch_unchecked::<half::bf16>,
        };
        let sizes = CastSizesLaunch::new(
            self.rows as u32,
            self.columns as u32,
            groups.len() as u32,
            groups.words() as u32,
            groups.tiles() as u32,
        );
        // SAFETY: `x` was found to hold `count` elements, every output was allocated for what
        // `form` writes into it (the others are not touched), and the table of groups covers
        // `rows`; the kernel checks rows, columns and words against those. An index has `rows`
        // numbers, each of a row of `x`. `columns` is a multiple of `width`.
        unsafe {
            launch(
                self.client,
                cubes,
                CubeDim::new_1d(UNITS),
                width,
                argument(self.x, self.count),
                groups.table_or(&other),
                given,
                outputs.arguments(),
                sizes,
                width as u32,
                CastForm { grouped: !groups.is_single(), ..form },
            );
        }
        Ok(())
    }
}

struct Output {
    handle: Handle,
    count: usize,
}

impl Output {
    fn new(client: &Client, count: usize) -> Self {
        Self { handle: allocate(client, count, 4), count }
    }

    /// A buffer for what a launch does not write.
    fn none(client: &Client) -> Self {
        Self::new(client, 0)
    }

    fn argument(&self) -> BufferArg {
        argument(&self.handle, self.count)
    }
}

pub(super) struct Outputs {
    row_codes: Output,
    row_scales: Output,
    column_codes: Output,
    column_scales: Output,
}

impl Outputs {
    pub(super) fn rows(
        client: &Client,
        op: &'static str,
        source: &Source<'_>,
    ) -> Result<Self, KernelError> {
        let codes =
            addressable(op, "codes", &[source.experts, source.rows, words(source.columns)])?;
        let scales =
            addressable(op, "scales", &[source.experts, source.rows, tiles(source.columns)])?;
        Ok(Self {
            row_codes: Output::new(client, codes),
            row_scales: Output::new(client, scales),
            column_codes: Output::none(client),
            column_scales: Output::none(client),
        })
    }

    pub(super) fn columns(
        client: &Client,
        op: &'static str,
        source: &Source<'_>,
        groups: &DeviceGroups,
    ) -> Result<Self, KernelError> {
        let codes = addressable(op, "codes", &[source.experts, source.columns, groups.words()])?;
        let scales = addressable(op, "scales", &[source.experts, source.columns, groups.tiles()])?;
        Ok(Self {
            row_codes: Output::none(client),
            row_scales: Output::none(client),
            column_codes: Output::new(client, codes),
            column_scales: Output::new(client, scales),
        })
    }

    pub(super) fn both(
        client: &Client,
        op: &'static str,
        source: &Source<'_>,
        groups: &DeviceGroups,
    ) -> Result<Self, KernelError> {
        let by_column = Self::columns(client, op, source, groups)?;
        Ok(Self {
            column_codes: by_column.column_codes,
            column_scales: by_column.column_scales,
            ..Self::rows(client, op, source)?
        })
    }

    /// Both orientations with one table of scales, that of the blocks.
    pub(super) fn blocks(
        client: &Client,
        op: &'static str,
        source: &Source<'_>,
        groups: &DeviceGroups,
    ) -> Result<Self, KernelError> {
        let Source { experts, rows, columns, .. } = *source;
        let scales = addressable(op, "scales", &[experts, tiles(rows), tiles(columns)])?;
        let both = Self::both(client, op, source, groups)?;
        let (row_scales, column_scales) = (Output::new(client, scales), Output::none(client));
        Ok(Self { row_scales, column_scales, ..both })
    }

    /// Codes and scales by row, the codes in vectors of `width` words.
    pub(super) fn of_rows(&self, width: usize) -> (BufferArg, BufferArg) {
        let codes = argument(&self.row_codes.handle, self.row_codes.count / width);
        (codes, self.row_scales.argument())
    }

    /// Codes and scales by column.
    pub(super) fn of_columns(&self) -> (BufferArg, BufferArg) {
        (self.column_codes.argument(), self.column_scales.argument())
    }

    fn arguments(&self) -> CastOutputsLaunch {
        CastOutputsLaunch::new(
            self.row_codes.argument(),
            self.row_scales.argument(),
            self.column_codes.argument(),
            self.column_scales.argument(),
        )
    }

    pub(super) fn row_codes(&self) -> DeviceCodes {
        DeviceCodes { codes: self.row_codes.handle.clone(), scales: self.row_scales.handle.clone() }
    }

    pub(super) fn column_codes(&self) -> DeviceCodes {
        DeviceCodes {
            codes: self.column_codes.handle.clone(),
            scales: self.column_scales.handle.clone(),
        }
    }
    pub(super) fn block_codes(self) -> DeviceBlocks {
        DeviceBlocks {
            codes: self.row_codes.handle,
            transposed: self.column_codes.handle,
            scales: self.row_scales.handle,
        }
    }
}
