//! The casts of rows, of columns, of both and of blocks.

use super::kernel::form::{AmaxOf, CastForm, Entries, Orientations, ScalesAs};
use super::quantized::{DeviceBlocks, DeviceCodes};
use super::source::{Outputs, Source};
use crate::definition::{Granularity, KernelError, QuantizeOptions};
use crate::device::conversion::conversion;
use crate::device::{DeviceGroups, Element, is_software};
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

/// Both orientations from one read of `x`: first the rows', then the columns'. (A software renderer
/// may read it for each of them, which costs less there than what one read takes.)
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
    let outputs = Outputs::both(client, OP, &source, groups)?;
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
    let outputs = Outputs::blocks(client, OP, &source, &groups)?;
    let amax =
        if options.granularity == Granularity::Tensor { AmaxOf::Given } else { AmaxOf::Block };
    source.cast(
        OP,
        &groups,
        CastForm { amax, scales: ScalesAs::Blocks, ..form(client, options, true, true) },
        &outputs,
    )?;
    Ok(outputs.block_codes())
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
        conversion: conversion(client),
        grouped: true,
        unroll: !is_software(client),
    }
}
