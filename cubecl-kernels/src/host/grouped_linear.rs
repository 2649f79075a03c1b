//! The experts' linear maps: rows sorted by expert, a weight for each, and both gradients.

use std::mem::MaybeUninit;

use super::gemm_view::{Mat, MatMut, Threads, gemm};
use super::output::{Parts, build, zeroed};
use super::parallel::{chunk, for_each};
use super::small_gemm::{MAX_ROWS, rows_nt};
use crate::definition::{KernelError, check_length, element_count};

/// Rows of one expert that one task computes: enough to pay for packing the weight.
const ROWS_A_TASK: usize = 256;
/// Rows of one expert's weight gradient that one task computes.
const OUTPUTS_A_TASK: usize = 128;

/// The sizes of a grouped product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupedShape {
    /// Rows of all experts together, `m`.
    pub rows: usize,
    /// Experts, `e`.
    pub experts: usize,
    /// Width of an input row, `k`.
    pub inputs: usize,
    /// Width of an output row, `n`.
    pub outputs: usize,
}

/// Each expert's linear map of its rows, `y[r] = x[r] w[e]^T` for
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
/// Source: technical report 2.1.2, 3.2.2.
pub fn grouped_linear(
    x: &[f32],
    w: &[f32],
    offsets: &[usize],
    shape: &GroupedShape,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "grouped_linear";
    let GroupedShape { rows, experts, inputs, outputs } = *shape;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    check_length(OP, "w", w.len(), &[experts, outputs, inputs])?;
    check_offsets(OP, offsets, shape)?;
    element_count(OP, "y", &[rows, outputs])?;
    let weight = |e: usize| &w[e * outputs * inputs..][..outputs * inputs];
    Ok(by_rows(offsets, shape, outputs, |e, rows, y| {
        let (count, x) = (rows.len(), &x[rows.start * inputs..rows.end * inputs]);
        if count <= MAX_ROWS {
            rows_nt(x, weight(e), count, inputs, outputs, zeroed(y));
        } else {
            let (x, w) =
                (Mat::contiguous(x, count, inputs), Mat::contiguous(weight(e), outputs, inputs));
            gemm(MatMut::contiguous(y, count, outputs), 1.0, x, w.t(), Threads::One);
        }
    }))
}

/// The gradient of [`grouped_linear`] for its input, `dx[r] = dy[r] w[e]` (Dgrad).
///
/// # Shapes
/// - `dy [rows, outputs]`, `w [experts, outputs, inputs]`, `offsets [experts + 1]` ->
///   `[rows, inputs]`
///
/// # Errors
/// As [`grouped_linear`].
pub fn grouped_linear_input_gradient(
    dy: &[f32],
    w: &[f32],
    offsets: &[usize],
    shape: &GroupedShape,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "grouped_linear_input_gradient";
    let GroupedShape { rows, experts, inputs, outputs } = *shape;
    check_length(OP, "dy", dy.len(), &[rows, outputs])?;
    check_length(OP, "w", w.len(), &[experts, outputs, inputs])?;
    check_offsets(OP, offsets, shape)?;
    element_count(OP, "dx", &[rows, inputs])?;
    let weight = |e: usize| &w[e * outputs * inputs..][..outputs * inputs];
    Ok(by_rows(offsets, shape, inputs, |e, rows, dx| {
        let (count, dy) = (rows.len(), &dy[rows.start * outputs..rows.end * outputs]);
        let (dy, w) =
            (Mat::contiguous(dy, count, outputs), Mat::contiguous(weight(e), outputs, inputs));
        gemm(MatMut::contiguous(dx, count, inputs), 1.0, dy, w, Threads::One);
    }))
}

/// The gradient of [`grouped_linear`] for its weights, `dw[e] = dy_e^T x_e`, zero for an expert
/// without rows (Wgrad).
///
/// # Shapes
/// - `dy [rows, outputs]`, `x [rows, inputs]`, `offsets [experts + 1]` ->
///   `[experts, outputs, inputs]`
///
/// # Errors
/// As [`grouped_linear`].
pub fn grouped_linear_weight_gradient(
    dy: &[f32],
    x: &[f32],
    offsets: &[usize],
    shape: &GroupedShape,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "grouped_linear_weight_gradient";
    let GroupedShape { rows, experts, inputs, outputs } = *shape;
    check_length(OP, "dy", dy.len(), &[rows, outputs])?;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    check_offsets(OP, offsets, shape)?;
    let size = element_count(OP, "dw", &[experts, outputs, inputs])?;
    let parts = outputs.div_ceil(OUTPUTS_A_TASK);
    // SAFETY: the tasks cover every expert and output row; gemm writes all of its result, zero
    // where there are no rows.
    Ok(unsafe {
        build(size, |dw| {
            let dw = Parts::new(dw);
            for_each(experts * parts, work(shape).max(size), |task| {
                let (e, part) = (task / parts, chunk(task % parts, OUTPUTS_A_TASK, outputs));
                let (first, count) = (offsets[e], offsets[e + 1] - offsets[e]);
                let dw = dw.part((e * outputs + part.start) * inputs, part.len() * inputs);
                let dy = &dy[first * outputs..][..count * outputs];
                let dy = Mat::new(dy.get(part.start..).unwrap_or(&[]), count, part.len(), outputs);
                let x = Mat::contiguous(&x[first * inputs..][..count * inputs], count, inputs);
                gemm(MatMut::contiguous(dw, part.len(), inputs), 1.0, dy.t(), x, Threads::One);
            });
        })
    })
}

