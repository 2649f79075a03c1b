//! Products of numbers rounded to BF16, summed in FP32: what the recipe leaves in BF16 (head,
//! attention), and a step without FP8.

use std::mem::MaybeUninit;

use super::output::{Output, build_f32};
use super::path::GemmPath;
use super::source::{Floats, Source};
use super::task::{Group, product};
use crate::definition::{Accumulation, KernelError, check_length, element_count};
use crate::host::GroupedShape;
use crate::host::gemm_view::Threads;

/// `out = a b^T`, every element written, rows of `out` `row_stride` apart.
pub(crate) fn bf16_gemm(
    out: &mut [MaybeUninit<f32>],
    row_stride: usize,
    a: Floats<'_>,
    b: Floats<'_>,
    threads: Threads,
) {
    run(
        &[Group { left: Source::Floats(a), right: Source::Floats(b), start: 0 }],
        &Output::new(out, row_stride),
        threads,
    );
}

/// `out += a b^T`, rows of `out` `row_stride` apart.
pub(crate) fn bf16_gemm_add(
    out: &mut [f32],
    row_stride: usize,
    a: Floats<'_>,
    b: Floats<'_>,
    threads: Threads,
) {
    run(
        &[Group { left: Source::Floats(a), right: Source::Floats(b), start: 0 }],
        &Output::accumulate(out, row_stride),
        threads,
    );
}

