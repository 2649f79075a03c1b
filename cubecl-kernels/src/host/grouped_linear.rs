//! The experts' linear maps: rows sorted by expert, a weight for each, and both gradients.

use std::ops::Range;

use super::output::build;
use super::product::{View, grouped_product};
use crate::definition::{
    GroupedLinearShape, KernelError, ProductFormat, check_length, check_offsets, element_count,
};

/// Computes each expert's linear map of its rows, `y[r] = x[r] w[e]^T` for
/// `offsets[e] <= r < offsets[e + 1]`, of operands in `format`.
///
/// In BF16 operands are rounded to nearest even; products are exact, sums and result FP32.
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
///
/// # Example
/// ```
/// use cubecl_kernels::definition::{GroupedLinearShape, ProductFormat};
/// use cubecl_kernels::host;
///
/// // Two experts that each multiply by one number; the first has two rows, the second one.
/// let shape = GroupedLinearShape { rows: 3, experts: 2, inputs: 1, outputs: 1 };
/// let (x, w, offsets) = ([1.0, 2.0, 3.0], [10.0, 100.0], [0, 2, 3]);
/// let y = host::grouped_linear(&x, &w, &offsets, &shape, ProductFormat::F32)?;
/// assert_eq!(y, [10.0, 20.0, 300.0]);
/// # Ok::<(), cubecl_kernels::KernelError>(())
/// ```
pub fn grouped_linear(
    x: &[f32],
    w: &[f32],
    offsets: &[usize],
    shape: &GroupedLinearShape,
    format: ProductFormat,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "grouped_linear";
    let GroupedLinearShape { rows, inputs, outputs, .. } = *shape;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    check_length(OP, "w", w.len(), &[shape.experts, outputs, inputs])?;
    check_groups(OP, offsets, shape)?;
    let len = element_count(OP, "y", &[rows, outputs])?;
    let pairs =
        by_expert(offsets, |e, rows| (rows_of(x, rows, inputs), weight_of(w, e, shape).t()));
    // SAFETY: the experts' rows are all rows, and each product writes all of its own.
    Ok(unsafe { build(len, |y| grouped_product(y, outputs, &pairs, format)) })
}

/// Computes the gradient of [`grouped_linear`] for its input, `dx[r] = dy[r] w[e]` (Dgrad), of
/// operands in `format`.
///
/// # Shapes
/// - `dy [rows, outputs]`, `w [experts, outputs, inputs]`, `offsets [experts + 1]` ->
///   `[rows, inputs]`
///
/// # Errors
/// The errors of [`grouped_linear`].
pub fn grouped_linear_input_gradient(
    dy: &[f32],
    w: &[f32],
    offsets: &[usize],
    shape: &GroupedLinearShape,
    format: ProductFormat,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "grouped_linear_input_gradient";
    let GroupedLinearShape { rows, inputs, outputs, .. } = *shape;
    check_length(OP, "dy", dy.len(), &[rows, outputs])?;
    check_length(OP, "w", w.len(), &[shape.experts, outputs, inputs])?;
    check_groups(OP, offsets, shape)?;
    let len = element_count(OP, "dx", &[rows, inputs])?;
    let pairs = by_expert(offsets, |e, rows| (rows_of(dy, rows, outputs), weight_of(w, e, shape)));
    // SAFETY: the experts' rows are all rows, and each product writes all of its own.
    Ok(unsafe { build(len, |dx| grouped_product(dx, inputs, &pairs, format)) })
}

/// Computes the gradient of [`grouped_linear`] for its weights, `dw[e] = dy_e^T x_e`, zero for an
/// expert without rows (Wgrad), of operands in `format`.
///
/// # Shapes
/// - `dy [rows, outputs]`, `x [rows, inputs]`, `offsets [experts + 1]` ->
///   `[experts, outputs, inputs]`
///
/// # Errors
/// The errors of [`grouped_linear`].
pub fn grouped_linear_weight_gradient(
    dy: &[f32],
    x: &[f32],
    offsets: &[usize],
    shape: &GroupedLinearShape,
    format: ProductFormat,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "grouped_linear_weight_gradient";
    let GroupedLinearShape { rows, experts, inputs, outputs } = *shape;
    check_length(OP, "dy", dy.len(), &[rows, outputs])?;
    check_length(OP, "x", x.len(), &[rows, inputs])?;
    check_groups(OP, offsets, shape)?;
    let len = element_count(OP, "dw", &[experts, outputs, inputs])?;
    let pairs = by_expert(offsets, |_, rows| {
        (rows_of(dy, rows.clone(), outputs).t(), rows_of(x, rows, inputs))
    });
    // SAFETY: there is a product for every expert, and each writes all of its gradient, zero where
    // there are no rows.
    Ok(unsafe { build(len, |dw| grouped_product(dw, inputs, &pairs, format)) })
}

/// What `operands` gives for each expert and its rows.
fn by_expert<T>(offsets: &[usize], operands: impl Fn(usize, Range<usize>) -> T) -> Vec<T> {
    let expert = |(e, bounds): (usize, &[usize])| operands(e, bounds[0]..bounds[1]);
    offsets.windows(2).enumerate().map(expert).collect()
}

