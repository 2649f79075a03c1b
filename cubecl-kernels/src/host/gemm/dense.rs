//! Products of two quantized matrices.

use half::bf16;

use super::output::{Output, build_bf16, build_f32};
use super::route::Route;
use super::source::{Group, Source};
use super::task::product;
use crate::definition::{
    Accumulation, BlockTiled, KernelError, OperandView, RowTiled, check_length, element_count,
};
use crate::host::parallel::Threads;

const A: [&str; 2] = ["a.codes", "a.scales"];
const B: [&str; 2] = ["b.codes", "b.scales"];

/// Multiplies an activation and a weight, `C = A B^T` (1x128 | 128x128): Fprop, and Dgrad with the
/// weight's transposed codes.
///
/// ```text
/// c[i, j] = sum over tiles t of a.scale[i, t] * b.scale[j / 128, t]
///                               * (sum over k in t of a[i, k] b[j, k])
/// ```
///
/// Products are exact, sums in FP32 ([`Accumulation`]).
///
/// # Shapes
/// - `a [m, k]`, `b [n, k]` -> `[m, n]`, zero where `k` is
///
/// # Errors
/// [`KernelError::Length`] naming codes or scales, [`KernelError::Invalid`] where the depths differ
/// or `accumulation` has no 2 to 24 bits.
///
/// Source: technical report 3.3.2.
///
/// # Example
/// ```
/// use cubecl_kernels::definition::{
///     Accumulation, BlockScales, BlockTiled, QuantizeOptions, RowTiled,
/// };
/// use cubecl_kernels::host;
///
/// let options = QuantizeOptions::default();
/// let (rows, depth, format) = (1, 128, options.format);
/// let a = host::quantize_rows(&[1.0f32; 128], rows, depth, &options)?;
/// let a = RowTiled { codes: &a.codes, scales: &a.scales, rows, depth, format };
/// let (rows, scale_layout) = (2, BlockScales::Stored);
/// let b = host::quantize_blocks(&[0.5f32; 256], 1, rows, depth, &options)?;
/// let b = BlockTiled { codes: &b.codes, scales: &b.scales, scale_layout, rows, depth, format };
/// let c = host::fp8_gemm_nt(&a, &b, Accumulation::Promoted)?;
/// assert_eq!(c.len(), 2);
/// assert!(c.iter().all(|c| (c - 64.0).abs() < 1e-4));
/// # Ok::<(), cubecl_kernels::KernelError>(())
/// ```
pub fn fp8_gemm_nt(
    a: &RowTiled<'_>,
    b: &BlockTiled<'_>,
    accumulation: Accumulation,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "fp8_gemm_nt";
    let (left, right) = block_operands(OP, a, b)?;
    checked_new(OP, left, right, accumulation)
}

/// Computes [`fp8_gemm_nt`] and rounds it to BF16 at the end.
///
/// # Shapes
/// - `a [m, k]`, `b [n, k]` -> `[m, n]`
///
/// # Errors
/// The errors of [`fp8_gemm_nt`].
pub fn fp8_gemm_nt_bf16(
    a: &RowTiled<'_>,
    b: &BlockTiled<'_>,
    accumulation: Accumulation,
) -> Result<Vec<bf16>, KernelError> {
    const OP: &str = "fp8_gemm_nt_bf16";
    let (left, right) = block_operands(OP, a, b)?;
    let (m, n) = check_product(OP, &left, &right, accumulation)?;
    // SAFETY: `run` writes every element.
    Ok(unsafe { build_bf16(m * n, n, |c| run(left, right, accumulation, c)) })
}

/// Adds the product of an activation and a weight to what is there, `C += A B^T`; see
/// [`fp8_gemm_nt`].
///
/// # Shapes
/// - `a [m, k]`, `b [n, k]`, `c [m, n]`
///
/// # Errors
/// The errors of [`fp8_gemm_nt`], and [`KernelError::Length`] naming `c`.
pub fn fp8_gemm_nt_accumulate(
    a: &RowTiled<'_>,
    b: &BlockTiled<'_>,
    accumulation: Accumulation,
    c: &mut [f32],
) -> Result<(), KernelError> {
    const OP: &str = "fp8_gemm_nt_accumulate";
    let (left, right) = block_operands(OP, a, b)?;
    checked_accumulate(OP, left, right, accumulation, c)
}

