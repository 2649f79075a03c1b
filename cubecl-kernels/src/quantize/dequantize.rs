//! The launches that give values from codes, and their checks.

use super::kernel::dequantize::{dequantize_transposed, dequantize_words};
use super::quantized::{DeviceBlocks, DeviceCodes};
use crate::definition::{Fp8Format, KernelError, TILE, tiles, words};
use crate::device::{
    DeviceGroups, UNITS, addressable, allocate, argument, check_handle, elementwise_cubes,
};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// The values of row-tiled codes, as FP32 `[rows, columns]`.
///
/// # Errors
/// Fails as [`quantize_rows`](super::quantize_rows) does.
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
/// Fails as [`quantize_rows`](super::quantize_rows) does.
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
/// Fails as [`quantize_rows`](super::quantize_rows) does.
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
                groups.table_or(&x.codes),
                argument(&y, count),
                columns as u32,
                groups.len() as u32,
                groups.words() as u32,
                groups.tiles() as u32,
                groups.rows() as u32,
                format,
                !groups.is_single(),
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