fn rows_of(x: &[f32], rows: Range<usize>, width: usize) -> View<'_> {
    View::new(&x[rows.start * width..rows.end * width], rows.len(), width)
}

fn weight_of<'a>(w: &'a [f32], e: usize, shape: &GroupedLinearShape) -> View<'a> {
    let size = shape.outputs * shape.inputs;
    View::new(&w[e * size..][..size], shape.outputs, shape.inputs)
}

/// Checks that there is a bound for every expert, and that bounds rise from 0 to the number of
/// rows.
pub(super) fn check_groups(
    op: &'static str,
    offsets: &[usize],
    shape: &GroupedLinearShape,
) -> Result<(), KernelError> {
    check_length(op, "offsets", offsets.len(), &[shape.experts.saturating_add(1)])?;
    check_offsets(op, offsets, shape.rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::test_inputs::{
        FORMATS, assert_close, assert_gradient, assert_thread_independent, inner, offsets_of,
        random, rounded, widen,
    };

    struct Case {
        x: Vec<f32>,
        w: Vec<f32>,
        dy: Vec<f32>,
        offsets: Vec<usize>,
        shape: GroupedLinearShape,
    }

    fn case(counts: &[usize], inputs: usize, outputs: usize) -> Case {
        let offsets = offsets_of(counts);
        let rows = offsets[counts.len()];
        Case {
            x: random(1, rows * inputs),
            w: random(2, counts.len() * inputs * outputs),
            dy: random(3, rows * outputs),
            offsets,
            shape: GroupedLinearShape { rows, experts: counts.len(), inputs, outputs },
        }
    }

    fn check(counts: &[usize], inputs: usize, outputs: usize) {
        let Case { x, w, dy, offsets, shape } = case(counts, inputs, outputs);
        for format in FORMATS {
            let [x64, w64, dy64] = [&x, &w, &dy].map(|operand| rounded(operand, format));
            let close = |what: &str, actual: &[f32], expected: &[f64]| {
                assert_close(&format!("{what} {counts:?} {format:?}"), actual, expected, 1e-5);
            };
            let expected = reference::grouped_linear(&x64, &w64, &dy64, &offsets, &shape);
            let y = grouped_linear(&x, &w, &offsets, &shape, format).unwrap();
            close("y", &y, &expected.0);
            let dx = grouped_linear_input_gradient(&dy, &w, &offsets, &shape, format).unwrap();
            close("dx", &dx, &expected.1);
            let dw = grouped_linear_weight_gradient(&dy, &x, &offsets, &shape, format).unwrap();
            close("dw", &dw, &expected.2);
        }
    }

    #[test]
    fn hard_edges() {
        let tiny: Vec<usize> = (0..60).map(|e| e % 6).collect();
        for counts in [
            &[][..],
            &[0],
            &[0, 0, 0],
            &[1],
            &[0, 5, 0],
            &[3, 0, 40],
            &[700, 0, 3],
            &[256, 257, 1],
            &[5; 30],
            &tiny,
        ] {
            for (inputs, outputs) in [(1, 1), (0, 3), (3, 0), (7, 129), (64, 130), (70, 45)] {
                check(counts, inputs, outputs);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn random_shapes(
            counts in proptest::collection::vec(0usize..12, 0..8),
            inputs in 0usize..40,
            outputs in 0usize..80,
        ) {
            check(&counts, inputs, outputs);
        }
    }

    #[test]
    fn the_reference_gradients_are_slopes() {
        let c = case(&[2, 0, 3], 4, 3);
        let (x, w, dy) = (widen(&c.x), widen(&c.w), widen(&c.dy));
        let y = |x: &[f64], w: &[f64]| reference::grouped_linear(x, w, &dy, &c.offsets, &c.shape).0;
        let (_, dx, dw) = reference::grouped_linear(&x, &w, &dy, &c.offsets, &c.shape);
        assert_gradient("dx", &x, &dx, |x| inner(&y(x, &w), &dy));
        assert_gradient("dw", &w, &dw, |w| inner(&y(&x, w), &dy));
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let Case { x, w, dy, offsets, shape } = case(&[300, 0, 2, 500], 96, 200);
        for format in FORMATS {
            assert_thread_independent("grouped_linear", || {
                vec![
                    grouped_linear(&x, &w, &offsets, &shape, format).unwrap(),
                    grouped_linear_input_gradient(&dy, &w, &offsets, &shape, format).unwrap(),
                    grouped_linear_weight_gradient(&dy, &x, &offsets, &shape, format).unwrap(),
                ]
            });
        }
    }

    #[test]
    fn offsets_that_do_not_rise_to_the_rows_are_refused() {
        let c = case(&[2, 3], 2, 2);
        for format in FORMATS {
            for bad in [[0, 6, 5], [1, 2, 5], [0, 2, 4]] {
                let error = grouped_linear(&c.x, &c.w, &bad, &c.shape, format).unwrap_err();
                assert!(matches!(error, KernelError::Invalid { argument: "offsets", .. }));
            }
            assert!(grouped_linear(&c.x, &c.w, &[0, 5], &c.shape, format).is_err());
        }
    }
}
