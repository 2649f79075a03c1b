//! Rows by index and the cast of them in one launch, so that their copies in FP32 are never written.

use super::kernel::form::{CastForm, Entries};
use super::launch::{form, quantize_both, quantize_rows};
use super::quantized::DeviceCodes;
use super::source::{Outputs, Source};
use crate::all_to_all::{DeviceIndex, pack};
use crate::definition::{Granularity, KernelError, QuantizeOptions, WireFormat};
use crate::device::{DeviceGroups, Element};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// [`quantize_rows`] of the rows that an index names, the same bits as of their copies. (Scales that
/// tiles share, [`Granularity::Block`] and [`Granularity::Tensor`], take both of them.)
///
/// # Shapes
/// FP32 `x` `[index.rows(), columns]`; codes `[index.len(), words(columns)]`, scales
/// `[index.len(), tiles(columns)]`.
///
/// # Errors
/// Fails as [`quantize_rows`] does.
pub fn quantize_gathered_rows(
    client: &Client,
    x: &Handle,
    index: &DeviceIndex,
    columns: usize,
    options: &QuantizeOptions,
) -> Result<DeviceCodes, KernelError> {
    const OP: &str = "quantize_gathered_rows";
    if options.granularity != Granularity::Tile {
        let rows = pack(client, x, index, columns, WireFormat::F32)?;
        return quantize_rows(client, &rows, Element::F32, index.len(), columns, options);
    }
    let groups = DeviceGroups::single(client, index.len())?;
    let source = Source::gathered(client, OP, x, index, columns)?;
    let outputs = Outputs::rows(client, OP, &source)?;
    let form = CastForm { entries: Entries::Gathered, ..form(client, options, true, false) };
    source.cast(OP, &groups, form, &outputs)?;
    Ok(outputs.row_codes())
}

/// [`quantize_both`] of the rows that an index names, the same bits as of their copies: first the
/// rows', then the columns'. (Shared scales take both of them, as in [`quantize_gathered_rows`].)
///
/// # Shapes
/// FP32 `x` `[index.rows(), columns]`, groups of `index.len()` rows; codes and scales as
/// [`quantize_both`] has them.
///
/// # Errors
/// Fails as [`quantize_rows`] does, and with [`KernelError::Invalid`] where the groups are of
/// another number of rows than the index names.
pub fn quantize_gathered(
    client: &Client,
    x: &Handle,
    index: &DeviceIndex,
    groups: &DeviceGroups,
    columns: usize,
    options: &QuantizeOptions,
) -> Result<(DeviceCodes, DeviceCodes), KernelError> {
    const OP: &str = "quantize_gathered";
    if groups.rows() != index.len() {
        let requirement = "must be of as many rows as the index names";
        return Err(KernelError::Invalid { op: OP, argument: "groups", requirement });
    }
    if options.granularity != Granularity::Tile {
        let rows = pack(client, x, index, columns, WireFormat::F32)?;
        return quantize_both(client, &rows, Element::F32, groups, columns, options);
    }
    let source = Source::gathered(client, OP, x, index, columns)?;
    let outputs = Outputs::both(client, OP, &source, groups)?;
    let form = CastForm { entries: Entries::Gathered, ..form(client, options, true, true) };
    source.cast(OP, groups, form, &outputs)?;
    Ok((outputs.row_codes(), outputs.column_codes()))
}
