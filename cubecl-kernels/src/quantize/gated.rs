//! SwiGLU and the cast of its result in one launch, so that the result in FP32 is never written.

use super::kernel::form::{CastForm, Entries};
use super::launch::{form, quantize_columns, quantize_rows};
use super::quantized::DeviceCodes;
use super::source::{Outputs, Source};
use crate::definition::{Granularity, KernelError, QuantizeOptions};
use crate::device::{DeviceGroups, Element};
use crate::swiglu::swiglu;
use cubecl::prelude::*;
use cubecl::server::Handle;

/// [`quantize_rows`] of [`swiglu`], the same bits. (One scale for the whole tensor takes both of
/// them: nobody knows it before the last entry.)
///
/// # Shapes
/// FP32 `gate_up` `[rows, 2 columns]`; codes `[rows, words(columns)]`, scales
/// `[rows, tiles(columns)]`.
///
/// # Errors
/// Fails as [`quantize_rows`] does.
pub fn quantize_swiglu_rows(
    client: &Client,
    gate_up: &Handle,
    rows: usize,
    columns: usize,
    options: &QuantizeOptions,
) -> Result<DeviceCodes, KernelError> {
    const OP: &str = "quantize_swiglu_rows";
    if options.granularity == Granularity::Tensor {
        let y = swiglu(client, gate_up, rows, columns)?;
        return quantize_rows(client, &y, Element::F32, rows, columns, options);
    }
    let groups = DeviceGroups::single(client, rows)?;
    let source = Source::gate_up(client, OP, gate_up, rows, columns)?;
    let outputs = Outputs::rows(client, OP, &source)?;
    let form = CastForm { entries: Entries::Swiglu, ..form(client, options, true, false) };
    source.cast(OP, &groups, form, &outputs)?;
    Ok(outputs.row_codes())
}

/// [`quantize_columns`] of [`swiglu`], the same bits.
///
/// # Shapes
/// FP32 `gate_up` `[groups.rows(), 2 columns]`; codes `[columns, groups.words()]`, scales
/// `[columns, groups.tiles()]`.
///
/// # Errors
/// Fails as [`quantize_rows`] does.
pub fn quantize_swiglu_columns(
    client: &Client,
    gate_up: &Handle,
    groups: &DeviceGroups,
    columns: usize,
    options: &QuantizeOptions,
) -> Result<DeviceCodes, KernelError> {
    const OP: &str = "quantize_swiglu_columns";
    if options.granularity == Granularity::Tensor {
        let y = swiglu(client, gate_up, groups.rows(), columns)?;
        return quantize_columns(client, &y, Element::F32, groups, columns, options);
    }
    let source = Source::gate_up(client, OP, gate_up, groups.rows(), columns)?;
    let outputs = Outputs::columns(client, OP, &source, groups)?;
    let form = CastForm { entries: Entries::Swiglu, ..form(client, options, false, true) };
    source.cast(OP, groups, form, &outputs)?;
    Ok(outputs.column_codes())
}
