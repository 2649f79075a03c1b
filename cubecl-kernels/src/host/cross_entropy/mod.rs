//! Cross entropy, from logits and fused with the output head.

mod head;
mod linear;
mod rows;
#[cfg(test)]
mod tests;

pub(super) use linear::cross_entropy_of;
pub use linear::{
    LinearCrossEntropyGradients, linear_cross_entropy, linear_cross_entropy_with_gradients,
};

use super::output::{Parts, build};
use super::parallel::for_each;
use crate::definition::{KernelError, check_length};

/// The loss of some rows.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEntropy {
    /// The weighted sum, `sum_i weight_i CE_i`, in row order.
    pub loss: f64,
    /// The loss `CE_i` of each row, without its weight; 0 where the target is negative.
    pub row_losses: Vec<f32>,
}

/// Computes the cross entropy of given logits, `CE_i = log sum_j e^(x_ij) - x_i,target`, by the
/// stable form.
///
/// # Shapes
/// - `logits [rows, vocab]`, `targets [rows]` (negative: ignored), `weights [rows]` (one each where
///   absent)
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Index`] naming the row whose target
/// is outside the vocabulary.
///
/// # Example
/// ```
/// // Four tokens that are equally likely.
/// let loss = cubecl_kernels::host::cross_entropy(&[0.0; 4], &[2], None, 1, 4)?.loss;
/// assert!((loss - 4.0f64.ln()).abs() < 1e-6);
/// # Ok::<(), cubecl_kernels::KernelError>(())
/// ```
pub fn cross_entropy(
    logits: &[f32],
    targets: &[i64],
    weights: Option<&[f32]>,
    rows: usize,
    vocab: usize,
) -> Result<CrossEntropy, KernelError> {
    check_length("cross_entropy", "logits", logits.len(), &[rows, vocab])?;
    check_targets("cross_entropy", targets, weights, rows, vocab)?;
    // SAFETY: every row is a task, which writes its loss.
    let row_losses = unsafe {
        build(rows, |losses| {
            let losses = Parts::new(losses);
            for_each(rows, rows * vocab * rows::WORK, |r| {
                let loss = usize::try_from(targets[r])
                    .map_or(0.0, |t| rows::loss(&logits[r * vocab..][..vocab], t));
                losses.part(r, 1)[0].write(loss);
            });
        })
    };
    Ok(weighted(row_losses, weights))
}

/// Computes [`cross_entropy`] and its gradient, `weight_i (softmax(x_i) - onehot(target_i))`,
/// `[rows, vocab]`, given that the loss's own is one.
///
/// # Shapes
/// - as [`cross_entropy`]
///
/// # Errors
/// The errors of [`cross_entropy`].
pub fn cross_entropy_with_gradient(
    logits: &[f32],
    targets: &[i64],
    weights: Option<&[f32]>,
    rows: usize,
    vocab: usize,
) -> Result<(CrossEntropy, Vec<f32>), KernelError> {
    const OP: &str = "cross_entropy_with_gradient";
    check_length(OP, "logits", logits.len(), &[rows, vocab])?;
    check_targets(OP, targets, weights, rows, vocab)?;
    let mut row_losses = vec![0.0; rows];
    // SAFETY: every row is a task, which writes all of its gradient.
    let gradient = unsafe {
        build(logits.len(), |gradient| {
            let (gradient, losses) =
                (Parts::new(gradient), Parts::new(super::output::as_uninit(&mut row_losses)));
            for_each(rows, rows * vocab * rows::WORK, |r| {
                let row = &logits[r * vocab..][..vocab];
                let gradient = gradient.part(r * vocab, vocab);
                match usize::try_from(targets[r]) {
                    Ok(target) => {
                        let gradient = gradient.write_copy_of_slice(row);
                        let loss = rows::loss_into_gradient::<0>(
                            gradient,
                            target,
                            weights.map_or(1.0, |w| w[r]),
                        );
                        losses.part(r, 1)[0].write(loss);
                    }
                    Err(_) => super::output::fill(gradient, 0.0),
                }
            });
        })
    };
    Ok((weighted(row_losses, weights), gradient))
}

/// Sums the rows' losses in order.
fn weighted(row_losses: Vec<f32>, weights: Option<&[f32]>) -> CrossEntropy {
    let loss = match weights {
        Some(weights) => {
            row_losses.iter().zip(weights).map(|(&l, &w)| f64::from(l) * f64::from(w)).sum()
        }
        None => row_losses.iter().map(|&l| f64::from(l)).sum(),
    };
    CrossEntropy { loss, row_losses }
}

/// Checks targets and weights.
fn check_targets(
    op: &'static str,
    targets: &[i64],
    weights: Option<&[f32]>,
    rows: usize,
    vocab: usize,
) -> Result<(), KernelError> {
    check_length(op, "targets", targets.len(), &[rows])?;
    check_length(op, "weights", weights.map_or(rows, <[f32]>::len), &[rows])?;
    match targets.iter().position(|&t| usize::try_from(t).is_ok_and(|t| t >= vocab)) {
        None => Ok(()),
        Some(position) => Err(KernelError::Index {
            op,
            argument: "targets",
            position,
            value: targets[position],
            bound: vocab,
        }),
    }
}