/// Multiplies two matrices tiled along their rows, `C = A B^T` (1x128 | 1x128): Wgrad,
/// `dw = dy^T x`, with the column tiles of both, which are stored transposed.
///
/// # Shapes
/// - `a [m, k]`, `b [n, k]` -> `[m, n]`, zero where `k` is; for Wgrad `m` outputs, `n` inputs, `k`
///   tokens
///
/// # Errors
/// The errors of [`fp8_gemm_nt`].
///
/// Source: technical report 3.3.1, 3.3.2.
pub fn fp8_wgrad_nt(
    a: &RowTiled<'_>,
    b: &RowTiled<'_>,
    accumulation: Accumulation,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "fp8_wgrad_nt";
    let (left, right) = row_operands(OP, a, b)?;
    checked_new(OP, left, right, accumulation)
}

/// Adds the product of two matrices tiled along their rows to what is there, `C += A B^T`:
/// gradients of several micro-batches summed in FP32; see [`fp8_wgrad_nt`].
///
/// # Shapes
/// - `a [m, k]`, `b [n, k]`, `c [m, n]`
///
/// # Errors
/// The errors of [`fp8_wgrad_nt`], and [`KernelError::Length`] naming `c`.
pub fn fp8_wgrad_nt_accumulate(
    a: &RowTiled<'_>,
    b: &RowTiled<'_>,
    accumulation: Accumulation,
    c: &mut [f32],
) -> Result<(), KernelError> {
    const OP: &str = "fp8_wgrad_nt_accumulate";
    let (left, right) = row_operands(OP, a, b)?;
    checked_accumulate(OP, left, right, accumulation, c)
}

fn block_operands<'a>(
    op: &'static str,
    a: &RowTiled<'a>,
    b: &BlockTiled<'a>,
) -> Result<(OperandView<'a>, OperandView<'a>), KernelError> {
    a.check(op, A)?;
    b.check(op, B, 1)?;
    Ok((OperandView::rows_of(a, 0, a.rows), OperandView::expert_of(b, 0)))
}

fn row_operands<'a>(
    op: &'static str,
    a: &RowTiled<'a>,
    b: &RowTiled<'a>,
) -> Result<(OperandView<'a>, OperandView<'a>), KernelError> {
    a.check(op, A)?;
    b.check(op, B)?;
    Ok((OperandView::rows_of(a, 0, a.rows), OperandView::rows_of(b, 0, b.rows)))
}

fn checked_new(
    op: &'static str,
    a: OperandView<'_>,
    b: OperandView<'_>,
    accumulation: Accumulation,
) -> Result<Vec<f32>, KernelError> {
    let (m, n) = check_product(op, &a, &b, accumulation)?;
    // SAFETY: `run` writes every element.
    Ok(unsafe { build_f32(m * n, n, |c| run(a, b, accumulation, c)) })
}

fn checked_accumulate(
    op: &'static str,
    a: OperandView<'_>,
    b: OperandView<'_>,
    accumulation: Accumulation,
    c: &mut [f32],
) -> Result<(), KernelError> {
    let (m, n) = check_product(op, &a, &b, accumulation)?;
    check_length(op, "c", c.len(), &[m, n])?;
    run(a, b, accumulation, &Output::accumulate(c, n));
    Ok(())
}

fn run(a: OperandView<'_>, b: OperandView<'_>, accumulation: Accumulation, c: &Output<'_>) {
    let group = Group { left: Source::Codes(a), right: Source::Codes(b), start: 0 };
    product(Route::current(), &[group], accumulation, c, Threads::Pool);
}

/// Checks that depths agree, the result can be addressed and the accumulator exists; gives the
/// result's size.
fn check_product(
    op: &'static str,
    a: &OperandView<'_>,
    b: &OperandView<'_>,
    accumulation: Accumulation,
) -> Result<(usize, usize), KernelError> {
    if a.depth != b.depth {
        return Err(KernelError::Invalid {
            op,
            argument: "b.depth",
            requirement: "must be that of `a`",
        });
    }
    check_accumulation(op, accumulation)?;
    element_count(op, "c", &[a.rows, b.rows])?;
    Ok((a.rows, b.rows))
}

/// Refuses an emulated accumulator that does not exist.
pub(super) fn check_accumulation(
    op: &'static str,
    accumulation: Accumulation,
) -> Result<(), KernelError> {
    match accumulation {
        Accumulation::Emulated { bits, .. } if !(2..=24).contains(&bits) => {
            Err(KernelError::Invalid {
                op,
                argument: "accumulation.bits",
                requirement: "must lie in 2..=24",
            })
        }
        _ => Ok(()),
    }
}
