//! The grouped products' checks; what they launch is [`Product`].

use crate::definition::{Accumulation, KernelError};
use crate::device::{DeviceGroups, Element, check_handle};
use crate::gemm::operand::{DeviceBlockTiled, DeviceColumnTiled, DeviceRowTiled};
use crate::gemm::product::{Depth, Kind, Product};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Each expert's `C = A W^T` of its rows, `c[r] = a[r] w[e]^T` for
/// `offsets[e] <= r < offsets[e + 1]` (1x128 | 128x128).
///
/// Of groups that only the device knows, as many cubes are launched as any groups of so many rows
/// could need; those that find no rows end at once.
///
/// # Shapes
/// `a` `[rows, k]` sorted by expert, `weights` `[experts, n, k]` -> `[rows, n]` of `element`.
///
/// # Errors
/// [`KernelError`] where a buffer is too small, the depths differ, groups and rows or groups and
/// experts disagree, `accumulation` has not 2 to 24 bits, or the device lacks `element`.
pub fn fp8_grouped_gemm_nt(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    groups: &DeviceGroups,
    weights: &DeviceBlockTiled<'_>,
    accumulation: Accumulation,
    element: Element,
) -> Result<Handle, KernelError> {
    const OP: &str = "fp8_grouped_gemm_nt";
    if groups.rows() != a.rows {
        return Err(KernelError::Invalid {
            op: OP,
            argument: "groups",
            requirement: "must cover the rows of `a`",
        });
    }
    let kind = match groups.table_handle() {
        // One group is a dense product.
        None => Kind::Dense,
        Some(table) => Kind::Rows(groups, table),
    };
    Product::with_weight(client, OP, a, weights, kind)?.with(accumulation)?.run(element)
}

/// [`fp8_grouped_gemm_nt`] with room for `max_rows` rows of each expert, of which the first
/// `counts[e]` are used (decoding); the others of the result are zero.
///
/// Counts stay on the device: one above `max_rows` counts as `max_rows`.
///
/// # Shapes
/// `a` `[experts, max_rows, k]` (its `rows` are `experts * max_rows`), `counts` 32-bit `[experts]`,
/// `weights` `[experts, n, k]` -> `[experts, max_rows, n]`.
///
/// # Errors
/// Fails as [`fp8_grouped_gemm_nt`] does.
pub fn fp8_grouped_gemm_nt_masked(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    counts: &Handle,
    weights: &DeviceBlockTiled<'_>,
    accumulation: Accumulation,
    element: Element,
) -> Result<Handle, KernelError> {
    const OP: &str = "fp8_grouped_gemm_nt_masked";
    let experts = weights.experts;
    check_handle(OP, "counts", counts, 4, &[experts])?;
    if (experts == 0 && a.rows > 0) || (experts > 0 && !a.rows.is_multiple_of(experts)) {
        return Err(KernelError::Invalid {
            op: OP,
            argument: "a",
            requirement: "must have as many rows for each expert",
        });
    }
    let kind = Kind::Masked(experts, a.rows / experts.max(1), counts);
    Product::with_weight(client, OP, a, weights, kind)?.with(accumulation)?.run(element)
}

/// Each expert's weight gradient, `dw[e] = dy_e^T x_e` (1x128 | 1x128 along the expert's rows),
/// zero for an expert without rows.
///
/// # Shapes
/// `dy` of `n` columns and `x` of `k` columns over the same rows -> FP32 `[experts, n, k]`.
///
/// # Errors
/// [`KernelError`] where a buffer is too small or `accumulation` has not 2 to 24 bits.
pub fn fp8_grouped_wgrad_nt(
    client: &Client,
    dy: &DeviceColumnTiled<'_>,
    x: &DeviceColumnTiled<'_>,
    groups: &DeviceGroups,
    accumulation: Accumulation,
) -> Result<Handle, KernelError> {
    wgrad(client, "fp8_grouped_wgrad_nt", dy, x, groups)?.with(accumulation)?.run(Element::F32)
}

/// [`fp8_grouped_wgrad_nt`] added to `dw`.
///
/// # Errors
/// Fails as [`fp8_grouped_wgrad_nt`] does, and where `dw` is too small.
pub fn fp8_grouped_wgrad_nt_accumulate(
    client: &Client,
    dy: &DeviceColumnTiled<'_>,
    x: &DeviceColumnTiled<'_>,
    groups: &DeviceGroups,
    accumulation: Accumulation,
    dw: &Handle,
) -> Result<(), KernelError> {
    wgrad(client, "fp8_grouped_wgrad_nt_accumulate", dy, x, groups)?
        .with(accumulation)?
        .accumulate(dw)
}

fn wgrad<'a>(
    client: &'a Client,
    op: &'static str,
    dy: &DeviceColumnTiled<'a>,
    x: &DeviceColumnTiled<'a>,
    groups: &'a DeviceGroups,
) -> Result<Product<'a>, KernelError> {
    dy.check(op, "dy", groups)?;
    x.check(op, "x", groups)?;
    let (k, kind) = match groups.table_handle() {
        None => (groups.rows(), Kind::Dense),
        Some(table) => (0, Kind::Depth(groups.len(), table)),
    };
    let depth = Depth { k, words: groups.words(), tiles: groups.tiles(), groups: groups.len() };
    let formats = [dy.format, x.format];
    Ok(Product::along(
        client,
        op,
        [dy.codes, dy.scales],
        [x.codes, x.scales],
        [dy.columns, x.columns],
        formats,
        depth,
        kind,
    ))
}