/// Cuts each expert's rows into tasks; `task(expert, rows, out)` fills `out`, `[rows, width]`.
fn by_rows(
    offsets: &[usize],
    shape: &GroupedShape,
    width: usize,
    task: impl Fn(usize, std::ops::Range<usize>, &mut [MaybeUninit<f32>]) + Send + Sync,
) -> Vec<f32> {
    let mut tasks = Vec::new();
    for (e, bounds) in offsets.windows(2).enumerate() {
        let count = bounds[1] - bounds[0];
        for part in 0..count.div_ceil(ROWS_A_TASK) {
            let part = chunk(part, ROWS_A_TASK, count);
            tasks.push((e, bounds[0] + part.start..bounds[0] + part.end));
        }
    }
    // SAFETY: the tasks cover all rows, since offsets rise from 0 to the last, and each writes all
    // of its rows.
    unsafe {
        build(shape.rows * width, |out| {
            let out = Parts::new(out);
            for_each(tasks.len(), work(shape), |index| {
                let (e, rows) = tasks[index].clone();
                let part = out.part(rows.start * width, rows.len() * width);
                task(e, rows, part);
            });
        })
    }
}

/// Scalar operations of the product.
fn work(shape: &GroupedShape) -> usize {
    shape.rows.saturating_mul(shape.inputs).saturating_mul(shape.outputs)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::test_inputs::{
        assert_close, assert_gradient, assert_thread_independent, inner, random, widen,
    };

    struct Case {
        x: Vec<f32>,
        w: Vec<f32>,
        dy: Vec<f32>,
        offsets: Vec<usize>,
        shape: GroupedShape,
    }

    fn case(counts: &[usize], inputs: usize, outputs: usize) -> Case {
        let mut offsets = vec![0];
        counts.iter().for_each(|count| offsets.push(offsets[offsets.len() - 1] + count));
        let rows = offsets[counts.len()];
        Case {
            x: random(1, rows * inputs),
            w: random(2, counts.len() * inputs * outputs),
            dy: random(3, rows * outputs),
            offsets,
            shape: GroupedShape { rows, experts: counts.len(), inputs, outputs },
        }
    }

    fn check(counts: &[usize], inputs: usize, outputs: usize) {
        let Case { x, w, dy, offsets, shape } = case(counts, inputs, outputs);
        let (x64, w64, dy64) = (widen(&x), widen(&w), widen(&dy));
        let (y, dx, dw) = reference::grouped_linear(&x64, &w64, &dy64, &offsets, inputs, outputs);
        assert_close("y", &grouped_linear(&x, &w, &offsets, &shape).unwrap(), &y, 1e-5);
        assert_close(
            "dx",
            &grouped_linear_input_gradient(&dy, &w, &offsets, &shape).unwrap(),
            &dx,
            1e-5,
        );
        assert_close(
            "dw",
            &grouped_linear_weight_gradient(&dy, &x, &offsets, &shape).unwrap(),
            &dw,
            1e-5,
        );
    }

    #[test]
    fn hard_edges() {
        let tiny: Vec<usize> = (0..60).map(|e| e % 6).collect();
        for counts in
            [&[][..], &[0], &[0, 0, 0], &[1], &[0, 5, 0], &[700, 0, 3], &[256, 257, 1], &tiny]
        {
            for (inputs, outputs) in [(1, 1), (0, 3), (3, 0), (7, 129), (64, 130)] {
                check(counts, inputs, outputs);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn random_shapes(counts in proptest::collection::vec(0usize..12, 0..8), inputs in 0usize..40, outputs in 0usize..80) {
            check(&counts, inputs, outputs);
        }
    }

    #[test]
    fn the_reference_gradients_are_slopes() {
        let c = case(&[2, 0, 3], 4, 3);
        let (x, w, dy) = (widen(&c.x), widen(&c.w), widen(&c.dy));
        let y = |x: &[f64], w: &[f64]| reference::grouped_linear(x, w, &dy, &c.offsets, 4, 3).0;
        let (_, dx, dw) = reference::grouped_linear(&x, &w, &dy, &c.offsets, 4, 3);
        assert_gradient("dx", &x, &dx, |x| inner(&y(x, &w), &dy));
        assert_gradient("dw", &w, &dw, |w| inner(&y(&x, w), &dy));
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let Case { x, w, dy, offsets, shape } = case(&[300, 0, 2, 500], 96, 200);
        assert_thread_independent("grouped_linear", || {
            vec![
                grouped_linear(&x, &w, &offsets, &shape).unwrap(),
                grouped_linear_input_gradient(&dy, &w, &offsets, &shape).unwrap(),
                grouped_linear_weight_gradient(&dy, &x, &offsets, &shape).unwrap(),
            ]
        });
    }

    #[test]
    fn offsets_that_do_not_rise_to_the_rows_are_refused() {
        let c = case(&[2, 3], 2, 2);
        for bad in [[0, 6, 5], [1, 2, 5], [0, 2, 4]] {
            let error = grouped_linear(&c.x, &c.w, &bad, &c.shape).unwrap_err();
            assert!(matches!(error, KernelError::Invalid { argument: "offsets", .. }));
        }
        assert!(grouped_linear(&c.x, &c.w, &[0, 5], &c.shape).is_err());
    }
}
