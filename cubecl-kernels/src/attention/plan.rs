//! How an attention is cut into units, and loaded.

use super::kernel::SizesLaunch;
use crate::definition::{AttentionShape, KernelError};
use crate::device::tile::EACH;
use crate::device::{addressable, compute_capability, load_width};
use cubecl::prelude::Client;

/// Units of a cube: those of one plane on most devices, and enough cubes for every core of a
/// processor where a renderer in software runs them.
pub(super) const UNITS: u32 = 32;

/// Units for as many blocks of rows of every head.
///
/// # Errors
/// [`KernelError::Overflow`] where 32 bits do not count them.
pub(super) fn units(
    op: &'static str,
    shape: &AttentionShape,
    rows: usize,
) -> Result<usize, KernelError> {
    let blocks = rows.div_ceil(EACH as usize);
    addressable(op, "out", &[shape.batch, shape.heads, blocks])
}

/// Checks that there are as many keys as queries, and every size that a kernel addresses.
///
/// # Errors
/// [`KernelError::Invalid`] or [`KernelError::Overflow`].
pub(super) fn check(op: &'static str, shape: &AttentionShape) -> Result<(), KernelError> {
    if shape.keys < shape.queries {
        return Err(KernelError::Invalid {
            op,
            argument: "shape",
            requirement: "must have keys >= queries",
        });
    }
    // Where a row has an end, so has every sum of two widths.
    for width in [shape.nope_dim, shape.rope_dim, shape.v_dim] {
        addressable(op, "shape", &[width])?;
    }
    let AttentionShape { batch, queries, keys, heads, .. } = *shape;
    addressable(op, "q", &[batch, queries, heads, shape.qk_dim().max(2)])?;
    addressable(op, "kv", &[batch, keys, heads, shape.kv_dim()]).map(drop)
}

/// Entries that a unit loads at once: what divides every width. On devices of CUDA at most two, since
/// those of four do not fit a unit's registers beside its tiles.
pub(super) fn vector(client: &Client, shape: &AttentionShape) -> usize {
    let widths = [shape.nope_dim, shape.rope_dim, shape.v_dim].map(load_width);
    let width = widths.into_iter().min().unwrap_or(1);
    if compute_capability(client).is_some() { width.min(2) } else { width }
}

/// The sizes for a kernel that loads so many entries at once.
pub(super) fn sizes(shape: &AttentionShape, vector: usize) -> SizesLaunch {
    SizesLaunch::new(
        shape.batch as u32,
        shape.queries as u32,
        shape.keys as u32,
        shape.heads as u32,
        (shape.nope_dim / vector) as u32,
        (shape.rope_dim / vector) as u32,
        (shape.v_dim / vector) as u32,
    )
}
