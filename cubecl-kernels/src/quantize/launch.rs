//! The casts' checks and launches.

use super::kernel::{
    AmaxOf, CastForm, CastOutputsLaunch, CastSizesLaunch, Orientations, ScalesAs, cast_blocks,
    dequantize_transposed, dequantize_words, largest_magnitude, largest_of_partials,
};
use super::plan::{AMAX_CUBES, block_cubes};
use super::quantized::{DeviceBlocks, DeviceCodes};
use crate::definition::{Fp8Format, Granularity, KernelError, QuantizeOptions, TILE, tiles, words};
use crate::device::{
    DeviceGroups, Element, UNITS, addressable, allocate, argument, check_handle, elementwise_cubes,
    is_software, load_width,
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

/// The values of row-tiled codes, as FP32 `[rows, columns]`.
///
/// # Errors
/// Fails as [`quantize_rows`] does.
pub fn dequantize_rows(
    client: &Client,
    x: &DeviceCodes,
    rows: usize,
    columns: usize,
    format: Fp8Format,
) -> Result<Handle, KernelError> {
    dequantize(client, "dequantize_rows", &x.codes, &x.scales, [1, rows, columns], 1, format)
}

/// The values of a weight's codes `[experts, n, words(k)]` with block scales, as FP32
/// `[experts, n, k]`.
///
/// # Errors
/// Fails as [`quantize_rows`] does.
pub fn dequantize_blocks(
    client: &Client,
    w: &DeviceBlocks,
    experts: usize,
    n: usize,
    k: usize,
    format: Fp8Format,
) -> Result<Handle, KernelError> {
    dequantize(client, "dequantize_blocks", &w.codes, &w.scales, [experts, n, k], TILE, format)
}

/// The values of column-tiled (transposed) codes, back in the order of the rows: FP32
/// `[groups.rows(), columns]`.
///
/// # Errors
/// Fails as [`quantize_rows`] does.
pub fn dequantize_columns(
    client: &Client,
    x: &DeviceCodes,
    groups: &DeviceGroups,
    columns: usize,
    format: Fp8Format,
) -> Result<Handle, KernelError> {
    const OP: &str = "dequantize_columns";
    let codes = check_handle(OP, "codes", &x.codes, 4, &[columns, groups.words()])?;
    let scales = check_handle(OP, "scales", &x.scales, 4, &[columns, groups.tiles()])?;
    let count = addressable(OP, "y", &[groups.rows(), columns])?;
    let y = allocate(client, count, 4);
    if count > 0 {
        // SAFETY: codes and scales were found to hold what `columns` and the groups' layout need,
        // the table of groups is of that layout, and `y` was allocated for `count` numbers; a unit
        // past the last word does nothing, and rows past a group's end are not written.
        unsafe {
            dequantize_transposed::launch_unchecked(
                client,
                elementwise_cubes(client, codes),
                CubeDim::new_1d(UNITS),
                argument(&x.codes, codes),
                argument(&x.scales, scales),
                groups.table(),
                argument(&y, count),
                columns as u32,
                groups.len() as u32,
                groups.words() as u32,
                groups.tiles() as u32,
                format,
            );
        }
    }
    Ok(y)
}

fn dequantize(
    client: &Client,
    op: &'static str,
    codes: &Handle,
    scales: &Handle,
    [experts, rows, columns]: [usize; 3],
    rows_a_scale: usize,
    format: Fp8Format,
) -> Result<Handle, KernelError> {
    let word_count = check_handle(op, "codes", codes, 4, &[experts, rows, words(columns)])?;
    let scale_count = check_handle(
        op,
        "scales",
        scales,
        4,
        &[experts, rows.div_ceil(rows_a_scale), tiles(columns)],
    )?;
    let count = addressable(op, "y", &[experts, rows, columns])?;
    let y = allocate(client, count, 4);
    if count > 0 {
        // SAFETY: codes and scales were found to hold what experts, rows and columns need, and `y`
        // was allocated for `count` numbers; a unit past the last word does nothing, and columns
        // past a row's end are not written.
        unsafe {
            dequantize_words::launch_unchecked(
                client,
                elementwise_cubes(client, word_count),
                CubeDim::new_1d(UNITS),
                argument(codes, word_count),
                argument(scales, scale_count),
                argument(&y, count),
                word_count as u32,
                rows as u32,
                columns as u32,
                rows_a_scale as u32,
                format,
            );
        }
    }
    Ok(y)
}

fn form(client: &Client, options: &QuantizeOptions, rows: bool, columns: bool) -> CastForm {
    let amax = match options.granularity {
        Granularity::Tile => AmaxOf::Tile,
        Granularity::Block => AmaxOf::Block,
        Granularity::Tensor => AmaxOf::Given,
    };
    CastForm {
        format: options.format,
        scale: options.scale,
        amax,
        scales: ScalesAs::Tiles,
        orientations: Orientations { rows, columns },
        unroll: !is_software(client),
    }
}

/// What is cast: `[experts, rows, columns]`.
struct Source<'a> {
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
    fn new(
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

    fn cast(
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
                groups.table(),
                argument(&amax, 1),
                outputs.arguments(),
                sizes,
                width as u32,
                form,
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

struct Outputs {
    row_codes: Output,
    row_scales: Output,
    column_codes: Output,
    column_scales: Output,
}

impl Outputs {
    fn rows(client: &Client, op: &'static str, source: &Source<'_>) -> Result<Self, KernelError> {
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

    fn columns(
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

    fn row_codes(&self) -> DeviceCodes {
        DeviceCodes { codes: self.row_codes.handle.clone(), scales: self.row_scales.handle.clone() }
    }

    fn column_codes(&self) -> DeviceCodes {
        DeviceCodes {
            codes: self.column_codes.handle.clone(),
            scales: self.column_scales.handle.clone(),
        }
    }
}