fn run(groups: &[Group<'_>], out: &Output<'_>, threads: Threads) {
    product(GemmPath::current(), groups, Accumulation::Promoted, out, threads);
}

/// The linear map in BF16, `y = x w^T`: operands rounded to nearest even, products exact, sums and
/// result in FP32.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [outputs, inputs]` -> `y [rows, outputs]`
///
/// # Errors
/// [`KernelError::Length`] naming `x` or `w`.
pub fn bf16_linear(
    x: &[f32],
    w: &[f32],
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "bf16_linear";
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    check_length(OP, "w", w.len(), &[outputs, inputs])?;
    let len = element_count(OP, "y", &[rows, outputs])?;
    let (x, w) = (Floats::new(x, rows, inputs, inputs), Floats::new(w, outputs, inputs, inputs));
    Ok(new(len, outputs, x, w))
}

/// [`bf16_linear`] added to what is there, `y += x w^T`.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [outputs, inputs]`, `y [rows, outputs]`
///
/// # Errors
/// [`KernelError::Length`] naming `x`, `w` or `y`.
pub fn bf16_linear_accumulate(
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<(), KernelError> {
    const OP: &str = "bf16_linear_accumulate";
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    check_length(OP, "w", w.len(), &[outputs, inputs])?;
    check_length(OP, "y", y.len(), &[rows, outputs])?;
    let (x, w) = (Floats::new(x, rows, inputs, inputs), Floats::new(w, outputs, inputs, inputs));
    bf16_gemm_add(y, outputs, x, w, Threads::Pool);
    Ok(())
}

/// The gradient of [`bf16_linear`] for its input, `dx = dy w` (Dgrad).
///
/// # Shapes
/// - `dy [rows, outputs]`, `w [outputs, inputs]` -> `dx [rows, inputs]`
///
/// # Errors
/// [`KernelError::Length`] naming `dy` or `w`.
pub fn bf16_linear_input_gradient(
    dy: &[f32],
    w: &[f32],
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "bf16_linear_input_gradient";
    check_length(OP, "dy", dy.len(), &[rows, outputs])?;
    check_length(OP, "w", w.len(), &[outputs, inputs])?;
    let len = element_count(OP, "dx", &[rows, inputs])?;
    let (dy, w) =
        (Floats::new(dy, rows, outputs, outputs), Floats::new(w, outputs, inputs, inputs));
    Ok(new(len, inputs, dy, w.t()))
}

/// The gradient of [`bf16_linear`] for its weight, `dw = dy^T x` (Wgrad).
///
/// # Shapes
/// - `dy [rows, outputs]`, `x [rows, inputs]` -> `dw [outputs, inputs]`, zero of no rows
///
/// # Errors
/// [`KernelError::Length`] naming `dy` or `x`.
pub fn bf16_linear_weight_gradient(
    dy: &[f32],
    x: &[f32],
    rows: usize,
    inputs: usize,
    outputs: usize,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "bf16_linear_weight_gradient";
    check_length(OP, "dy", dy.len(), &[rows, outputs])?;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    let len = element_count(OP, "dw", &[outputs, inputs])?;
    let (dy, x) = (Floats::new(dy, rows, outputs, outputs), Floats::new(x, rows, inputs, inputs));
    Ok(new(len, inputs, dy.t(), x.t()))
}

/// Each expert's linear map of its rows in BF16, `y[r] = x[r] w[e]^T` for
/// `offsets[e] <= r < offsets[e + 1]`.
///
/// # Shapes
/// - `x [rows, inputs]` sorted by expert, `w [experts, outputs, inputs]`, `offsets [experts + 1]`
///   -> `[rows, outputs]`
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Invalid`] where `offsets` do not
/// rise from 0 to `rows`.
///
/// Source: technical report 2.1.2.
pub fn bf16_grouped_linear(
    x: &[f32],
    w: &[f32],
    offsets: &[usize],
    shape: &GroupedShape,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "bf16_grouped_linear";
    let GroupedShape { rows, experts, inputs, outputs } = *shape;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    check_length(OP, "w", w.len(), &[experts, outputs, inputs])?;
    check_offsets(OP, offsets, shape)?;
    let len = element_count(OP, "y", &[rows, outputs])?;
    Ok(grouped(len, outputs, offsets, |e, rows| {
        let count = rows.len();
        let left = Floats::new(&x[rows.start * inputs..rows.end * inputs], count, inputs, inputs);
        let right =
            Floats::new(&w[e * outputs * inputs..][..outputs * inputs], outputs, inputs, inputs);
        (left, right, rows.start * outputs)
    }))
}

/// The gradient of [`bf16_grouped_linear`] for its input, `dx[r] = dy[r] w[e]` (Dgrad).
///
/// # Shapes
/// - `dy [rows, outputs]`, `w [experts, outputs, inputs]`, `offsets [experts + 1]` ->
///   `[rows, inputs]`
///
/// # Errors
/// As [`bf16_grouped_linear`].
pub fn bf16_grouped_linear_input_gradient(
    dy: &[f32],
    w: &[f32],
    offsets: &[usize],
    shape: &GroupedShape,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "bf16_grouped_linear_input_gradient";
    let GroupedShape { rows, experts, inputs, outputs } = *shape;
    check_length(OP, "dy", dy.len(), &[rows, outputs])?;
    check_length(OP, "w", w.len(), &[experts, outputs, inputs])?;
    check_offsets(OP, offsets, shape)?;
    let len = element_count(OP, "dx", &[rows, inputs])?;
    Ok(grouped(len, inputs, offsets, |e, rows| {
        let count = rows.len();
        let left =
            Floats::new(&dy[rows.start * outputs..rows.end * outputs], count, outputs, outputs);
        let right =
            Floats::new(&w[e * outputs * inputs..][..outputs * inputs], outputs, inputs, inputs);
        (left, right.t(), rows.start * inputs)
    }))
}

/// The gradient of [`bf16_grouped_linear`] for its weights, `dw[e] = dy_e^T x_e`, zero for an
/// expert without rows (Wgrad).
///
/// # Shapes
/// - `dy [rows, outputs]`, `x [rows, inputs]`, `offsets [experts + 1]` ->
///   `[experts, outputs, inputs]`
///
/// # Errors
/// As [`bf16_grouped_linear`].
pub fn bf16_grouped_linear_weight_gradient(
    dy: &[f32],
    x: &[f32],
    offsets: &[usize],
    shape: &GroupedShape,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "bf16_grouped_linear_weight_gradient";
    let GroupedShape { rows, experts, inputs, outputs } = *shape;
    check_length(OP, "dy", dy.len(), &[rows, outputs])?;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    check_offsets(OP, offsets, shape)?;
    let len = element_count(OP, "dw", &[experts, outputs, inputs])?;
    Ok(grouped(len, inputs, offsets, |e, rows| {
        let count = rows.len();
        let left =
            Floats::new(&dy[rows.start * outputs..rows.end * outputs], count, outputs, outputs);
        let right = Floats::new(&x[rows.start * inputs..rows.end * inputs], count, inputs, inputs);
        (left.t(), right.t(), e * outputs * inputs)
    }))
}

/// A new result of `len` elements, rows of `row_stride`.
fn new(len: usize, row_stride: usize, a: Floats<'_>, b: Floats<'_>) -> Vec<f32> {
    // SAFETY: the product writes every element.
    unsafe {
        crate::host::output::build(len, |out| bf16_gemm(out, row_stride, a, b, Threads::Pool))
    }
}

/// A new result of `len` elements to which each expert contributes the product `of` gives, at the
/// place it gives; the experts' places must cover it.
fn grouped<'a>(
    len: usize,
    row_stride: usize,
    offsets: &[usize],
    of: impl Fn(usize, std::ops::Range<usize>) -> (Floats<'a>, Floats<'a>, usize),
) -> Vec<f32> {
    let group = |(e, bounds): (usize, &[usize])| {
        let (left, right, start) = of(e, bounds[0]..bounds[1]);
        Group { left: Source::Floats(left), right: Source::Floats(right), start }
    };
    let groups: Vec<_> = offsets.windows(2).enumerate().map(group).collect();
    // SAFETY: every expert has a group, which writes all of its part; offsets rise from 0 to the
    // rows.
    unsafe { build_f32(len, row_stride, |out| run(&groups, out, Threads::Pool)) }
}

/// Checks that offsets rise from 0 to the number of rows.
fn check_offsets(
    op: &'static str,
    offsets: &[usize],
    shape: &GroupedShape,
) -> Result<(), KernelError> {
    check_length(op, "offsets", offsets.len(), &[shape.experts.saturating_add(1)])?;
    if offsets[0] == 0 && offsets.is_sorted() && offsets[shape.experts] == shape.rows {
        return Ok(());
    }
    Err(KernelError::Invalid {
        op,
        argument: "offsets",
        requirement: "must rise from 0 to the number of rows",
    })
}
