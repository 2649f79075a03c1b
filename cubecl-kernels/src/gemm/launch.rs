//! The dense products' checks and launches; what they launch is [`Product`].

use super::execute::{self, Kernel};
use super::kernel::tiles::TilePlan;
use super::operand::{DeviceBlockTiled, DeviceRowTiled};
use super::plan;
use super::product::{Kind, Product};
use crate::definition::{Accumulation, KernelError};
use crate::device::Element;
use cubecl::prelude::*;
use cubecl::server::Handle;

/// `C = A B^T` of an activation and a weight (1x128 | 128x128): Fprop, and Dgrad with the weight's
/// transposed codes.
///
/// `c[i, j] = sum over tiles t of a_scale[i, t] b_scale[j / 128, t] p[t]`, where
/// `p[t] = sum over k in t of a[i, k] b[j, k]`; products exact, sums in FP32 ([`Accumulation`]).
///
/// # Shapes
/// `a` `[m, k]`, `b` `[n, k]` (one expert) -> `[m, n]` of `element`, zero where `k` is.
///
/// # Errors
/// [`KernelError`] where a buffer is too small, the depths differ, `b` has not one expert,
/// `accumulation` has not 2 to 24 bits, or the device lacks `element`.
pub fn fp8_gemm_nt(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    b: &DeviceBlockTiled<'_>,
    accumulation: Accumulation,
    element: Element,
) -> Result<Handle, KernelError> {
    Product::with_weight(client, "fp8_gemm_nt", a, b, Kind::Dense)?.with(accumulation)?.run(element)
}

/// [`fp8_gemm_nt`] with a tile of the caller's choice: for tests and tuning.
///
/// # Errors
/// Fails as [`fp8_gemm_nt`] does, and where the device has not so many units or so much shared
/// memory.
pub fn fp8_gemm_nt_planned(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    b: &DeviceBlockTiled<'_>,
    tile: TilePlan,
) -> Result<Handle, KernelError> {
    let product = Product::with_weight(client, "fp8_gemm_nt_planned", a, b, Kind::Dense)?;
    plan::check(client, product.op, &tile)?;
    execute::run(&product, |_| Ok(Kernel::Tiles(tile)), Element::F32)
}

/// `C += A B^T` into FP32; see [`fp8_gemm_nt`].
///
/// # Shapes
/// `c` `[m, n]`.
///
/// # Errors
/// Fails as [`fp8_gemm_nt`] does, and where `c` is too small.
pub fn fp8_gemm_nt_accumulate(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    b: &DeviceBlockTiled<'_>,
    accumulation: Accumulation,
    c: &Handle,
) -> Result<(), KernelError> {
    Product::with_weight(client, "fp8_gemm_nt_accumulate", a, b, Kind::Dense)?
        .with(accumulation)?
        .accumulate(c)
}

/// `C = A B^T` of two matrices tiled along their rows (1x128 | 1x128): Wgrad, `dw = dy^T x`, from
/// the column tiles of both, which are stored transposed.
///
/// # Shapes
/// `a` `[m, k]`, `b` `[n, k]` -> FP32 `[m, n]`, zero where `k` is; for Wgrad `m` outputs, `n`
/// inputs, `k` tokens.
///
/// # Errors
/// Fails as [`fp8_gemm_nt`] does.
pub fn fp8_wgrad_nt(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    b: &DeviceRowTiled<'_>,
    accumulation: Accumulation,
) -> Result<Handle, KernelError> {
    Product::of_rows(client, "fp8_wgrad_nt", a, b)?.with(accumulation)?.run(Element::F32)
}

/// `C += A B^T` into FP32: weight gradients of several micro-batches summed; see [`fp8_wgrad_nt`].
///
/// # Errors
/// Fails as [`fp8_wgrad_nt`] does, and where `c` is too small.
pub fn fp8_wgrad_nt_accumulate(
    client: &Client,
    a: &DeviceRowTiled<'_>,
    b: &DeviceRowTiled<'_>,
    accumulation: Accumulation,
    c: &Handle,
) -> Result<(), KernelError> {
    Product::of_rows(client, "fp8_wgrad_nt_accumulate", a, b)?.with(accumulation)?.accumulate(c)
}
