//! Checks and launches.

use super::index::{DeviceIndex, DeviceSums, Starts};
use super::kernel::{Weights, pack_fp8, pack_words, row_dots, sum_rows, unpack_quads};
use super::plan::{CASTS_SAVED, QUAD, UNITS_A_DOT, UNITS_A_SCALE_WORD};
use crate::definition::{KernelError, WireFormat, tiles, words};
use crate::device::conversion::conversion;
use crate::device::{UNITS, addressable, allocate, argument, check_handle, elementwise_cubes};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Rows by index as they go to other ranks, permuted and cast in one read; bit-equal to
/// [`host::all_to_all::pack`](crate::host::all_to_all::pack) (a NaN may have another sign).
///
/// # Shapes
/// `x` FP32 `[index.rows(), width]` -> words `[index.len(), format.row_words(width)]`.
///
/// # Errors
/// [`KernelError`] where the buffer is too small or a size cannot be addressed.
///
/// Source: technical report 3.2.2, 3.3.3.
pub fn pack(
    client: &Client,
    x: &Handle,
    index: &DeviceIndex,
    width: usize,
    format: WireFormat,
) -> Result<Handle, KernelError> {
    const OP: &str = "pack";
    let values = check_handle(OP, "x", x, 4, &[index.rows(), width])?;
    let total = addressable(OP, "wire", &[index.len(), format.row_words(width)])?;
    if format == WireFormat::Fp8 && index.len() >= CASTS_SAVED * index.rows() && total > 0 {
        // Words are gathered as FP32 values are.
        let all: Vec<u32> = (0..index.rows() as u32).collect();
        let once = pack(client, x, &DeviceIndex::new(client, &all, index.rows())?, width, format)?;
        return pack(client, &once, index, format.row_words(width), WireFormat::F32);
    }
    let wire = allocate(client, total, 4);
    if total == 0 {
        return Ok(wire);
    }
    // SAFETY: `x` was found to hold `index.rows()` rows and each number of the index is below that;
    // `wire` was allocated for `total` words, and a unit or group past the last of them writes
    // nothing.
    unsafe {
        if format == WireFormat::Fp8 {
            let groups = index.len() * words(tiles(width));
            addressable(OP, "wire", &[groups, UNITS_A_SCALE_WORD as usize])?;
            pack_fp8::launch_unchecked(
                client,
                elementwise_cubes(client, groups * UNITS_A_SCALE_WORD as usize),
                CubeDim::new_1d(UNITS),
                argument(x, values),
                index.argument(),
                argument(&wire, total),
                groups as u32,
                width as u32,
                conversion(client),
            );
        } else {
            pack_words::launch_unchecked(
                client,
                elementwise_cubes(client, total),
                CubeDim::new_1d(UNITS),
                argument(x, values),
                index.argument(),
                argument(&wire, total),
                total as u32,
                width as u32,
                format,
            );
        }
    }
    Ok(wire)
}

/// The rows that have arrived, in the order of `index`.
///
/// # Shapes
/// Words `[index.rows(), format.row_words(width)]` -> FP32 `[index.len(), width]`.
///
/// # Errors
/// Fails as [`pack`] does.
pub fn unpack(
    client: &Client,
    wire: &Handle,
    index: &DeviceIndex,
    width: usize,
    format: WireFormat,
) -> Result<Handle, KernelError> {
    const OP: &str = "unpack";
    let count = check_handle(OP, "wire", wire, 4, &[index.rows(), format.row_words(width)])?;
    let values = addressable(OP, "rows", &[index.len(), width])?;
    let y = allocate(client, values, 4);
    if values > 0 {
        let quads = index.len() * width.div_ceil(QUAD as usize);
        // SAFETY: `wire` was found to hold `index.rows()` rows and each number of the index is
        // below that; `y` was allocated for `values` numbers, and a unit past the last quad, or a
        // column past the width, writes nothing.
        unsafe {
            unpack_quads::launch_unchecked(
                client,
                elementwise_cubes(client, quads),
                CubeDim::new_1d(UNITS),
                argument(wire, count),
                index.argument(),
                argument(&y, values),
                quads as u32,
                width as u32,
                format,
            );
        }
    }
    Ok(y)
}

/// The rows of each token summed in FP32, in the order of the terms; without weights each is one. A
/// result without terms is zero.
///
/// # Shapes
/// Words `[sums.bound(), format.row_words(width)]`, `weights` FP32 `[sums.terms()]` -> FP32
/// `[sums.results(), width]`.
///
/// # Errors
/// Fails as [`pack`] does.
///
/// Source: technical report 2.1.2, 3.2.2.
pub fn combine(
    client: &Client,
    wire: &Handle,
    weights: Option<&Handle>,
    sums: &DeviceSums,
    width: usize,
    format: WireFormat,
) -> Result<Handle, KernelError> {
    const OP: &str = "combine";
    check_handle(OP, "wire", wire, 4, &[sums.bound(), format.row_words(width)])?;
    check_weights(OP, weights, sums)?;
    let by = if weights.is_some() { Weights::ByTerm } else { Weights::One };
    Sum {
        client,
        wire,
        starts: sums.starts(),
        rows: sums.rows(),
        weights,
        terms: None,
        results: sums.results(),
        count: sums.terms(),
        by,
    }
    .launch(OP, sums.bound(), width, format)
}

