//! Rows that lie apart, brought together: parts of a wider matrix.

use super::output::{build, for_rows};
use super::parallel::rows_a_task;
use crate::definition::{KernelError, element_count};

/// Elements that one task copies: 64 KiB.
const A_TASK: usize = 1 << 14;

/// Copies `rows` rows of `width` numbers, one every `stride` in `x`.
///
/// # Shapes
/// - `x`: at least `(rows - 1) * stride + width` numbers -> `[rows, width]`
///
/// # Errors
/// [`KernelError::Invalid`] naming `x` where it has fewer; [`KernelError::Overflow`] where the
/// result cannot be addressed.
pub fn join_rows(
    x: &[f32],
    rows: usize,
    width: usize,
    stride: usize,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "join_rows";
    let count = element_count(OP, "y", &[rows, width])?;
    let reach = rows.saturating_sub(1).saturating_mul(stride).saturating_add(width);
    if count > 0 && x.len() < reach {
        return Err(KernelError::Invalid {
            op: OP,
            argument: "x",
            requirement: "must have every row that is asked for",
        });
    }
    // SAFETY: the tasks cover all rows, and each writes all of its rows.
    Ok(unsafe {
        build(count, |y| {
            for_rows(y, width, rows_a_task(A_TASK, width), count, |rows, y| {
                for (y, row) in y.chunks_exact_mut(width).zip(rows) {
                    y.write_copy_of_slice(&x[row * stride..][..width]);
                }
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_wider_matrix() {
        let x: Vec<f32> = (0..1000 * 130).map(|i| i as f32).collect();
        for (rows, width, stride) in
            [(0, 5, 9), (5, 0, 9), (1, 130, 7), (3, 2, 1), (1000, 64, 130), (999, 130, 130)]
        {
            let right: Vec<f32> = (0..rows)
                .flat_map(|row| (0..width).map(move |column| (row * stride + column) as f32))
                .collect();
            assert_eq!(join_rows(&x, rows, width, stride).unwrap(), right);
        }
        assert!(join_rows(&x, 1001, 130, 130).is_err());
        assert!(join_rows(&[], usize::MAX, 2, 1).is_err());
    }
}
