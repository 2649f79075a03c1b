//! What a kernel refuses, and why.

/// Why an operation refused its arguments.
///
/// Every variant names the operation and the argument, and says what would be right.
///
/// ```
/// use cubecl_kernels::definition::DispatchPlan;
///
/// let error = DispatchPlan::new(&[0, 4], 1, 4).unwrap_err();
/// assert_eq!(error.to_string(), "dispatch_plan: `choices[1]` is 4, it must lie in 0..4");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice does not have as many elements as its shape.
    #[error("{op}: `{argument}` has {actual} elements, its shape {shape:?} needs {expected}")]
    Length {
        /// The operation.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// The shape it should have.
        shape: Vec<usize>,
        /// The elements of that shape.
        expected: usize,
        /// The elements it has.
        actual: usize,
    },
    /// A shape has more elements than can be addressed.
    #[error("{op}: shape {shape:?} of `{argument}` has more elements than can be addressed")]
    Overflow {
        /// The operation.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// An index lies outside what it indexes.
    #[error("{op}: `{argument}[{position}]` is {value}, it must lie in 0..{bound}")]
    Index {
        /// The operation.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// Where in the argument.
        position: usize,
        /// The value found there.
        value: i64,
        /// The first value that is too large.
        bound: usize,
    },
    /// An argument breaks a condition that is not about its length.
    #[error("{op}: `{argument}` {requirement}")]
    Invalid {
        /// The operation.
        op: &'static str,
        /// The argument at fault.
        argument: &'static str,
        /// What it must satisfy.
        requirement: &'static str,
    },
}

/// The number of elements of `shape`.
///
/// # Errors
/// [`KernelError::Overflow`] where the product does not fit half the address space.
pub(crate) fn element_count(
    op: &'static str,
    argument: &'static str,
    shape: &[usize],
) -> Result<usize, KernelError> {
    let nonzero = shape
        .iter()
        .filter(|&&dim| dim != 0)
        .try_fold(1usize, |product, &dim| product.checked_mul(dim));
    match nonzero {
        Some(count) if count <= isize::MAX as usize / 8 => {
            Ok(if shape.contains(&0) { 0 } else { count })
        }
        _ => Err(KernelError::Overflow { op, argument, shape: shape.to_vec() }),
    }
}

/// Checks that a slice of `actual` elements fills `shape`.
///
/// # Errors
/// [`KernelError::Length`] where it does not, [`KernelError::Overflow`] where the shape is absurd.
pub(crate) fn check_length(
    op: &'static str,
    argument: &'static str,
    actual: usize,
    shape: &[usize],
) -> Result<(), KernelError> {
    let expected = element_count(op, argument, shape)?;
    if actual == expected {
        return Ok(());
    }
    Err(KernelError::Length { op, argument, shape: shape.to_vec(), expected, actual })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_argument_and_the_right_length() {
        let error = check_length("swiglu", "gate_up", 5, &[2, 3]).unwrap_err();
        assert_eq!(error.to_string(), "swiglu: `gate_up` has 5 elements, its shape [2, 3] needs 6");
    }

    #[test]
    fn a_product_that_overflows_is_an_error_even_beside_a_zero() {
        for shape in [[usize::MAX, 2, 1], [usize::MAX, 2, 0]] {
            assert!(matches!(
                check_length("op", "x", 0, &shape),
                Err(KernelError::Overflow { .. })
            ));
        }
    }
}