/// The gradients of [`combine`]: `dy[r]`, the sum of `weights[i] dout[t]` over the terms `i` that
/// name row `r`, and `dweights[i] = dout[t] . y[rows[i]]`. The cast of `y` passes the gradient
/// straight through.
///
/// # Shapes
/// The arguments of [`combine`], and `dout` FP32 `[sums.results(), width]` -> FP32
/// `[sums.bound(), width]`, `[sums.terms()]`.
///
/// # Errors
/// Fails as [`pack`] does.
pub fn combine_backward(
    client: &Client,
    wire: &Handle,
    weights: Option<&Handle>,
    sums: &DeviceSums,
    dout: &Handle,
    width: usize,
    format: WireFormat,
) -> Result<(Handle, Handle), KernelError> {
    const OP: &str = "combine_backward";
    let wire_words = check_handle(OP, "wire", wire, 4, &[sums.bound(), format.row_words(width)])?;
    check_weights(OP, weights, sums)?;
    let douts = check_handle(OP, "dout", dout, 4, &[sums.results(), width])?;
    let transposed = sums.transposed(client);
    let (results, terms) = (sums.bound(), sums.terms());
    let dy = Sum {
        client,
        wire: dout,
        starts: &transposed.starts,
        rows: argument(&transposed.results, terms),
        weights,
        terms: Some(&transposed.terms),
        results,
        count: terms,
        by: if weights.is_some() { Weights::Indexed } else { Weights::One },
    }
    .launch(OP, sums.results(), width, WireFormat::F32)?;
    let dweights = allocate(client, terms, 4);
    if terms > 0 {
        // SAFETY: `wire` and `dout` were found to hold as many rows as the sums name and give, and
        // `dweights` was allocated for a number a term; a cube past the last term takes the first
        // one's rows and writes nothing, and columns past the width are not read.
        unsafe {
            row_dots::launch_unchecked(
                client,
                elementwise_cubes(client, terms * UNITS as usize),
                CubeDim::new_1d(UNITS_A_DOT),
                argument(wire, wire_words),
                sums.rows(),
                transposed.result_of_term(terms),
                argument(dout, douts),
                argument(&dweights, terms),
                terms as u32,
                width as u32,
                sums.starts().each(),
                format,
            );
        }
    }
    Ok((dy, dweights))
}

/// The gradient of [`pack`] for `x`, straight through the cast: the sum of what every copy of a row
/// got, in the order of `index`.
///
/// # Shapes
/// `d` FP32 `[index.len(), width]` -> FP32 `[index.rows(), width]`.
///
/// # Errors
/// Fails as [`pack`] does, naming `d`.
pub fn pack_backward(
    client: &Client,
    d: &Handle,
    index: &DeviceIndex,
    width: usize,
) -> Result<Handle, KernelError> {
    gather_backward("pack_backward", client, d, index, width)
}

/// The gradient of [`unpack`] for the rows that arrived, as [`pack_backward`].
///
/// # Shapes
/// `d` FP32 `[index.len(), width]` -> FP32 `[index.rows(), width]`.
///
/// # Errors
/// Fails as [`pack_backward`] does.
pub fn unpack_backward(
    client: &Client,
    d: &Handle,
    index: &DeviceIndex,
    width: usize,
) -> Result<Handle, KernelError> {
    gather_backward("unpack_backward", client, d, index, width)
}

fn gather_backward(
    op: &'static str,
    client: &Client,
    d: &Handle,
    index: &DeviceIndex,
    width: usize,
) -> Result<Handle, KernelError> {
    check_handle(op, "d", d, 4, &[index.len(), width])?;
    let sums = index.sums(client)?;
    let (results, count) = (index.rows(), index.len());
    let (starts, rows) = (sums.starts(), sums.rows());
    Sum {
        client,
        wire: d,
        starts,
        rows,
        weights: None,
        terms: None,
        results,
        count,
        by: Weights::One,
    }
    .launch(op, count, width, WireFormat::F32)
}

fn check_weights(
    op: &'static str,
    weights: Option<&Handle>,
    sums: &DeviceSums,
) -> Result<(), KernelError> {
    weights.map_or(Ok(()), |weights| {
        check_handle(op, "weights", weights, 4, &[sums.terms()]).map(|_| ())
    })
}

/// A launch of [`sum_rows`] whose buffers have been checked.
struct Sum<'a> {
    client: &'a Client,
    wire: &'a Handle,
    starts: &'a Starts,
    rows: BufferArg,
    weights: Option<&'a Handle>,
    terms: Option<&'a Handle>,
    results: usize,
    /// Terms.
    count: usize,
    by: Weights,
}

impl Sum<'_> {
    fn launch(
        self,
        op: &'static str,
        wire_rows: usize,
        width: usize,
        format: WireFormat,
    ) -> Result<Handle, KernelError> {
        let Self { client, wire, starts, rows, weights, terms, results, count, by } = self;
        let values = addressable(op, "out", &[results, width])?;
        let out = allocate(client, values, 4);
        if values == 0 {
            return Ok(out);
        }
        let none = allocate(client, 1, 4);
        let quads = results * width.div_ceil(QUAD as usize);
        let optional = |handle: Option<&Handle>| {
            handle.map_or_else(|| argument(&none, 1), |handle| argument(handle, count))
        };
        // SAFETY: the callers found `wire` to hold `wire_rows` rows, above every row of a sum, and
        // weights and terms, where `by` reads them, to hold `count` numbers; `out` was allocated
        // for `values`, and a unit past the last quad, or a column past the width, writes nothing.
        unsafe {
            sum_rows::launch_unchecked(
                client,
                elementwise_cubes(client, quads),
                CubeDim::new_1d(UNITS),
                argument(wire, wire_rows * format.row_words(width)),
                starts.argument(results, &none),
                rows,
                optional(weights),
                optional(terms),
                argument(&out, values),
                quads as u32,
                width as u32,
                starts.each(),
                by,
                format,
            );
        }
        Ok(out)
    }
}
