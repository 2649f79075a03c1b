//! The casts' checks and launches.

use super::kernel::amax::{largest_magnitude, largest_of_partials};
use super::kernel::cast::{CastOutputsLaunch, CastSizesLaunch, cast_blocks};
use super::kernel::form::{AmaxOf, CastForm, Entries, Orientations, ScalesAs};
use super::plan::{AMAX_CUBES, block_cubes};
use super::quantized::{DeviceBlocks, DeviceCodes};
use crate::definition::{Granularity, KernelError, QuantizeOptions, tiles, words};
use crate::device::{
    DeviceGroups, Element, UNITS, addressable, allocate, argument, check_handle, is_software,
    load_width,
};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Quantizes row by row: 1x128 tiles for Fprop and Dgrad (3.3.2).
///
/// # Shapes
/// `x` `[rows, columns]`; codes `[rows, words(columns)]`, scales `[rows, tiles(columns)]`.
///
/// # Errors
/// [`KernelError`] where the buffer is too small, the size cannot be addressed, or the device lacks
/// the element type.
pub fn quantize_rows(
    client: &Client,
    x: &Handle,
    element: Element,
    rows: usize,
    columns: usize,
    options: &QuantizeOptions,
) -> Result<DeviceCodes, KernelError> {
    const OP: &str = "quantize_rows";
    let groups = DeviceGroups::single(client, rows)?;
    let source = Source::new(client, OP, x, element, 1, rows, columns)?;
    let outputs = Outputs::rows(client, OP, &source)?;
    source.cast(OP, &groups, form(client, options, true, false), &outputs)?;
    Ok(outputs.row_codes())
}

/// Quantizes column by column within each group of rows, transposed: 128x1 tiles for Wgrad (3.3.2).
///
/// # Shapes
/// `x` `[groups.rows(), columns]`; codes `[columns, groups.words()]`, scales
/// `[columns, groups.tiles()]`, as [`GroupedColumns`](crate::definition::GroupedColumns) lays them
/// out.
///
/// # Errors
/// Fails as [`quantize_rows`] does.
pub fn quantize_columns(
    client: &Client,
    x: &Handle,
    element: Element,
    groups: &DeviceGroups,
    columns: usize,
    options: &QuantizeOptions,
) -> Result<DeviceCodes, KernelError> {
    const OP: &str = "quantize_columns";
    let source = Source::new(client, OP, x, element, 1, groups.rows(), columns)?;
    let outputs = Outputs::columns(client, OP, &source, groups)?;
    source.cast(OP, groups, form(client, options, false, true), &outputs)?;
    Ok(outputs.column_codes())
}

/// Both orientations from one read of `x`: first the rows', then the columns'.
///
/// With [`Granularity::Block`] the two are cut differently (rows from row 0, columns from each
/// group's first), and `x` is read twice.
///
/// # Shapes
/// Those of [`quantize_rows`] and of [`quantize_columns`].
///
/// # Errors
/// Fails as [`quantize_rows`] does.
pub fn quantize_both(
    client: &Client,
    x: &Handle,
    element: Element,
    groups: &DeviceGroups,
    columns: usize,
    options: &QuantizeOptions,
) -> Result<(DeviceCodes, DeviceCodes), KernelError> {
    const OP: &str = "quantize_both";
    if options.granularity == Granularity::Block {
        let by_row = quantize_rows(client, x, element, groups.rows(), columns, options)?;
        return Ok((by_row, quantize_columns(client, x, element, groups, columns, options)?));
    }
    let source = Source::new(client, OP, x, element, 1, groups.rows(), columns)?;
    let by_row = Outputs::rows(client, OP, &source)?;
    let by_column = Outputs::columns(client, OP, &source, groups)?;
    let outputs = Outputs {
        column_codes: by_column.column_codes,
        column_scales: by_column.column_scales,
        ..by_row
    };
    source.cast(OP, groups, form(client, options, true, true), &outputs)?;
    Ok((outputs.row_codes(), outputs.column_codes()))
}

/// Quantizes weights by 128x128 blocks (3.3.2), codes in both orientations.
///
/// # Shapes
/// `w` `[experts, n, k]`; codes `[experts, n, words(k)]`, transposed codes
/// `[experts, k, words(n)]`, scales `[experts, tiles(n), tiles(k)]`. [`Granularity::Tensor`] is one
/// scale for all experts; the others are the blocks' own.
///
/// # Errors
/// Fails as [`quantize_rows`] does.
#[allow(clippy::too_many_arguments)]
pub fn quantize_blocks(
    client: &Client,
    w: &Handle,
    element: Element,
    experts: usize,
    n: usize,
    k: usize,
    options: &QuantizeOptions,
) -> Result<DeviceBlocks, KernelError> {
    const OP: &str = "quantize_blocks";
    let groups = DeviceGroups::single(client, n)?;
    let source = Source::new(client, OP, w, element, experts, n, k)?;
    let scales = addressable(OP, "scales", &[experts, tiles(n), tiles(k)])?;
    let by_row = Outputs::rows(client, OP, &source)?;
    let by_column = Outputs::columns(client, OP, &source, &groups)?;
    let outputs = Outputs {
        row_scales: Output::new(client, scales),
        column_codes: by_column.column_codes,
        column_scales: Output::none(client),
        ..by_row
    };
    let amax =
        if options.granularity == Granularity::Tensor { AmaxOf::Given } else { AmaxOf::Block };
    source.cast(
        OP,
        &groups,
        CastForm { amax, scales: ScalesAs::Blocks, ..form(client, options, true, true) },
        &outputs,
    )?;
    Ok(DeviceBlocks {
        codes: outputs.row_codes.handle,
        transposed: outputs.column_codes.handle,
        scales: outputs.row_scales.handle,
    })
}

pub(super) fn form(
    client: &Client,
    options: &QuantizeOptions,
    rows: bool,
    columns: bool,
) -> CastForm {
    let amax = match options.granularity {
        Granularity::Tile => AmaxOf::Tile,
        Granularity::Block => AmaxOf::Block,
        Granularity::Tensor => AmaxOf::Given,
    };
    CastForm {
        entries: Entries::Given,
        format: options.format,
        scale: options.scale,
        amax,
        scales: ScalesAs::Tiles,
        orientations: Orientations { rows, columns },
        grouped: true,
        unroll: !is_software(client),
    }
}

/// What is cast: `[experts, rows, columns]`.
pub(super) struct Source<'a> {
    client: &'a Client,
    x: &'a Handle,
    element: Element,
    experts: usize,
    rows: usize,
    columns: usize,
    count: usize,
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
        Ok(Self { client, x, element, experts, rows, columns, count })
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
        Ok(Self { client, x, element: Element::F32, experts: 1, rows, columns, count })
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
        if self.count == 0 {
            return Ok(());
        }
        let amax = match form.amax {
            AmaxOf::Given => self.amax(),
            AmaxOf::Tile | AmaxOf::Block => allocate(self.client, 1, 4),
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
        // `rows`; the kernel checks rows, columns and words against those. `columns` is a multiple
        // of `width`.
        unsafe {
            launch(
                self.client,
                cubes,
                CubeDim::new_1d(UNITS),
                width,
                argument(self.x, self.count),
                groups.table_or(&amax),
                argument(&amax, 1),
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
}
